#!/usr/bin/env bash
# GPU tests and benchmarks of this repository, results under OUT: at most 8 files, each part well inside ten minutes.
# Needs an interpreter with torch, triton and pytest; the packages are found through PYTHONPATH.
#
#   PART=tests      the tests that need a GPU
#   PART=kernels    every kernel's time against ceilings and baselines      OPS=norm,attention  only these ops
#   PART=models     whole models against Hugging Face's    MODELS=bert-base,… VARIANTS=fp16,int8,fp8  only these
#   PART=tune       launch parameters for this GPU, as JSON                 OPS=…
#   PART=all        tests, then kernels, in nine minutes together (the default)
set -euo pipefail
cd "$(dirname "$0")/.."
: "${OUT:=build/gpu}" "${PYTHON:=python3}" "${PART:=all}" "${OPS:=}" "${MODELS:=}" "${VARIANTS:=}"
mkdir -p "$OUT"
export PYTHONPATH="estimate:export:kernels:server:bench:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 TRITON_INTERPRET=0
PYTEST=("$PYTHON" -m pytest -c bench/gpu.ini --rootdir . -q -m gpu)

# Tests outside the kernels may import packages that a GPU machine need not have: those files are named and left out.
collected() {
    local file
    echo tests/kernels
    while read -r file; do
        if "${PYTEST[@]}" --collect-only "$file" >"$OUT/collection.txt" 2>&1; then
            echo "$file"
        else
            echo "left out, its imports are not here: $file" >&2
        fi
    done < <(grep -rlE 'mark\.gpu' --include='test_*.py' tests | grep -v '^tests/kernels/' || true)
    rm -f "$OUT/collection.txt"
}

run_tests() {
    local files plugins=()
    mapfile -t files < <(collected)
    # Compiling takes most of the time, on every core where pytest can; a kernel that hangs ends its process alone.
    if "$PYTHON" -c 'import xdist' 2>/dev/null; then
        plugins+=(-n "${WORKERS:-12}" --dist worksteal)
    fi
    if "$PYTHON" -c 'import pytest_timeout' 2>/dev/null; then
        plugins+=(--timeout 90 --timeout-method thread)
    fi
    timeout --signal=INT --kill-after=20 "$1" \
        "${PYTEST[@]}" "${plugins[@]}" "${files[@]}" --tb=short --junitxml="$OUT/tests.xml" 2>&1 | tee "$OUT/tests.txt"
}

run_kernels() {
    "$PYTHON" -m ridgeline_kernels.benchmarks --ops "$OPS" --out "$OUT" --budget-s "$1" 2>&1 | tee "$OUT/kernels.txt"
}

run_models() {
    "$PYTHON" -m ridgeline_kernels.benchmarks.models --models "$MODELS" --variants "$VARIANTS" --out "$OUT" \
        --budget-s "$1" 2>&1 | tee "$OUT/models.txt"
}

run_tune() {
    "$PYTHON" -m ridgeline_kernels.tune --ops "$OPS" --out "$OUT/tuned.json" --budget-s "$1" 2>&1 | tee "$OUT/tune.txt"
}

case "$PART" in
    tests | kernels | models | tune | all) ;;
    *)
        echo "PART is '$PART'; allowed: tests, kernels, models, tune, all" >&2
        exit 2
        ;;
esac

"$PYTHON" - <<'CHECK'
import sys
try:
    import torch
except ImportError:
    sys.exit(f"make gpu needs PyTorch, which {sys.executable} lacks; name an interpreter that has it: make gpu PYTHON=.venv/bin/python")
if not torch.cuda.is_available():
    sys.exit("make gpu needs an NVIDIA GPU that PyTorch can use; there is none here")
CHECK

failed=0
case "$PART" in
    tests) run_tests 540 || failed=1 ;;
    kernels) run_kernels 510 || failed=1 ;;
    models) run_models 510 || failed=1 ;;
    tune) run_tune 510 || failed=1 ;;
    all)
        begin=$SECONDS
        run_tests 240 || failed=1
        run_kernels "$((510 - SECONDS + begin))" || failed=1
        ;;
esac
exit "$failed"

#!/usr/bin/env bash
# All GPU tests and GPU benchmarks, results under OUT. Needs an interpreter with torch and pytest, and this repository.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${OUT:=build/gpu}" "${PYTHON:=python3}"
mkdir -p "$OUT"
export PYTHONPATH="estimate:export:kernels:server:bench${PYTHONPATH:+:$PYTHONPATH}"

# Only files that hold GPU tests are collected: the others import packages that a GPU machine need not have.
mapfile -t files < <(grep -rlE 'mark\.gpu' --include='test_*.py' tests || true)
if [ "${#files[@]}" -eq 0 ]; then
    echo "There are no GPU tests and no GPU benchmarks yet." | tee "$OUT/summary.txt"
    exit 0
fi
"$PYTHON" -m pytest -m gpu "${files[@]}" --junitxml="$OUT/tests.xml" | tee "$OUT/summary.txt"

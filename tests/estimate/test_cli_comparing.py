"""`--compare` and `--sweep`: several estimates, their tables, JSON and picture."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.estimate.estimating import BERT, LLAMA, T5, figures, run, write_model


@pytest.fixture
def llama(tmp_path: Path) -> str:
    return write_model(tmp_path / "llama", LLAMA)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def points(model: str, out: Path, *sweeps: str, options: tuple[str, ...] = ()) -> list[list[dict[str, Any]]]:
    """The points of each sweep."""
    given = [word for sweep in sweeps for word in ("--sweep", sweep)]
    found = figures(model, *given, *options, "--out", str(out))
    assert found == json.loads((out / "sweep.json").read_text())
    return [sweep["points"] for sweep in found["sweeps"]]


def test_dtypes_side_by_side(llama: str) -> None:
    found = figures(llama, "--compare", "dtype=fp32,bf16,int8", "--device", "h100")["compared"]
    assert [each["label"] for each in found] == ["fp32", "bf16", "int8"]
    assert [each["precision"] for each in found] == ["fp32", "bf16", "int8"]
    weights = [each["memory_bytes"]["weights"] for each in found]
    assert weights == sorted(weights, reverse=True)
    page = run(llama, "--compare", "dtype=fp32,bf16,int8", "--device", "h100").stdout
    assert "latency" in page
    assert "1.00" in page
    assert max(len(line) for line in page.splitlines()) <= 80


def test_devices_and_dtypes_are_combined(llama: str) -> None:
    found = figures(llama, "--compare", "device=a100,h100", "--compare", "dtype=bf16,fp8")["compared"]
    assert [each["label"] for each in found] == ["a100, bf16", "a100, fp8", "h100, bf16", "h100, fp8"]
    assert [each["latency_s"] is None for each in found] == [False, True, False, False]
    page = run(llama, "--compare", "device=a100,h100", "--compare", "dtype=bf16,fp8").stdout
    assert "a100, fp8: the fp8 peak of A100" in " ".join(page.split())


def test_what_is_the_same_for_all_gives_way_on_a_narrow_page(llama: str) -> None:
    done = run(llama, "--compare", "device=a100,h100", "--compare", "dtype=bf16,int4", "--price", "2")
    assert done.exit_code == 0, done.output
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "$/M tokens" in done.stdout
    assert "params of all: " in done.stdout


def test_variants_side_by_side(default_bundle: Path) -> None:
    found = figures(str(default_bundle), "--compare", "variant=fp32,int8", "--device", "l4")["compared"]
    assert [each["precision"] for each in found] == ["fp32", "int8"]
    assert found[0]["parameters"] == pytest.approx(found[1]["parameters"], rel=0.01)


def test_models_side_by_side(llama: str, tmp_path: Path) -> None:
    other = write_model(tmp_path / "bert", BERT)
    found = figures(llama, "--compare", f"{other}, {other}/config.json")["compared"]
    assert [each["label"] for each in found] == ["llama", "bert", "bert"]
    assert found[1]["flops"] == found[2]["flops"]
    page = run(llama, "--compare", other).stdout
    assert "llama: LlamaForCausalLM" in page
    assert "bert: BertModel" in page
    assert "No latency: no device is given" in page


def test_comparisons_are_kept(llama: str, out: Path) -> None:
    done = run(llama, "--compare", "batch=1,8", "--out", str(out))
    assert done.exit_code == 0, done.output
    kept = json.loads((out / "comparison.json").read_text())["compared"]
    assert [each["label"] for each in kept] == ["batch 1", "batch 8"]
    assert kept[1]["flops"]["total"] == pytest.approx(8 * kept[0]["flops"]["total"])


def test_a_sweep_writes_a_picture_and_a_table(llama: str, out: Path) -> None:
    done = run(llama, "--sweep", "seq=128:2048", "--sweep", "dtype=fp32,bf16", "--device", "h100", "--out", str(out))
    assert done.exit_code == 0, done.output
    picture = (out / "sweep.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    assert "2048" in done.stdout
    assert "sweep.png" in done.stderr


def test_attention_grows_with_the_square_of_the_sequence(llama: str, out: Path) -> None:
    (found,) = points(llama, out, "seq=128:4096")
    assert [point["value"] for point in found] == [128, 256, 512, 1024, 2048, 4096]
    flops = [point["flops"]["matmul"] for point in found]
    growth = [after / before for before, after in itertools.pairwise(flops)]
    assert growth == sorted(growth)
    assert 2 < growth[0] < growth[-1] < 4


def test_each_factor_acts_as_it_should(llama: str, out: Path) -> None:
    layers, hidden, heads, kv_heads, ffn, vocab = points(
        llama, out, "layers=2:8", "hidden=64:256", "heads=4:16", "kv-heads=2,8", "ffn=256:1024", "vocab=500,1000"
    )
    assert [point["value"] for point in layers] == [2, 4, 8]
    steps = [after["parameters"] - before["parameters"] for before, after in itertools.pairwise(layers)]
    assert steps[1] == 2 * steps[0]
    assert [point["value"] for point in hidden] == [64, 128, 256]
    assert hidden[2]["parameters"] > 3 * hidden[1]["parameters"] > 6 * hidden[0]["parameters"]
    assert [point["value"] for point in heads] == [4, 8, 16]
    assert len({point["parameters"] for point in heads}) == 1
    assert heads[2]["flops"]["elementwise"] > heads[0]["flops"]["elementwise"]
    assert kv_heads[1]["parameters"] > kv_heads[0]["parameters"]
    assert ffn[-1]["flops"]["total"] > ffn[0]["flops"]["total"]
    assert vocab[1]["parameters"] - vocab[0]["parameters"] == 2 * 500 * 128
    own = figures(llama)["parameters"]
    for sweep, index in ((layers, 1), (hidden, 1), (heads, 1), (kv_heads, 0), (vocab, 1)):
        assert sweep[index]["parameters"] == own


def test_ranges_leave_out_what_does_not_fit(llama: str, out: Path) -> None:
    heads, devices = points(llama, out, "heads=4:40:9", "data-parallel=1:8", options=("--batch", "6"))
    assert all(128 % point["value"] == 0 for point in heads)
    assert [point["value"] for point in devices] == [1, 2, 3, 6]
    assert devices[0]["memory_bytes"]["activations_peak"] > devices[-1]["memory_bytes"]["activations_peak"]


def test_the_cache_grows_with_the_past(llama: str, out: Path) -> None:
    (found,) = points(llama, out, "past=0:2048:5", options=("--mode", "decode", "--device", "h100"))
    caches = [point["memory_bytes"]["kv_cache"] for point in found]
    assert found[0]["value"] == 0
    assert caches == sorted(caches)
    assert caches[-1] == 2 * 2 * 16 * 2 * 4 * 2049


def test_layers_with_lists_are_swept_too(tmp_path: Path, out: Path) -> None:
    kinds = ["sliding_attention", "full_attention"] * 2
    config = {**LLAMA, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "layer_types": kinds}
    (found,) = points(write_model(tmp_path / "qwen2", config), out, "layers=2,4,8")
    assert found[2]["parameters"] > found[1]["parameters"] > found[0]["parameters"]


def test_encoder_decoders_grow_on_both_sides(tmp_path: Path, out: Path) -> None:
    model = write_model(tmp_path / "t5", T5)
    layers, hidden = points(model, out, "layers=1,2,4", "hidden=32,64,128")
    own = figures(model)["parameters"]
    assert layers[1]["parameters"] == hidden[1]["parameters"] == own
    steps = [layers[1]["parameters"] - layers[0]["parameters"], layers[2]["parameters"] - layers[1]["parameters"]]
    assert steps[1] == 2 * steps[0]


def test_graphs_are_swept_over_what_they_take(default_bundle: Path, out: Path) -> None:
    seq, variants = points(str(default_bundle), out, "seq=32:128", "variant=fp32,int8")
    assert [point["value"] for point in seq] == [32, 64, 128]
    assert seq[2]["flops"]["total"] > 2 * seq[1]["flops"]["total"]
    assert variants[1]["memory_bytes"]["weights"] < variants[0]["memory_bytes"]["weights"]


def test_without_matplotlib_the_picture_is_left_out(llama: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    done = run(llama, "--sweep", "seq=16:64", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "pip install 'ridgeline[bench]'" in done.stderr
    assert (out / "sweep.json").is_file()
    assert not (out / "sweep.png").exists()

"""`ridgeline estimate` on bundles with packed variants, and on lengths that differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.estimate.estimating import BERT, LLAMA, figures, run, write_model
from tests.estimate.graphs import INT64, node, write_graph, zeros
from tests.estimate.packed_graphs import Bert

VARIANTS = {"packed-fp16": ("fp16", None), "packed-int8": ("fp16", "int8"), "packed-fp8": ("bf16", "fp8")}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Packed variants of a model, and a padded one that stands for its fp32 graph."""
    directory = tmp_path_factory.mktemp("bundles") / "encoder"
    write_model(directory, BERT)
    names = ["packed-fp16", "fp32", "packed-int8", "packed-fp8"]
    for name in names:
        (directory / name).mkdir()
    for name, (precision, codes) in VARIANTS.items():
        Bert(BERT, precision, codes).write(directory / name / "model.onnx")
    padded = {"input_ids": (INT64, ("batch", "sequence"))}
    table = {"words": zeros(1000, 64), "w": zeros(64, 64)}
    nodes = [node("Gather", "words input_ids", "x"), node("MatMul", "x w", "y")]
    write_graph(directory / "fp32" / "model.onnx", nodes, padded, ["y"], table)
    variants = {name: {"graph": f"{name}/model.onnx"} for name in names}
    (directory / "ridgeline.json").write_text(json.dumps({"task": "feature-extraction", "variants": variants}))
    return str(directory)


def test_fp32_is_counted_first_and_the_others_are_named(bundle: str) -> None:
    page = " ".join(run(bundle, "--device", "h100").stdout.split())
    assert "fp32; counted from graph fp32/model.onnx" in page and "tokens, packed" not in page
    assert "--variant counts the others that the bundle has: packed-fp16, packed-int8, packed-fp8" in page


def test_a_packed_variant_on_a_mix_of_lengths(bundle: str) -> None:
    given = ("--variant", "packed-fp16", "--lengths", "3x12,50,128", "--device", "h100")
    done = run(bundle, *given)
    assert done.exit_code == 0, done.output
    page = " ".join(done.stdout.split())
    assert "forward, 5 sequences of 12 to 128 tokens, packed; fp16; counted from graph packed-fp16/model.onnx" in page
    assert "Packed: 214 tokens lie end to end without padding, and attention is counted within each sequence" in page
    assert "over padding" not in page and "--variant counts" not in page
    assert all(len(line.rstrip()) <= 80 for line in done.stdout.splitlines())
    found = figures(bundle, *given)
    one = [figures(bundle, "--variant", "packed-fp16", "--seq", str(length))["flops"] for length in (12, 50, 128)]
    assert found["flops"]["matmul"] == 3 * one[0]["matmul"] + one[1]["matmul"] + one[2]["matmul"]
    assert found["workload"]["lengths"] == [12, 12, 12, 50, 128]
    assert found["throughput"]["tokens_per_s"] == pytest.approx(214 / found["latency_s"]["predicted"])
    assert (
        found["memory_bytes"]["activations_peak"]
        < figures(bundle, *given[:2], "--batch", "5")["memory_bytes"]["activations_peak"]
    )


def test_what_is_padded_says_so_and_counts_it(tmp_path: Path) -> None:
    model = write_model(tmp_path / "encoder", BERT)
    page = " ".join(run(model, "--lengths", "12,50,128", "--device", "h100").stdout.split())
    assert "forward, 3 sequences of 12 to 128 tokens, padded; fp32" in page
    assert "so that 190 of 384 tokens are real; throughput and cost are of real ones" in page
    padded, whole = (figures(model, *rest) for rest in (("--lengths", "12,50,128"), ("--batch", "3")))
    assert padded["flops"] == whole["flops"] and padded["memory_bytes"] == whole["memory_bytes"]
    assert run(model, "--lengths", "7").stdout.splitlines()[1].startswith("forward, 1 sequence of 7 tokens, padded")


def test_variants_side_by_side(bundle: str) -> None:
    rest = ("--compare", "variant=packed-fp16,packed-int8,packed-fp8", "--lengths", "20x128,40x512", "--device", "h100")
    done = run(bundle, *rest)
    assert done.exit_code == 0, done.output
    compared = {each["label"]: each for each in figures(bundle, *rest)["compared"]}
    assert {name: each["precision"] for name, each in compared.items()} == {
        "packed-fp16": "fp16",
        "packed-int8": "int8",
        "packed-fp8": "fp8",
    }
    weights = {name: each["memory_bytes"]["weights"] for name, each in compared.items()}
    assert weights["packed-int8"] == weights["packed-fp8"] < weights["packed-fp16"]
    seconds = {name: each["latency_s"]["predicted"] for name, each in compared.items()}
    assert seconds["packed-int8"] < seconds["packed-fp16"]


def test_a_packed_graph_without_its_bundle(tmp_path: Path) -> None:
    path = Bert(BERT, "fp16", "int8").write(tmp_path / "graph.onnx")
    found = figures(str(path), "--batch", "4", "--seq", "32", "--device", "h100")
    assert found["precision"] == "int8" and found["memory_bytes"]["kv_cache"] == 0
    assert "packed graphs are not calibrated on this machine" in " ".join(run(str(path)).stdout.split())


def test_sweeps_keep_the_lengths(tmp_path: Path) -> None:
    model, out = write_model(tmp_path / "encoder", BERT), tmp_path / "out"
    done = run(model, "--lengths", "5,9", "--sweep", "layers=1,2", "--device", "h100", "--out", str(out))
    assert done.exit_code == 0, done.output
    found = json.loads((out / "sweep.json").read_text())
    assert found["question"]["lengths"] == [5, 9]
    assert [point["workload"]["lengths"] for point in found["sweeps"][0]["points"]] == [[5, 9]] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lengths", "3,x"), "--lengths holds 'x'; give tokens of each sequence, such as 12,50,128 or 30x16,2x512"),
        (("--lengths", "0"), "--lengths holds '0'"),
        (("--lengths", "3,"), "--lengths holds ''"),
        (("--lengths", "0x7"), "--lengths holds '0x7'"),
        (("--lengths", "9999999x7"), "of up to 100,000 sequences"),
        (("--lengths", "3", "--batch", "1"), "leave --batch and --seq out"),
        (("--lengths", "3,4", "--compare", "seq=4,5"), "seq cannot be varied then"),
        (("--lengths", "3,4", "--data-parallel", "2"), "cannot be divided evenly among 2 devices"),
        (("--lengths", "3,4", "--mode", "decode"), "decode takes one of each sequence"),
        (("--lengths", "3,9999"), "9999 tokens are more than the 512 positions"),
    ],
)
def test_lengths_that_are_refused(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    config = LLAMA if "decode" in arguments else BERT
    done = run(write_model(tmp_path / "encoder", config), *arguments)
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())

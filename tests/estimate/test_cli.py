"""`ridgeline estimate` on one question: the tables, the JSON, and how its figures hang together."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ridgeline_estimate.calibrated import Calibration, Host, keep_calibrations
from ridgeline_estimate.hardware import Bandwidth, Device, Peak
from ridgeline_estimate.host import cpu_name
from ridgeline_estimate.roofline import Efficiency
from tests.estimate.estimating import BERT, LLAMA, T5, figures, run, write_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another one measured."""
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return write_model(tmp_path / "bert-small", BERT)


@pytest.fixture
def llama(tmp_path: Path) -> str:
    return write_model(tmp_path / "llama-small", LLAMA)


def test_the_page_shows_layers_parts_memory_and_latency(bert: str) -> None:
    done = run(bert, "--device", "a100", "--batch", "2", "--seq", "64", "--price", "3")
    assert done.exit_code == 0, done.output
    page = done.stdout
    assert "bert-small: BertModel, feature-extraction" in page
    assert "forward, 2 × 64 tokens; fp32; counted from config.json" in page
    assert "layers 0–2 (×3)" in page
    assert "  attention.scores" in page
    assert "2×4×64×64" in page
    for word in ("projections", "Memory", "weights", "activations, peak", "together", "predicted", "share of peak"):
        assert word in page
    assert "per million tokens at $3.00 an hour" in page
    assert "data sheet" in page
    assert "FlopCounterMode" in page


def test_pages_fit_eighty_columns(bert: str, tmp_path: Path) -> None:
    mixtral = write_model(
        tmp_path / "experts",
        {**LLAMA, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4},
    )
    for model in (bert, mixtral, write_model(tmp_path / "t5", T5)):
        done = run(model, "--device", "h100", "--seq", "512", "--mode", "train")
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        assert max(len(line) for line in lines) <= 80
        figures_of_rows = [line[45:] for line in lines if re.search(r"\d (k|M|G)?FLOP ", line)]
        assert figures_of_rows
        assert not [line for line in figures_of_rows if "…" in line]


def test_json_has_the_promised_keys(bert: str) -> None:
    found = figures(bert, "--device", "h100")
    assert isinstance(found["parameters"], int)
    assert {"total", "matmul"} <= set(found["flops"])
    assert {"weights", "activations_peak", "kv_cache"} <= set(found["memory_bytes"])
    assert {"predicted", "compute_bound", "memory_bound"} <= set(found["latency_s"])


@pytest.mark.parametrize("mode", ["forward", "prefill", "decode", "train"])
def test_sums_agree(llama: str, mode: str) -> None:
    past = ["--past", "100"] if mode == "decode" else []
    found = figures(llama, "--mode", mode, "--device", "h100", "--batch", "4", *past)
    rows = [row for row in found["layers"] if row["level"] == 0]
    for groups in (rows, list(found["parts"].values())):
        assert sum(group["flops"] for group in groups) == pytest.approx(found["flops"]["total"])
        assert sum(group["matmul_flops"] for group in groups) == pytest.approx(found["flops"]["matmul"])
        assert sum(group["bytes_moved"] for group in groups) == pytest.approx(found["bytes_moved"]["total"])
        assert sum(group["parameters"] for group in groups) == found["parameters"]
    inner = [row for row in found["layers"] if row["level"] == 1 and row["layers"] == rows[1]["layers"]]
    if mode != "train":
        assert sum(row["flops"] for row in inner) == pytest.approx(rows[1]["flops"])
    latency = found["latency_s"]
    parts = latency["compute_bound"] + latency["memory_bound"] + latency["overhead"]
    assert parts == pytest.approx(latency["predicted"])
    assert sum(row["seconds"] for row in rows) == pytest.approx(latency["predicted"])
    memory = found["memory_bytes"]
    names = ("weights", "activations_peak", "kv_cache", "gradients", "optimizer_state", "master_weights")
    assert sum(memory[name] for name in names) == memory["total"]
    new = found["workload"]["batch"] * (1 if mode == "decode" else 128)
    assert found["throughput"]["tokens_per_s"] == pytest.approx(new / latency["predicted"])
    assert 0 < found["share_of_peak"] <= 1


def test_the_config_says_the_dtype_unless_it_is_given(llama: str, bert: str) -> None:
    assert figures(llama)["precision"] == "bf16"
    assert figures(llama, "--dtype", "fp32")["precision"] == "fp32"
    assert figures(bert)["precision"] == "fp32"
    parameters = figures(llama)["parameters"]
    assert figures(llama)["memory_bytes"]["weights"] == 2 * parameters
    assert figures(llama, "--dtype", "fp32")["memory_bytes"]["weights"] == 4 * parameters


def test_quantized_configs_say_their_dtype(tmp_path: Path) -> None:
    quantized = write_model(tmp_path / "gptq", {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    assert figures(quantized)["precision"] == "int4"


def test_without_a_device_there_is_no_latency_and_a_hint(bert: str) -> None:
    found = figures(bert)
    assert found["latency_s"] is None
    assert found["throughput"] is None
    assert found["flops"]["total"] > 0
    assert "ridgeline devices --calibrate" in found["latency_gap"]
    page = run(bert, "--price", "2").stdout
    assert "unknown: no device is given" in page
    assert "unknown without a latency" in page


def test_a_device_whose_peak_is_unknown_gives_no_latency(bert: str) -> None:
    found = figures(bert, "--device", "a100", "--dtype", "fp8")
    assert found["latency_s"] is None
    assert "fp8 peak of A100" in found["latency_gap"]


def test_this_machine_counts_once_it_was_measured(bert: str) -> None:
    assert "this machine was not measured" in figures(bert, "--device", "this")["latency_gap"]
    device = Device("a desk", "cpu", {"fp32": Peak(1e11, "fp32", "measured", 1.0)}, Bandwidth(1e10, "measured", 1.0))
    efficiency = Efficiency(matmul=0.5, op_s=1e-6, call_s=1e-4, source="9 runs")
    host = Host(cpu_name(), 2)
    keep_calibrations([Calibration(host, "onnxruntime", "fp32", 2, 1, device, efficiency, 0.07, 0.2, 1.7e9)])
    for given in ([], ["--device", "this"], ["--device", "this:cpu"]):
        found = figures(bert, *given)
        assert found["device"]["name"] == "a desk"
        assert found["latency_s"]["overhead"] > 1e-4
        assert any("measured here through onnxruntime" in sentence for sentence in found["assumptions"])
    assert "measured in fp32, not in bf16" in figures(bert, "--dtype", "bf16")["latency_gap"]


def test_plain_attention_moves_and_holds_the_scores(llama: str) -> None:
    fused, plain = (figures(llama, "--seq", "1024", flag) for flag in ("--fused-attention", "--plain-attention"))
    assert fused["flops"] == plain["flops"]
    assert plain["bytes_moved"]["total"] > fused["bytes_moved"]["total"]
    assert plain["memory_bytes"]["activations_peak"] > fused["memory_bytes"]["activations_peak"]
    assert plain["memory_bytes"]["activations_peak_fused_attention"] == fused["memory_bytes"]["activations_peak"]


def test_optimizers_differ_in_memory_and_bytes(llama: str) -> None:
    def trained(name: str) -> dict[str, int]:
        found = figures(llama, "--mode", "train", "--dtype", "fp32", "--optimizer", name)
        assert found["optimizer"] == name
        return {"state": found["memory_bytes"]["optimizer_state"], "bytes": found["bytes_moved"]["total"]}

    sgd, momentum, adamw = (trained(name) for name in ("sgd", "momentum", "adamw"))
    parameters = figures(llama)["parameters"]
    assert [each["state"] for each in (sgd, momentum, adamw)] == [0, 4 * parameters, 8 * parameters]
    assert momentum["bytes"] - sgd["bytes"] == pytest.approx(8 * parameters)
    assert adamw["bytes"] - sgd["bytes"] == pytest.approx(16 * parameters)
    assert figures(llama, "--mode", "train")["optimizer"] == "adamw"


def test_devices_share_memory_and_time_but_not_work(llama: str) -> None:
    alone = figures(llama, "--batch", "8", "--device", "h100", "--price", "2")
    tensor = figures(llama, "--batch", "8", "--device", "h100", "--tensor-parallel", "2", "--price", "2")
    data = figures(llama, "--batch", "8", "--device", "h100", "--data-parallel", "2", "--price", "2")
    assert alone["flops"] == tensor["flops"] == data["flops"]
    assert tensor["memory_bytes"]["weights"] < 0.6 * alone["memory_bytes"]["weights"]
    assert data["memory_bytes"]["weights"] == alone["memory_bytes"]["weights"]
    for shared in (tensor, data):
        assert shared["latency_s"]["predicted"] < alone["latency_s"]["predicted"]
        assert shared["cost_per_million_tokens"] > alone["cost_per_million_tokens"]
        assert any("lower bound" in sentence for sentence in shared["assumptions"])


def test_cost_is_the_price_of_the_time(bert: str) -> None:
    found = figures(bert, "--device", "l4", "--batch", "4", "--price", "0.8")
    tokens = 4 * 128
    expected = 0.8 / 3600 * found["latency_s"]["predicted"] / tokens * 1e6
    assert found["cost_per_million_tokens"] == pytest.approx(expected)


def test_encoder_decoders_count_tokens_on_both_sides(tmp_path: Path) -> None:
    t5 = write_model(tmp_path / "t5", T5)
    found = figures(t5, "--seq", "64", "--target", "16", "--device", "a100")
    assert found["throughput"]["tokens_per_s"] == pytest.approx(80 / found["latency_s"]["predicted"])
    page = run(t5, "--seq", "64", "--target", "16").stdout
    assert "64 tokens to 16" in page
    assert "encoder layers 0–1 (×2)" in page
    assert "decoder layers 0–1 (×2)" in page


def test_a_decoder_alone_keeps_the_weights_that_it_does_not_use(tmp_path: Path) -> None:
    t5 = write_model(tmp_path / "t5", T5)
    found = figures(t5, "--task", "text-generation", "--device", "a100", "--tensor-parallel", "2")
    assert found["model"]["task"] == "text-generation"
    rows = [row for row in found["layers"] if row["level"] == 0]
    assert sum(row["parameters"] for row in rows) == found["parameters"]


def test_a_bundle_is_counted_from_its_graphs(default_bundle: Path) -> None:
    fp32, int8 = (figures(str(default_bundle), "--variant", name, "--device", "l4") for name in ("fp32", "int8"))
    assert fp32["model"]["variant"] == "fp32"
    assert fp32["precision"] == "fp32"
    assert int8["precision"] == "int8"
    assert int8["flops"]["matmul"] == pytest.approx(fp32["flops"]["matmul"], rel=1e-3)
    assert int8["memory_bytes"]["weights"] < 0.3 * fp32["memory_bytes"]["weights"]
    assert figures(str(default_bundle))["model"]["variant"] == "fp32"
    counted = figures(str(default_bundle / "config.json"), "--task", "feature-extraction")
    assert fp32["flops"]["matmul"] == pytest.approx(counted["flops"]["matmul"], rel=0.01)
    page = run(str(default_bundle), "--variant", "int8").stdout
    assert "layers 0–5 (×6)" in page
    assert "counted from graph int8/model.onnx" in page


def test_a_graph_without_a_config_says_what_it_does_not_know(default_bundle: Path, tmp_path: Path) -> None:
    graph = default_bundle / "fp32" / "model.onnx"
    found = figures(str(graph), "--device", "l4")
    assert found["model"]["class"] is None
    assert found["flops"]["matmul"] > 0
    assert "at least" in run(str(graph)).stdout
    bundle_in_dtype = figures(str(default_bundle), "--dtype", "bf16")
    assert bundle_in_dtype["model"]["counted_from"] == "config.json"
    assert bundle_in_dtype["precision"] == "bf16"


def test_the_default_model_is_known_by_that_name() -> None:
    found = figures("default")
    assert found["model"]["class"] == "BertModel"
    assert found["parameters"] == 22_713_216


def test_out_keeps_the_json(bert: str, tmp_path: Path) -> None:
    done = run(bert, "--json", "--out", str(tmp_path / "kept" / "here"))
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "kept" / "here" / "estimate.json").read_text()) == json.loads(done.stdout)
    assert "Files:" in done.stderr


def test_the_command_is_part_of_ridgeline_and_pipes(bert: str) -> None:
    command = [str(Path(sys.executable).with_name("ridgeline")), "estimate", bert, "--device", "t4"]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert "layers 0–2 (×3)" in done.stdout
    assert "\x1b[" not in done.stdout
    assert not done.stderr


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'onnx', 'matplotlib', 'torch', 'transformers', 'ridgeline_estimate.summary'}"
    code = (
        "import sys; from typer.testing import CliRunner; from ridgeline_estimate.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        f"sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

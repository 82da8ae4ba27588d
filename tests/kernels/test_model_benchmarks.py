"""The benchmark of whole models: its counts, its batches, its order under a budget, and a trial on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_kernels.benchmarks.models.__main__ import main, write
from ridgeline_kernels.benchmarks.models.account import IDLE, Account, family_of, settle
from ridgeline_kernels.benchmarks.models.batches import batches_of, texts_of
from ridgeline_kernels.benchmarks.models.bench import ModelBench
from ridgeline_kernels.benchmarks.models.catalog import MEASURED, SHAPES, TINY, VARIANTS, shapes_of, variants_of
from ridgeline_kernels.benchmarks.models.goals import GOALS
from ridgeline_kernels.benchmarks.models.records import Latency, Precision, Rate, Results, Spent, WarmUp
from ridgeline_kernels.benchmarks.models.report import as_markdown
from ridgeline_kernels.benchmarks.models.run import Plan, Run
from ridgeline_kernels.benchmarks.models.stopwatch import WallStopwatch, quantile
from ridgeline_kernels.benchmarks.models.weights import write_with_weights
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.timer import Timing
from ridgeline_kernels.measuring.worker import Failure, Inline
from ridgeline_kernels.packed.reading import read_graph
from ridgeline_kernels.packed.tensors import Mapped
from tests.kernels.made_up import MACHINE

GRAPHS = Path(__file__).parents[2] / "bench" / "graphs"
CPU = torch.device("cpu")


class Constant:
    """A stopwatch that calls once and always shows the same."""

    def rate(self, call: Any) -> Timing:
        call()
        return Timing(0.5, 0.01, graph=False)

    def latencies(self, call: Any, count: int) -> list[float]:
        call()
        return [index / 1000 for index in range(1, count + 1)]


def results(**fields: Any) -> Results:
    return Results("one A Made-Up GPU", MACHINE, "2026-11-21", 9.0, **fields)


# The graphs that travel


@pytest.mark.parametrize("name", [*MEASURED, *TINY])
@pytest.mark.parametrize("variant", ["fp32", *VARIANTS])
def test_graphs_without_weights_are_the_models_that_they_are_called(name: str, variant: str) -> None:
    shape, path = SHAPES[name], GRAPHS / f"{name}-{variant}" / "model.onnx"
    assert path.stat().st_size < 300_000
    graph = read_graph(path, allow_missing_weights=True)
    positions = ("token_type_ids", "position_ids") if shape.model_type == "bert" else ("position_ids",)
    assert tuple(graph.inputs) == ("input_ids", *positions, "cu_seqlens")
    assert "pooled" in graph.outputs
    linears = [node for node in graph.nodes if node.op_type in ("Linear", "QuantizedLinear")]
    assert {node.op_type for node in linears} == {"QuantizedLinear" if variant in ("int8", "fp8") else "Linear"}
    weights = [graph.constants[node.inputs[1 if node.op_type == "Linear" else 2]] for node in linears]
    assert 2 * sum(weight.shape[0] * weight.shape[1] for weight in weights) == shape.linear_flops_per_token
    windows = [node.attributes["window_left"] for node in graph.nodes if node.op_type == "PackedAttention"]
    reach = -1 if shape.window is None else shape.window
    assert windows == [-1 if layer % shape.global_every == 0 else reach for layer in range(shape.layers)]
    held = [constant for constant in graph.constants.values() if not isinstance(constant, Mapped)]
    assert all(constant.read().numel() <= 64 for constant in held)


def test_weights_are_the_same_in_every_precision(tmp_path: Path) -> None:
    constants = {}
    for variant in ("fp32", "fp16", "int8", "fp8"):
        path = write_with_weights(GRAPHS / f"tiny-bert-{variant}" / "model.onnx", tmp_path / variant)
        constants[variant] = {name: value.read() for name, value in read_graph(path).constants.items()}
    for name, true in constants["fp32"].items():
        if not true.is_floating_point():
            continue
        assert torch.isfinite(true).all()
        half = constants["fp16"][name]
        assert torch.equal(half, true.to(half.dtype))
        for variant, bound in (("int8", 0.02), ("fp8", 0.06)):
            found = constants[variant]
            if name in found:
                assert torch.equal(found[name].float(), true.to(found[name].dtype).float()), name
            else:
                near = found[f"{name}.codes"].float() * found[f"{name}.scale"].float()[:, None]
                assert torch.linalg.vector_norm(near - true) < bound * torch.linalg.vector_norm(true), name


# Counts and batches


def test_flops_of_attention_count_the_pairs_that_are_seen() -> None:
    assert SHAPES["bert-base"].attention_flops([512]) == 12 * 4 * 768 * 512**2
    shape = SHAPES["tiny-modernbert"]
    seen = {length: sum(abs(i - j) <= 4 for i in range(length) for j in range(length)) for length in (1, 3, 30)}
    whole = sum(length**2 for length in seen)
    assert shape.attention_flops(list(seen)) == 4 * 32 * (whole + 2 * sum(seen.values()))


def test_mixes_are_as_they_are_described() -> None:
    docstrings, squad = texts_of("docstrings"), texts_of("squad")
    assert (round(docstrings.mean), docstrings.median, docstrings.longest) == (51, 27, 256)
    assert squad.longest == 384
    assert squad.mean == pytest.approx(177, abs=2)
    assert 1 - squad.mean / 384 == pytest.approx(0.54, abs=0.01)
    assert texts_of("squad", longest=64).longest == 64
    with pytest.raises(ArgumentError, match="no texts are called 'tweets'"):
        texts_of("tweets")


def test_batches_reach_the_targets_and_hold_one_text_at_least() -> None:
    assert batches_of(texts_of("50"), (1, 100, 149)) == [(50,), (50, 50)]
    for target in (512, 65536):
        batch = texts_of("squad").batch(target)
        assert target - 384 < sum(batch) <= target


def test_names_are_checked() -> None:
    assert [shape.name for shape in shapes_of("")] == list(MEASURED)
    assert variants_of("fp8,bf16") == ["fp8", "bf16"]
    with pytest.raises(ArgumentError, match="--models names gpt; allowed: bert-base"):
        shapes_of("gpt")
    with pytest.raises(ArgumentError, match="--variants names int4; allowed: fp32"):
        variants_of("int4")


@pytest.mark.parametrize(
    ("kernel", "family"),
    [
        ("attention_kernel", "attention"),
        ("linear_kernel", "linear"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_bias_TNT", "linear"),
        ("sm90_xmma_gemm_f16f16_f16f32_f32_tn_n", "linear"),
        ("_norm_kernel", "norm"),
        ("_quantize_rows_kernel", "quantize"),
        ("_quantized_gated_activation_kernel", "quantize"),
        ("_bias_activation_kernel", "activation"),
        ("_embedding_kernel", "embedding"),
        ("_rotary_kernel", "rotary"),
        ("_finish_pooling_kernel", "pooling"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("void at::native::elementwise_kernel", "copies"),
        ("something", "other"),
    ],
)
def test_kernels_belong_to_families(kernel: str, family: str) -> None:
    assert family_of(kernel) == family


def test_an_account_adds_up() -> None:
    found = settle([("linear_kernel", 0.5), ("_norm_kernel", 0.2), ("empty", 0.0)], 1.0, 1)
    assert found.seconds == pytest.approx({"linear": 0.5, "norm": 0.2, IDLE: 0.3})
    assert found.kernels == {"linear_kernel": 0.5}
    assert settle([("linear_kernel", 3.0)], 1.0, 1).total_s == 3.0


def test_quantiles_and_rates() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([3.0], 0.99)) == (50.0, 99.0, 3.0)
    watch = WallStopwatch(CPU, 0.001, 3)
    calls: list[int] = []
    assert watch.rate(lambda: calls.append(1)).median_s > 0
    assert len(watch.latencies(lambda: calls.append(1), 5)) == 5
    assert len(calls) > 10


# Runs


def plan(**options: Any) -> Plan:
    given = {"kinds": ("5", "docstrings"), "targets": (1, 60), "accounted": ("5",), "compiled": (), "has_peaks": False}
    return Plan(shapes_of("tiny-bert"), ["fp16"], **{**given, **options})


def test_a_run_measures_ours_and_others_on_a_cpu(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    torch.set_num_threads(1)
    bench = ModelBench(GRAPHS, CPU, Constant(), latency_runs=100)
    bench.use_peaks({"fp16": 1e12})
    found = Run(plan(), Inline(bench), results(), Budget(100, lambda: 0.0), lambda line: None).all()
    assert not found.missing
    runners = ["ridgeline fp16", "transformers SDPA", "transformers eager"]
    assert {rate.runner for rate in found.rates} == set(runners)
    assert [(rate.kind, rate.texts, rate.tokens) for rate in found.rates if rate.runner == runners[0]][:2] == [
        ("5", 1, 5),
        ("5", 12, 60),
    ]
    padded = next(rate for rate in found.rates if rate.runner == runners[1] and rate.kind == "docstrings")
    assert padded.padded_tokens >= padded.tokens
    assert [(each.p50_s, each.p99_s) for each in found.latencies] == [(0.05, 0.099)] * 3
    [precision] = found.precisions
    assert precision.error < 5e-3
    assert precision.least_cosine > 0.999
    assert found.accounts[0].account.seconds["attention"] > 0
    assert [warmup.graphs for warmup in found.warmups] == [0, 0]
    write(found, tmp_path)
    assert json.loads((tmp_path / "models.json").read_text())["rates"][0]["tokens_per_s"] == 10.0
    assert (tmp_path / "throughput.png").exists()
    assert (tmp_path / "account.png").exists()


class Scripted:
    """A bench that fails where it is told to."""

    def __init__(self, *failing: str):
        self.failing = failing
        self.called: list[str] = []

    def call(self, method: str, *args: Any, timeout_s: float = 60.0) -> Any:
        self.called.append(method)
        if method in self.failing:
            return Failure("its process ended with code -11")
        model, runner = (*args, "", "")[:2]
        made = {
            "peaks": ({"fp16": 1e12}, {"fp8": "no"}),
            "use_peaks": None,
            "prepare": WarmUp(model, runner, 1.0, 2, 3.0, 4, 5, 6, "4 CUDA graphs"),
            "latency": Latency(model, f"ridgeline {runner}", 16, 0.1, 0.2, 3),
            "rival_latency": Latency(model, runner, 16, 0.1, 0.2, 3),
            "precision": Precision(model, runner, 0.1, 0.9, 3),
            "account": Spent(model, runner, "5", 60, Account({"linear": 0.1}, {}, 0.1)),
        }
        if method in ("rate", "rival_rate"):
            name = f"ridgeline {runner}" if method == "rate" else runner
            return Rate(model, name, args[2], len(args[3]), sum(args[3]), sum(args[3]), 0.5, 0.0, 0.1)
        return made[method]


def test_a_crash_costs_what_it_hit_and_nothing_else() -> None:
    found = Run(plan(), Scripted("precision", "account"), results(), Budget(9, lambda: 0.0), lambda line: None).all()
    assert found.missing == {
        "tiny-bert fp16, account of 5": "its process ended with code -11",
        "tiny-bert fp16, error": "its process ended with code -11",
    }
    assert found.rates
    assert "- tiny-bert fp16, error: its process ended with code -11" in as_markdown(found)


def test_a_model_that_does_not_load_is_left_out() -> None:
    bench = Scripted("prepare")
    Run(plan(has_rivals=False), bench, results(), Budget(9, lambda: 0.0), lambda line: None).all()
    assert "rate" not in bench.called


def test_a_spent_budget_names_what_it_left_out() -> None:
    now = iter(range(1000))
    budget = Budget(12, lambda: float(next(now)))
    found = Run(plan(), Scripted(), results(), budget, lambda line: None).all()
    assert "not reached in 12 s" in found.missing.values()
    assert found.rates


def test_compiled_rivals_run_at_the_best_batch() -> None:
    bench = Scripted()
    found = Run(
        plan(compiled=("5",), has_peaks=True), bench, results(), Budget(9, lambda: 0.0), lambda line: None
    ).all()
    compiled = [rate for rate in found.rates if "torch.compile" in rate.runner]
    assert [(rate.kind, rate.texts) for rate in compiled] == [("5", 12)]
    assert found.latencies[-1].runner == "transformers SDPA, torch.compile reduce-overhead"
    assert found.peaks == {"fp16": 1e12}
    assert found.missing == {"peak of fp8": "no"}


# The page


def rate(model: str, runner: str, kind: str, tokens: int, seconds: float) -> Rate:
    return Rate(model, runner, kind, 64, tokens, tokens, seconds, 0.01, seconds / 2, (tokens, 64))


def test_goals_are_held_against_what_was_measured() -> None:
    found = results(
        rates=[
            rate("bert-base", "ridgeline fp16", "512", 2_300_000, 1.0),
            rate("bert-base", "ridgeline fp16", "50", 1_900_000, 1.0),
            rate("bert-large", "ridgeline fp8", "squad", 1_000_000, 0.004),
        ],
        latencies=[Latency("bert-base", "ridgeline fp16", 16, 0.0005, 0.001, 9)],
        peaks={"fp16": 8e14, "copy": 4e12},
    )
    verdicts = [goal.is_met(value) for goal in GOALS if (value := goal.measure(found)) is not None]
    assert verdicts == [True, False, True, True]
    page = as_markdown(found)
    assert "| BERT-base fp16, texts of 50 tokens | ≥ 2 M tokens/s | 1.9 M tokens/s | missed |" in page
    assert "| BERT-base fp16, one text of 16 tokens, p50 | ≤ 0.6 ms | 0.5 ms | met |" in page
    assert "| fp16 | 800 TFLOP/s |" in page
    assert "2,300,000, 50% (64 texts)" in page


def test_an_empty_run_is_a_page_too(tmp_path: Path) -> None:
    write(results(), tmp_path)
    assert not list(tmp_path.glob("*.png"))
    assert "## Goals" not in (tmp_path / "models.md").read_text()


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="there is no NVIDIA GPU here"):
        main(["--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="only a GPU is worth measuring"):
        main(["--device", "cpu", "--out", str(tmp_path)])


def test_a_trial_from_the_command_line(tmp_path: Path) -> None:
    given = ["--device", "cpu", "--quick", "--no-rivals", "--models", "tiny-modernbert", "--variants", "int8"]
    main([*given, "--graphs", str(GRAPHS), "--out", str(tmp_path)])
    content = json.loads((tmp_path / "models.json").read_text())
    assert {entry["runner"] for entry in content["rates"]} == {"ridgeline int8"}
    assert not content["missing"]

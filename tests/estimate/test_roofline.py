"""Predictions from made-up operations on made-up devices, and efficiencies fitted back where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.fitting import fit
from ridgeline_estimate.hardware import Bandwidth, Device, Peak
from ridgeline_estimate.op import Op
from ridgeline_estimate.roofline import IDEAL, Efficiency, predict

FLAT = Device(
    "test",
    "cpu",
    {"fp32": Peak(1e11, "fp32", "test"), "int8": Peak(4e11, "int8", "test")},
    Bandwidth(1e10, "test"),
)
CACHED = replace(FLAT, cache_bandwidth=Bandwidth(1e11, "test"), cache_bytes=1_000_000)
TRUTH = Efficiency(
    matmul=0.8,
    attention=0.4,
    elementwise=0.03,
    memory=0.6,
    op_s=4e-6,
    call_s=1e-4,
    product_s=1e-6,
    small_tokens=15.0,
    source="truth",
)


def linear(rows: int, width: int, outputs: int, dtype: str = "fp32") -> Op:
    return Op(
        "linear",
        "projections",
        0,
        matmul_flops=2.0 * rows * width * outputs,
        other_flops=rows * outputs,
        weight_bytes=4.0 * width * outputs,
        read_bytes=4.0 * rows * width,
        written_bytes=4.0 * rows * outputs,
        dtype=dtype,
        output=(rows, outputs),
    )


def layer(batch: int, seq: int, hidden: int, heads: int, dtype: str = "fp32") -> list[Op]:
    """Operations of a Transformer's layer."""
    rows, pairs = batch * seq, batch * heads * seq * seq
    states, scores = 4.0 * rows * hidden, 4.0 * pairs
    products = {"matmul_flops": 2.0 * pairs * hidden / heads, "other_flops": 2.0 * pairs}
    return [
        *(linear(rows, hidden, hidden, dtype) for _ in range(3)),
        Op(
            "scores", "attention_scores", 0, **products,
            read_bytes=2 * states, written_bytes=scores, output=(batch, heads, seq, seq),
        ),
        Op(
            "softmax", "softmax", 0, other_flops=5.0 * pairs,
            read_bytes=scores, written_bytes=scores, output=(batch, heads, seq, seq),
        ),
        Op(
            "values", "attention_values", 0, **products,
            read_bytes=scores + states, written_bytes=states, output=(batch, heads, seq, hidden // heads),
        ),
        linear(rows, hidden, hidden, dtype),
        Op(
            "norm", "norms", 0, other_flops=6.0 * rows * hidden,
            read_bytes=2 * states, written_bytes=states, output=(batch, seq, hidden),
        ),
        linear(rows, hidden, 4 * hidden, dtype),
        Op(
            "gelu", "activations", 0, other_flops=32.0 * rows * hidden,
            read_bytes=4 * states, written_bytes=4 * states, output=(batch, seq, 4 * hidden), fused=True,
        ),
        linear(rows, 4 * hidden, hidden, dtype),
    ]  # fmt: skip


def model(batch: int, seq: int, hidden: int, heads: int, layers: int, dtype: str = "fp32") -> list[Op]:
    return [op for _ in range(layers) for op in layer(batch, seq, hidden, heads, dtype)]


def test_a_large_matmul_takes_its_flops_over_the_peak() -> None:
    op = replace(linear(4096, 1024, 1024), other_flops=0.0)
    prediction = predict([op], FLAT)
    assert prediction.seconds == pytest.approx(op.matmul_flops / 1e11)
    assert prediction.bound == "compute"
    assert prediction.ops[0].bound == "compute"


def test_a_matmul_of_one_row_takes_its_bytes_over_the_bandwidth() -> None:
    op = linear(1, 1024, 1024)
    prediction = predict([op], FLAT)
    assert prediction.seconds == pytest.approx(op.moved_bytes / 1e10)
    assert prediction.bound == "memory"


def test_overheads_bind_tiny_operations() -> None:
    ops = [linear(1, 4, 4) for _ in range(10)]
    prediction = predict(ops, FLAT, Efficiency(op_s=1e-5, call_s=1e-4))
    assert prediction.overhead_s == pytest.approx(2e-4)
    assert prediction.bound == "overhead"
    assert {time.bound for time in prediction.ops} == {"overhead"}


def test_the_parts_add_up() -> None:
    prediction = predict(model(2, 64, 256, 4, 3), CACHED, TRUTH)
    assert prediction.seconds == pytest.approx(prediction.compute_s + prediction.memory_s + prediction.overhead_s)
    assert prediction.seconds == pytest.approx(sum(time.seconds for time in prediction.ops) + TRUTH.call_s)


def test_integers_multiply_at_the_peak_of_their_own_and_their_attention_at_that_of_floating_point() -> None:
    product = Op("s", "attention_scores", 0, matmul_flops=1e9, dtype="int8", output=(1, 8, 128, 128))
    assert predict([replace(linear(4096, 512, 512, "int8"), other_flops=0.0)], FLAT).seconds == pytest.approx(
        2 * 4096 * 512 * 512 / 4e11
    )
    assert predict([product], FLAT).seconds == pytest.approx(1e9 / 1e11)


def test_few_rows_take_longer_for_each() -> None:
    efficiency = Efficiency(small_tokens=10.0)
    op = replace(linear(10, 64, 64), weight_bytes=0.0, read_bytes=0.0, written_bytes=0.0, other_flops=0.0)
    assert predict([op], FLAT, efficiency).seconds == pytest.approx(2 * op.matmul_flops / 1e11)


def test_fused_operations_move_nothing_and_launch_nothing() -> None:
    op = Op("gelu", "activations", 0, other_flops=8.0, read_bytes=1e9, written_bytes=1e9, output=(1, 1), fused=True)
    assert predict([op], FLAT, Efficiency(op_s=1.0)).seconds == pytest.approx(8.0 / 1e11)


def test_a_row_of_operations_without_a_matmul_is_one_kernel() -> None:
    def element(name: str, layer: int = 0) -> Op:
        return Op(name, "activations", layer, other_flops=1.0, read_bytes=5e3, written_bytes=5e3, output=(1, 1))

    row = [linear(64, 64, 64), element("divide"), element("erf"), element("multiply")]
    efficiency = Efficiency(op_s=1.0)
    assert predict(row, FLAT, efficiency).overhead_s == 2.0
    assert predict([*row, element("of the next layer", 1)], FLAT, efficiency).overhead_s == 3.0
    assert predict(row, FLAT).ops[1].memory_s == pytest.approx(1e4 / 1e10)
    assert predict(row, FLAT).ops[2].memory_s == 0.0
    assert predict(row, FLAT).ops[2].compute_s > 0.0


@pytest.mark.parametrize("part", ["quantization", "projections"])
def test_quantizing_and_laying_out_belong_to_the_kernels_beside_them(part: str) -> None:
    flops = 1e6 if part == "quantization" else 0.0
    op = Op("it", part, 0, other_flops=flops, read_bytes=1e6, written_bytes=1e6, output=(1, 1))
    assert predict([op], FLAT, Efficiency(op_s=1.0)).seconds == 0.0


def test_what_depends_on_weights_alone_is_not_run() -> None:
    assert predict([replace(linear(64, 64, 64), is_constant=True)], FLAT).seconds == 0.0


def test_only_kernels_that_know_the_mask_skip_what_it_hides() -> None:
    op = Op("s", "attention_scores", 0, matmul_flops=1e9, skipped_flops=5e8, output=(1, 8, 128, 128))
    assert predict([op], FLAT, Efficiency()).seconds == pytest.approx(1e9 / 1e11)
    assert predict([op], FLAT, IDEAL).seconds == pytest.approx(5e8 / 1e11)


def test_what_fits_the_cache_moves_at_its_rate() -> None:
    small = Op("add", "other", 0, other_flops=1.0, read_bytes=5e5, written_bytes=5e5, output=(1, 1))
    large = replace(small, read_bytes=1e7, written_bytes=1e7)
    assert predict([small], CACHED).seconds == pytest.approx(1e6 / 1e11)
    assert predict([large], CACHED).seconds == pytest.approx(1e6 / 1e11 + 19e6 / 1e10)


def test_weights_stay_in_the_cache_as_far_as_all_of_them_fit() -> None:
    op = Op("linear", "projections", 0, matmul_flops=1.0, weight_bytes=1e6, output=(1, 1))
    assert predict([op], CACHED).seconds == pytest.approx(1e6 / 1e11)
    assert predict([op] * 4, CACHED).seconds == pytest.approx(1e6 / 1e11 + 3e6 / 1e10)


def test_an_unknown_peak_or_bandwidth_is_said() -> None:
    with pytest.raises(EstimateError, match="the bf16 peak of test is not known"):
        predict([linear(1, 8, 8, "bf16")], FLAT)
    with pytest.raises(EstimateError, match=r"memory bandwidth of test is not known.*--calibrate"):
        predict([linear(1, 8, 8)], replace(FLAT, bandwidth=None))


SHAPES = [(1, 8), (1, 32), (1, 128), (1, 512), (4, 16), (4, 64), (8, 128), (16, 32)]
SIZES = [(128, 2, 2), (384, 6, 2), (768, 12, 1)]


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_fit_predicts_models_and_shapes_that_it_has_not_seen(dtype: str, noise: float) -> None:
    random = np.random.default_rng(0)
    runs = []
    for size in SIZES:
        for shape in SHAPES:
            ops = model(*shape, *size, dtype)
            runs.append((ops, predict(ops, CACHED, TRUTH).seconds * float(np.exp(noise * random.standard_normal()))))
    found = fit(runs, CACHED, "made up")
    assert found.source == "made up"
    errors = []
    for size in [(256, 4, 4), (512, 8, 6), (1024, 16, 12)]:
        for shape in [(2, 24), (1, 200), (3, 384), (12, 64)]:
            ops = model(*shape, *size, dtype)
            errors.append(predict(ops, CACHED, found).seconds / predict(ops, CACHED, TRUTH).seconds - 1.0)
    assert np.median(np.abs(errors)) < 0.02 + noise
    assert np.max(np.abs(errors)) < 0.06 + 2 * noise


def test_a_fit_finds_the_truth_where_the_runs_decide_it() -> None:
    runs = [(model(*shape, *size), 0.0) for size in SIZES for shape in SHAPES]
    runs = [(ops, predict(ops, CACHED, TRUTH).seconds) for ops, _ in runs]
    found = fit(runs, CACHED, "made up")
    for name in ("matmul", "elementwise", "small_tokens"):
        assert getattr(found, name) == pytest.approx(getattr(TRUTH, name), rel=0.15), name


def test_one_run_that_was_disturbed_moves_the_others_little() -> None:
    runs = [(model(*shape, *size), 0.0) for size in SIZES for shape in SHAPES]
    runs = [(ops, predict(ops, CACHED, TRUTH).seconds) for ops, _ in runs]
    runs[5] = (runs[5][0], 5 * runs[5][1])
    found = fit(runs, CACHED, "made up")
    others = [predict(ops, CACHED, found).seconds / seconds - 1.0 for ops, seconds in runs[:5] + runs[6:]]
    assert np.median(np.abs(others)) < 0.05


def test_a_fit_needs_runs() -> None:
    with pytest.raises(EstimateError, match="1 runs do not decide"):
        fit([(model(1, 8, 64, 2, 1), 1.0)], FLAT, "made up")
    with pytest.raises(EstimateError, match="above 0 seconds"):
        fit([(model(1, 8, 64, 2, 1), 0.0)] * 20, FLAT, "made up")

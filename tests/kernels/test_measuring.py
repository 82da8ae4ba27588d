"""Timing, judging, and calls that crash or hang."""

from __future__ import annotations

import os
import time

import pytest
import torch

from ridgeline_kernels.cases.case import Calls, Case
from ridgeline_kernels.errors import ArgumentError, BackendError
from ridgeline_kernels.measuring import machine
from ridgeline_kernels.measuring.agreement import compare
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.inputs import copies_needed
from ridgeline_kernels.measuring.judging import rough_outputs, true_outputs
from ridgeline_kernels.measuring.selection import benchmark_cases, in_turns
from ridgeline_kernels.measuring.timer import GpuTimer
from ridgeline_kernels.measuring.worker import Failure, Inline, Worker
from tests.kernels.made_up import builder, rows_case


def test_equal_outputs_are_right() -> None:
    outputs = (torch.randn(3, 4, dtype=torch.float16), torch.tensor([1, -2], dtype=torch.int8))
    agreement = compare(outputs, [each.clone() for each in outputs])
    assert agreement.is_right
    assert agreement.error == 0


@pytest.mark.parametrize(
    ("dtype", "near", "far"), [(torch.float16, 2e-3, 1e-2), (torch.bfloat16, 2e-2, 1e-1), (torch.float32, 1e-6, 1e-4)]
)
def test_an_element_may_be_a_few_units_off(dtype: torch.dtype, near: float, far: float) -> None:
    truth = torch.linspace(0.1, 1, 100, dtype=torch.float64)
    for difference, is_right in ((near, True), (far, False)):
        outputs = truth.clone()
        outputs[50] += difference
        assert compare(outputs.to(dtype), truth).is_right == is_right


def test_codes_may_be_one_apart() -> None:
    truth = torch.arange(-100, 100, dtype=torch.int8)
    assert compare(truth + 1, truth).is_right
    assert not compare(truth + 2, truth).is_right
    fp8 = torch.randn(64).to(torch.float8_e4m3fn)
    assert compare(fp8, fp8.float()).is_right
    assert not compare(torch.zeros_like(fp8), fp8.float()).is_right


def test_an_error_is_allowed_where_low_precision_makes_it_too() -> None:
    truth = torch.ones(8)
    assert not compare(truth.half() * 1.01, truth).is_right
    assert compare(truth.half() * 1.01, truth, lambda: truth * 0.993).is_right
    assert not compare(truth.half() * 1.01, truth, lambda: truth * float("inf")).is_right


def test_nan_is_never_right_and_empty_outputs_are() -> None:
    agreement = compare(torch.tensor([1.0, float("nan")]), torch.ones(2))
    assert not agreement.is_right
    assert agreement.error == float("inf")
    assert compare(torch.empty(0, 4), torch.empty(0, 4)).is_right


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the outputs have shapes \[\(2,\)\], the reference's \[\(3,\)\]"):
        compare(torch.ones(2), torch.ones(3))


@pytest.mark.parametrize(
    ("case_bytes", "l2_bytes", "spare_bytes", "expected"),
    [(10**6, 50 * 10**6, 10**10, 32), (25 * 10**6, 50 * 10**6, 10**10, 5), (10**9, 50 * 10**6, 10**10, 2)],
)
def test_inputs_are_built_until_they_fill_the_cache(
    case_bytes: int, l2_bytes: int, spare_bytes: int, expected: int
) -> None:
    assert copies_needed(case_bytes, l2_bytes, spare_bytes) == expected


def test_inputs_never_take_more_than_the_memory_to_spare() -> None:
    assert copies_needed(10**6, 50 * 10**6, 10**7) == 5
    assert copies_needed(10**9, 50 * 10**6, 10**6) == 1
    assert copies_needed(0, 10**6, 0) == 1


def test_a_case_is_built_once_with_inputs_that_differ() -> None:
    first, second = rows_case(5, 20), rows_case(7, 20)
    build = builder(first, second)
    built = build.built(first.id)
    assert build.built(first.id) is built
    assert len(built.copies) == copies_needed(first.bytes, 1000, 10**6) > 2
    assert built.baselines == ("torch", "torch.compile", "absent")
    one, other = (call()[0] for call in built.ours[:2])
    assert not torch.equal(one, other)
    assert build.built(second.id) is not built


def test_true_and_rough_outputs_are_the_reference_s() -> None:
    case = rows_case(5, 20)
    built = builder(case).built(case.id)
    torch.testing.assert_close(true_outputs(built), built.ours[0]())
    torch.testing.assert_close(rough_outputs(built)[1], built.ours[0]()[1])


class Subject:
    """Does what it is told."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def fail(self) -> None:
        raise ValueError("no such\n   thing")

    def crash(self) -> None:
        os._exit(7)

    def hang(self) -> None:
        time.sleep(1000)


def test_calls_in_a_child_process_keep_its_state_until_it_ends() -> None:
    with Worker(Subject) as worker:
        assert [worker.call("count"), worker.call("count")] == [1, 2]
        assert worker.call("fail") == Failure("ValueError: no such thing")
        assert worker.call("count") == 3
        assert worker.call("crash") == Failure("its process ended with code 7")
        assert worker.call("count") == 1
        assert worker.call("hang", timeout_s=0.2) == Failure("it did not finish within 0 s")
        assert worker.call("count") == 1


def test_inline_calls_fail_alike() -> None:
    inline = Inline(Subject())
    assert inline.call("count") == 1
    assert inline.call("fail") == Failure("ValueError: no such thing")


def test_a_budget_runs_down() -> None:
    now = iter([10.0, 12.0, 12.0, 16.0])
    budget = Budget(5.0, lambda: next(now))
    assert budget.used_s == 2.0
    assert not budget.is_spent
    assert budget.left_s == -1.0


def test_cases_are_chosen_by_their_ops() -> None:
    cases = [rows_case(5, 20), rows_case(6, 20, in_benchmark=False)]
    assert benchmark_cases(cases, "") == cases[:1]
    assert benchmark_cases(cases, "quantize_rows") == cases[:1]
    with pytest.raises(ArgumentError, match="--ops names gemm; allowed: quantize_rows"):
        benchmark_cases(cases, "gemm,quantize_rows")


def test_ops_take_turns() -> None:
    cases = [
        Case(op, str(index), lambda device: Calls(lambda: None), bytes=1)
        for op, count in (("a", 2), ("b", 3))
        for index in range(count)
    ]
    assert [case.id for case in in_turns(cases)] == ["a: 0", "b: 0", "a: 1", "b: 1", "b: 2"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_machine() -> None:
    with pytest.raises(BackendError, match="there is no NVIDIA GPU here that PyTorch can use"):
        machine.this_machine()


@pytest.mark.gpu
def test_a_gpu_describes_itself() -> None:
    found = machine.this_machine()
    assert found.capability >= 80
    assert found.shared_bytes >= 99 * 1024
    assert found.l2_bytes > 1e6
    assert found.files[0] == found.slug


@pytest.mark.gpu
def test_larger_products_take_longer_and_a_host_that_waits_needs_no_graph() -> None:
    timer = GpuTimer(0.02)

    def product(size: int, waits: bool = False) -> float:
        inputs = [torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(3)]

        def call(x: torch.Tensor) -> torch.Tensor:
            y = x @ x
            return y * y.sum().item() if waits else y

        timing = timer([lambda x=x: call(x) for x in inputs])  # type: ignore[misc]
        assert timing.graph != waits
        assert timing.host_s > 0
        return timing.median_s

    assert 2 * size_flops(2048) / 2e15 < product(2048) < product(8192)
    assert product(512, waits=True) > 0
    assert product(512) > 0


def size_flops(size: int) -> float:
    """Multiply-adds of a square product."""
    return float(size**3)

"""Registration of ops with torch: every op's schema, its shapes without data, and tracing through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import triton

from ridgeline_kernels.cases.all_cases import all_cases
from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.sweep import dry_run
from ridgeline_kernels.compilation.target import TARGETS
from ridgeline_kernels.ends.pooling import pool
from ridgeline_kernels.errors import BackendError
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.fused.norm import layer_norm
from ridgeline_kernels.fused.quantize import quantize_rows, quantize_rows_reference
from ridgeline_kernels.gemm.half import linear
from ridgeline_kernels.measuring.agreement import tensors_of
from ridgeline_kernels.op import OPS, Op, forced_kernels, kernels_everywhere, references_everywhere
from ridgeline_kernels.packing import cu_seqlens_of
from tests.kernels.complaints import assert_none
from tests.kernels.small_calls import SMALL_CALLS

Call = tuple[Op, tuple[Any, ...], Any]
LARGEST_COST = 1e9


def cost(case: Case) -> float:
    """Roughly the work of a reference, in operations."""
    return case.flops + 20.0 * case.bytes


def smallest_cases() -> dict[str, Case]:
    """The cheapest case of each op."""
    by_op: dict[str, Case] = {}
    for case in sorted(all_cases(), key=cost):
        by_op.setdefault(case.op, case)
    return dict(sorted(by_op.items()))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Call]]:
    """Every op's call, its arguments and what it returned."""
    made: list[Call] = []
    original = Op.__call__

    def recorded(self: Op, *args: Any) -> Any:
        outputs = original(self, *args)
        made.append((self, args, outputs))
        return outputs

    monkeypatch.setattr(Op, "__call__", recorded)
    yield made


def described(outputs: Any) -> list[tuple[Any, ...]]:
    return [(tuple(each.shape), each.dtype, each.stride()) for each in tensors_of(outputs)]


def to_meta(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.to("meta") if isinstance(arg, torch.Tensor) else arg for arg in args)


@pytest.mark.parametrize("name", sorted(smallest_cases()))
def test_an_op_is_what_torch_asks_of_ops(name: str, calls: list[Call]) -> None:
    case = smallest_cases()[name]
    if name in SMALL_CALLS:
        SMALL_CALLS[name]()
    else:
        assert cost(case) < LARGEST_COST, f"{name} needs an entry in small_calls.py"
        case.build(torch.device("cpu")).ours()
    assert name in {op.name for op, _, _ in calls}
    for op, args, outputs in calls:
        assert described(op.shapes(*to_meta(args))) == described(outputs), op.name
        inputs = {arg.untyped_storage().data_ptr() for arg in tensors_of(args) if arg.numel()}
        storages = [output.untyped_storage().data_ptr() for output in tensors_of(outputs) if output.numel()]
        assert not inputs & set(storages), f"{op.name} returns an argument"
        assert len(set(storages)) == len(storages), f"{op.name} returns one tensor twice"
        registered = getattr(torch.ops.ridgeline, op.name).default
        # torch's check multiplies what it is given, and has no product of fp8.
        if all(each.dtype != torch.float8_e4m3fn for each in tensors_of((args, outputs))):
            torch.library.opcheck(registered, args)
        _assert_traced(registered, args, outputs)


def _assert_traced(registered: Any, args: tuple[Any, ...], outputs: Any) -> None:
    torch.compiler.reset()
    traced = torch.compile(lambda *given: registered(*given), fullgraph=True, backend="eager")(*args)
    for one, other in zip(tensors_of(traced), tensors_of(outputs), strict=True):
        torch.testing.assert_close(one.float(), other.float())


def test_launchers_allocate_what_the_op_says_without_data(calls: list[Call]) -> None:
    def complaints() -> Iterator[str]:
        for case in all_cases():
            calls.clear()
            dry_run(case, TARGETS["sm_90"], lambda *_: None)
            for op, args, outputs in calls:
                expected = described(op.shapes(*args))
                if described(outputs) != expected:
                    yield f"{case.id}: {op.name} allocates {described(outputs)} and says {expected}"

    assert_none(complaints())


def test_an_op_is_one_node_of_an_exported_program() -> None:
    class Rows(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return quantize_rows(x + 1, "int8")

    tokens = torch.export.Dim("tokens", min=2)
    x = torch.randn(5, 40)
    program = torch.export.export(Rows(), (x,), dynamic_shapes=({0: tokens},))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert "ridgeline.quantize_rows.default" in targets
    other = torch.randn(9, 40)
    codes, scale = program.module()(other)
    expected_codes, expected_scale = quantize_rows_reference(other + 1, "int8")
    torch.testing.assert_close(codes, expected_codes)
    torch.testing.assert_close(scale, expected_scale)


@pytest.fixture(scope="module")
def which() -> Callable[[], str]:
    """Whether an op's kernel or its reference runs."""

    def reference(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    def kernel(x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x)

    op = Op("which_of_a_test", reference, kernel, torch.empty_like)
    # torch keeps it; the other tests look at our ops only.
    del OPS[op.name]
    return lambda: "kernel" if op(torch.zeros(1)).item() else "reference"


def test_the_innermost_block_says_what_runs(which: Callable[[], str]) -> None:
    assert which() == "reference"
    with forced_kernels():
        assert which() == "kernel"
        with references_everywhere():
            assert which() == "reference"
            with forced_kernels():
                assert which() == "kernel"
        assert which() == "kernel"
    assert which() == "reference"


def test_kernels_run_on_cpu_tensors_only_where_triton_interprets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(BackendError, match="set TRITON_INTERPRET=1 before the first import of triton"):
        kernels_everywhere().__enter__()


def test_public_functions_are_traced_whole_whatever_the_number_of_tokens() -> None:
    def layer(hidden: torch.Tensor, weight: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        q, k, v = linear(hidden, weight).view(hidden.shape[0], 3, 2, 32).unbind(1)
        mixed = attention(q, k, v, cu_seqlens).reshape(hidden.shape[0], 64)
        return pool(layer_norm(mixed, None, residual=hidden), cu_seqlens, "mean", normalize=True)

    torch.compiler.reset()
    traced = torch.compile(layer, fullgraph=True, backend="eager", dynamic=True)
    weight = torch.randn(192, 64)
    for lengths in ([5, 0, 15], [40, 1]):
        hidden, cu_seqlens = torch.randn(sum(lengths), 64), cu_seqlens_of(lengths)
        torch.testing.assert_close(traced(hidden, weight, cu_seqlens), layer(hidden, weight, cu_seqlens))

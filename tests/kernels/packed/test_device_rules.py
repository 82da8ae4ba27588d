"""What a run must not do on a GPU, seen without one: wait for it, copy to or from it, or mix it with the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ridgeline_kernels.packed import executor
from ridgeline_kernels.packed.folding import Constants
from ridgeline_kernels.packed.program import BoundProgram, make_program
from ridgeline_kernels.packed.reading import read_graph
from tests.kernels.packed.dialect_graphs import DIM, bert, graph_of, save
from tests.kernels.packed.op_cases import OP_CASES
from tests.kernels.packed.test_standard_ops import function_of, host_operands, node_of, wanted

CUDA = torch.device("cuda", 0)


class _NoCopies(TorchDispatchMode):
    """Fails where an op takes a tensor of one device and gives one of another."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        takes = {x.device.type for x in args if isinstance(x, torch.Tensor) and x.dim()}
        gives = {
            x.device.type for x in (made if isinstance(made, tuple | list) else (made,)) if isinstance(x, torch.Tensor)
        }
        assert not takes or not gives or takes == gives, f"{func} goes from {takes} to {gives}"
        return made


def pretended_run(path: Path, device: torch.device) -> dict[str, torch.Tensor]:
    """A run of 12 tokens in 3 sequences on tensors that have no values: what would read them fails."""
    graph = read_graph(path)
    constants = Constants(graph, graph.nodes, lambda name, constant: constant.read())
    program = make_program(graph, list(graph.outputs), constants)
    with FakeTensorMode(allow_non_fake_inputs=True) if device == CUDA else nullcontext():
        bound = BoundProgram(program, device, constants)
        feed = {
            name: torch.empty(4 if name == "cu_seqlens" else (1, 12), dtype=value.dtype, device=device)
            for name, value in graph.inputs.items()
        }
        with _NoCopies():
            return bound.run(feed)


@pytest.fixture
def sums() -> Iterator[Callable[[], list[bool]]]:
    """What says whether cuBLAS may round parts of sums of fp16 and bf16: it may at first, and as before afterwards."""
    matmul = torch.backends.cuda.matmul

    def allowed() -> list[bool]:
        return [matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction]

    def allow(fp16: bool, bf16: bool) -> None:
        matmul.allow_fp16_reduced_precision_reduction = fp16
        matmul.allow_bf16_reduced_precision_reduction = bf16

    before = allowed()
    allow(True, True)
    yield allowed
    allow(*before)


def test_loading_on_a_gpu_keeps_sums_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sums: Callable[[], list[bool]]
) -> None:
    path = save(bert(), tmp_path)
    nothing = SimpleNamespace(graph=None, program=None, bound=None, planned=None, constants=None)
    monkeypatch.setattr(executor, "_device", torch.device)
    monkeypatch.setattr(executor, "_load", lambda *_: nothing)
    executor.PackedModel.load(path, "cpu")
    assert sums() == [True, True]
    executor.PackedModel.load(path, "cuda:0")
    assert sums() == [False, False]


def test_an_encoder_waits_for_nothing(tmp_path: Path) -> None:
    outputs = pretended_run(save(bert(), tmp_path), CUDA)
    assert {name: (tuple(value.shape), value.device) for name, value in outputs.items()} == {
        "last_hidden_state": ((1, 12, DIM), CUDA),
        "pooled": ((3, DIM), CUDA),
    }


_APPROXIMATE = """
    h = ridgeline.EmbeddingLayerNorm (input_ids, word)
    q = Reshape (h, heads)
    a = ridgeline.NystromAttention <scale = 0.5, landmarks = 3> (q, q, q, cu_seqlens, taps)
    b = ridgeline.LinformerAttention <scale = 0.5> (a, q, q, cu_seqlens, e, f)
    c = ridgeline.LshAttention <scale = 0.5, chunk = 16, key_chunks = 2> (b, q, q, cu_seqlens, rotations)
    d = ridgeline.LocalGlobalAttention <scale = 0.5, window = 2, global_tokens = 1> (c, q, q, cu_seqlens)
    out = Reshape (d, flat)
"""
_TABLES = {
    "word": np.ones((40, DIM), np.float32),
    "heads": np.array([1, -1, 2, DIM // 2]),
    "flat": np.array([1, -1, DIM]),
    "taps": np.ones((1, 3), np.float32),
    "e": np.ones((1, 20, 4), np.float32),
    "f": np.ones((2, 20, 4), np.float32),
    "rotations": np.ones((1, 2, DIM // 2, 3), np.float32),
}


@pytest.mark.parametrize("device", [CUDA, torch.device("meta")], ids=str)
def test_approximate_attention_waits_for_nothing(device: torch.device, tmp_path: Path) -> None:
    path = save(
        graph_of(_APPROXIMATE, f"float[1, tokens, {DIM}] out", _TABLES, opsets='"": 20, "ridgeline": 2'), tmp_path
    )
    outputs = pretended_run(path, device)
    assert (tuple(outputs["out"].shape), outputs["out"].device) == ((1, 12, DIM), device)


def test_shapes_stay_on_the_host(tmp_path: Path) -> None:
    nodes = """
        h = ridgeline.EmbeddingLayerNorm (input_ids, word)
        s = Shape <start = 1, end = 2> (h)
        to = Concat <axis = 0> (front, s, dim)
        y = Reshape (h, to)
        t = Squeeze (s)
        r = Range (zero, t, one)
        c = Cast <to = 1> (r)
        u = Unsqueeze (c, axes)
        z = Add (y, u)
        f = Cast <to = 1> (s)
        out = Div (z, f)
    """
    constants = {
        "word": np.ones((40, DIM), np.float32),
        "front": np.array([1]),
        "dim": np.array([DIM]),
        "zero": np.array(0),
        "one": np.array(1),
        "axes": np.array([0, 2]),
    }
    path = save(graph_of(nodes, f"float[1, tokens, {DIM}] out", constants), tmp_path)
    # Fake tensors would have no values on the host either.
    outputs = pretended_run(path, torch.device("meta"))
    assert outputs["out"].shape == (1, 12, DIM)


# Made from numbers or shapes of the host alone.
_FROM_THE_HOST = {"Shape", "Size"}


@pytest.mark.parametrize("index", range(len(OP_CASES)), ids=[f"{case}".replace(" ", "-") for case in OP_CASES])
def test_standard_ops_wait_for_nothing(index: int) -> None:
    case = OP_CASES[index]
    node = node_of(case)
    host = host_operands(node)
    operands = [None if operand is None else torch.from_numpy(operand.copy()) for operand in case.operands]
    function = function_of(node, CUDA, lambda at: operands[at] if at in host and at < len(operands) else None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        placed = [x if x is None or at in host else x.to(CUDA) for at, x in enumerate(operands)]
        with _NoCopies():
            made = function(*placed)
    for value, want in zip(made if isinstance(made, tuple) else (made,), wanted(index), strict=False):
        assert tuple(value.shape) == want.shape
        assert value.device.type == ("cpu" if case.op_type in _FROM_THE_HOST else "cuda")

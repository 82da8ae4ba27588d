"""Models lowered, fused and run by the executor answer as PyTorch does, whatever the mix of lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.fuse import fuse
from ridgeline_export.packed.precision import to_precision
from ridgeline_export.packed.quantize import quantize_linears
from ridgeline_export.packed.save import save_packed
from ridgeline_kernels.op import kernels_everywhere
from ridgeline_kernels.packed.executor import PackedModel
from tests.packed_models import DECODERS, KINDS, lowered, make_feed, torch_answers

__all__ = ["lowered"]

Feed = dict[str, np.ndarray]
MIXES = ([5, 1, 9, 3], [1], [2, 17, 1, 1, 6, 11])
SMALL = [4, 1, 3]
EMBEDDING: dict[str, Any] = {"pooling": "mean", "normalize": True}
# Camembert and XLM-R are RoBERTa, Mistral and Qwen2 are Llama with windows and biases: lowering has them all.
ALIKE = ("camembert", "xlm-roberta", "mistral", "qwen2")
# As the other tests of packed graphs lower them, so that a run of all does it once.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    *((kind, "text-generation", {}) for kind in DECODERS if kind not in ALIKE),
    *((kind, "feature-extraction", EMBEDDING) for kind in KINDS if kind not in (*DECODERS, *ALIKE)),
    ("roberta", "text-classification", {}),
    ("electra", "question-answering", {}),
]
ON_KERNELS = [
    ("llama", "fp32"),
    ("bert", "fp32"),
    ("bert", "fp16"),
    ("modernbert", "fp16"),
    ("mpnet", "fp32"),
    ("deberta-v2", "fp32"),
]
FUSED: dict[str, Any] = {}


def case_name(case: tuple[str, str, dict[str, Any]]) -> str:
    return f"{case[0]} {case[1]}"


@pytest.fixture
def programs(lowered: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """A function that gives a model and its fused graph, a copy of its own."""

    def made(kind: str, task: str, options: dict[str, Any]) -> tuple[Any, Any]:
        key = f"{kind} {task}"
        if key not in FUSED:
            model, program = lowered(kind, task, **options)
            fuse(program)
            FUSED[key] = model, program
        model, program = FUSED[key]
        return model, program.clone()

    return made


def run(program: Any, directory: Path, feed: Feed) -> dict[str, np.ndarray]:
    """The executor's answers."""
    attach_bodies(program)
    model = PackedModel.load(save_packed(program, directory))
    outputs = model.run({name: torch.from_numpy(value) for name, value in feed.items()})
    assert all(value.dtype == torch.float32 for value in outputs.values())
    return {name: value.numpy() for name, value in outputs.items()}


def feeds(program: Any, mixes: Any = MIXES) -> Iterator[Feed]:
    names = [value.name for value in program.graph.inputs]
    for seed, lengths in enumerate(mixes):
        yield make_feed(lengths, names=names, seed=seed)


def assert_near(got: dict[str, np.ndarray], want: dict[str, np.ndarray], error: float) -> None:
    """Every output is there, off by at most `error` of the largest magnitude."""
    assert set(got) == set(want)
    for name, value in want.items():
        assert got[name].shape == value.shape
        np.testing.assert_allclose(got[name], value, rtol=0, atol=error * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_equals_pytorch(case: Any, programs: Any, tmp_path: Path) -> None:
    kind, task, options = case
    model, program = programs(kind, task, options)
    attach_bodies(program)
    executor = PackedModel.load(save_packed(program, tmp_path))
    for feed in feeds(program):
        outputs = executor.run({name: torch.from_numpy(value) for name, value in feed.items()})
        want = torch_answers(model, task, feed, **options)
        assert_near({name: value.numpy() for name, value in outputs.items()}, want, 1e-5)


@pytest.mark.parametrize("kind", ["modernbert", "deberta-v2"])
def test_unfused_equals_pytorch(kind: str, lowered: Any, tmp_path: Path) -> None:
    options = EMBEDDING
    model, program = lowered(kind, "feature-extraction", **options)
    (feed,) = feeds(program, MIXES[:1])
    assert_near(run(program, tmp_path, feed), torch_answers(model, "feature-extraction", feed, **options), 1e-5)


@pytest.mark.parametrize(("kind", "precision"), ON_KERNELS)
def test_equals_pytorch_on_the_kernels(kind: str, precision: str, programs: Any, tmp_path: Path) -> None:
    _, task, options = next(case for case in CASES if case[0] == kind)
    model, program = programs(kind, task, options)
    if precision != "fp32":
        to_precision(program, precision)
    (feed,) = feeds(program, [SMALL])
    with kernels_everywhere():
        got = run(program, tmp_path, feed)
    assert_near(got, torch_answers(model, task, feed, **options), 1e-5 if precision == "fp32" else 2e-2)


@pytest.mark.parametrize(("kind", "precision"), [("t5", "fp16"), ("modernbert", "bf16"), ("deberta-v2", "fp16")])
def test_half_precision_is_near(kind: str, precision: str, programs: Any, tmp_path: Path) -> None:
    options = EMBEDDING
    model, program = programs(kind, "feature-extraction", options)
    to_precision(program, precision)
    (feed,) = feeds(program, MIXES[:1])
    want = torch_answers(model, "feature-extraction", feed, **options)
    assert_near(run(program, tmp_path, feed), want, 1e-2 if precision == "fp16" else 8e-2)


@pytest.mark.parametrize(
    ("kind", "code_format", "on_kernels"),
    [("bert", "fp8", False), ("modernbert", "int8", False), ("modernbert", "fp8", False), ("bert", "int8", True)],
)
def test_quantized_is_near(kind: str, code_format: str, on_kernels: bool, programs: Any, tmp_path: Path) -> None:
    options = EMBEDDING
    model, program = programs(kind, "feature-extraction", options)
    assert quantize_linears(program, code_format)
    to_precision(program, "fp16")
    (feed,) = feeds(program, [SMALL])
    with kernels_everywhere() if on_kernels else nullcontext():
        got = run(program, tmp_path, feed)["sentence_embedding"]
    want = torch_answers(model, "feature-extraction", feed, **options)["sentence_embedding"]
    assert ((got * want).sum(1) > 0.99).all()


def test_int8_equals_its_bodies(programs: Any, tmp_path: Path) -> None:
    """Joins and all: codes made in the norm's pass are those of the specification."""
    _, program = programs("bert", "feature-extraction", EMBEDDING)
    quantize_linears(program, "int8")
    (feed,) = feeds(program, MIXES[:1])
    got = run(program, tmp_path, feed)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    wanted = dict(zip([output.name for output in session.get_outputs()], session.run(None, feed), strict=True))
    # A code on the other side of a half moves a product by a step of 1/127.
    assert_near(got, wanted, 2e-2)
    steps = [step.node.op_type for step in PackedModel.load(tmp_path / "model.onnx").program.steps if step.node]
    assert "AddNormQuantized" in steps


@pytest.mark.parametrize("code_format", ["", "int8", "fp8"])
def test_graphs_travel_without_weights(code_format: str, programs: Any, tmp_path: Path) -> None:
    _, program = programs("bert", "feature-extraction", EMBEDDING)
    if code_format:
        quantize_linears(program, code_format)
    to_precision(program, "fp16")
    attach_bodies(program)
    model = PackedModel.load(save_packed(program, tmp_path, with_weights=False), seed=3)
    (feed,) = feeds(program, MIXES[:1])
    hidden = model.run({name: torch.from_numpy(value) for name, value in feed.items()})["last_hidden_state"]
    assert 0.1 < hidden.std() < 5
    assert len(torch.unique(hidden)) > hidden.numel() // 2

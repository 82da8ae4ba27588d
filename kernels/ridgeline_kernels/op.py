"""An op: a reference in plain PyTorch, a Triton kernel, and their registration with torch.

`torch.ops.ridgeline.NAME` runs the kernel on CUDA tensors and the reference on CPU tensors, and knows the shapes of its
outputs, so that torch.compile and torch.export see through it. Inference only: no op has a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import triton

from ridgeline_kernels.errors import BackendError

_LIBRARY = torch.library.Library("ridgeline", "FRAGMENT")
_forced: ContextVar[str] = ContextVar("forced", default="")

OPS: dict[str, Op] = {}


class Op:
    """A registered op. Calling it checks nothing: public functions check their arguments first."""

    def __init__(
        self, name: str, reference: Callable[..., Any], kernel: Callable[..., Any], shapes: Callable[..., Any]
    ):
        self.name = name
        self.reference = reference
        self.kernel = kernel
        self.shapes = shapes
        _LIBRARY.define(name + torch.library.infer_schema(reference, mutates_args=()))
        _LIBRARY.impl(name, reference, "CPU")
        _LIBRARY.impl(name, kernel, "CUDA")
        _LIBRARY.impl(name, shapes, "Meta")
        self._registered = getattr(torch.ops.ridgeline, name).default
        OPS[name] = self

    def __call__(self, *args: Any) -> Any:
        # Traced, an op is always its one registered node.
        forced = "" if torch.compiler.is_compiling() else _forced.get()
        if forced:
            return self.kernel(*args) if forced == "kernel" else self.reference(*args)
        return self._registered(*args)


def register(name: str, *, reference: Callable[..., Any], kernel: Callable[..., Any], shapes: Callable[..., Any]) -> Op:
    """Register `torch.ops.ridgeline.{name}` and return it as an `Op`.

    reference: annotated, takes tensors and plain values by position; the op's schema is inferred from it. It must
               return new tensors (never an argument or a view of one), and always the same number of them.
    kernel:    the same signature: allocates the outputs and launches the Triton kernels
    shapes:    the same signature: empty outputs of the right shape and dtype, for tracing
    """
    return Op(name, reference, kernel, shapes)


@contextmanager
def kernels_everywhere() -> Iterator[None]:
    """Run the Triton kernels whatever the device of the tensors: on CPU tensors, through Triton's interpreter.

    Raises BackendError if Triton was imported without TRITON_INTERPRET=1 and does not interpret.
    """
    if not triton.knobs.runtime.interpret:
        raise BackendError(
            "Triton kernels run on CPU tensors only through its interpreter: set TRITON_INTERPRET=1 before the first "
            "import of triton"
        )
    with forced_kernels():
        yield


@contextmanager
def references_everywhere() -> Iterator[None]:
    """Run the references whatever the device of the tensors: on a GPU, what its kernels' results are held to."""
    token = _forced.set("reference")
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def forced_kernels() -> Iterator[None]:
    """Run the kernels' launchers whatever the device of the tensors; the caller sees to it that launches work."""
    token = _forced.set("kernel")
    try:
        yield
    finally:
        _forced.reset(token)

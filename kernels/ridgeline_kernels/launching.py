"""How every kernel is launched: on its tensors' device, or handed to a recorder that compiles it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
import triton

Recorder = Callable[[Any, tuple[int, ...], tuple[Any, ...], dict[str, Any]], None]

_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)
# Triton 3.10 changes the default; results and speed should not change with it.
_COMPILER_OPTIONS: dict[str, Any] = {} if triton.knobs.runtime.interpret else {"enable_fp_fusion": True}


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Launch a jit kernel over `grid`; an empty grid launches nothing.

    args:    the kernel's arguments in order
    options: its constexprs by name, num_warps, num_stages
    """
    if 0 in grid:
        return
    recorder = _recorder.get()
    if recorder is not None:
        recorder(kernel, grid, args, {**_COMPILER_OPTIONS, **options})
        return
    with _device_of(args):
        kernel[grid](*args, **_COMPILER_OPTIONS, **options)


def _device_of(args: tuple[Any, ...]) -> Any:
    for arg in args:
        if isinstance(arg, torch.Tensor):
            is_elsewhere = arg.is_cuda and arg.device.index != torch.cuda.current_device()
            return torch.cuda.device(arg.device) if is_elsewhere else nullcontext()
    return nullcontext()


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Hand launches to `recorder(kernel, grid, args, options)` instead of running them."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)

"""One call of an op: its arguments at a shape, what it costs at least, and what to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Calls:
    """A case built on a device: each call runs once on the inputs that were made for it, and returns what it computed.

    baselines: name → the same computation by somebody else's code ("torch", "torch.compile", "cudnn sdpa", …). Where it
               does less than is asked for, its name says what in parentheses: it is shown, and no rival. Those with
               "torch.compile" in their names are run last, for they take long to start.
    """

    ours: Callable[[], Any]
    baselines: Mapping[str, Callable[[], Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A call of a public function at one shape.

    op:            name of the op, as in `ridgeline_kernels.op.OPS`
    name:          the shape in a few words: "BERT-base, 64 × 512"
    build:         makes random inputs on a device and returns the calls. On "meta" only `ours` is used, to compile.
    flops:         multiply-adds × 2 that the computation needs, per call; 0 where only bytes matter
    bytes:         each input read once and each output written once
    tensor_cores:  names of the kernels that must use wgmma on sm_90
    in_sweep:      compile this case in the sweep; False for sizes that compile to the same code as another case
    in_benchmark:  time this case; False for cases that only compile a variant
    needs:         least compute capability, as 80 or 89
    """

    op: str
    name: str
    build: Callable[[torch.device], Calls]
    bytes: int
    flops: int = 0
    precision: str = "fp16"
    tensor_cores: tuple[str, ...] = ()
    in_sweep: bool = True
    in_benchmark: bool = True
    needs: int = 80

    @property
    def id(self) -> str:
        """Op and shape: unique among all cases."""
        return f"{self.op}: {self.name}"


def random_tensor(
    *shape: int, device: torch.device, dtype: torch.dtype = torch.float16, scale: float = 1.0
) -> torch.Tensor:
    """Normal random numbers; on "meta" only their shape."""
    return (torch.randn(*shape, device=device, dtype=torch.float32) * scale).to(dtype)


def precision_of(dtype: torch.dtype) -> str:
    """The word for a floating-point dtype in names and in `Case.precision`: "fp16", "bf16", "fp32"."""
    return str(dtype).removeprefix("torch.").replace("bfloat", "bf").replace("float", "fp")

"""What a case's outputs should be."""

from __future__ import annotations

from typing import Any

import torch

from ridgeline_kernels.measuring.inputs import Built
from ridgeline_kernels.numerics import computing_in
from ridgeline_kernels.op import references_everywhere

# What a model in that precision computes in; bf16 where it computes in codes.
_ROUGH_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


def true_outputs(built: Built) -> Any:
    """The reference's outputs on the first set of inputs, computed in fp32."""
    with references_everywhere():
        return built.ours[0]()


def rough_outputs(built: Built) -> Any:
    """The same computed throughout in the case's precision."""
    with references_everywhere(), computing_in(_ROUGH_DTYPES.get(built.case.precision, torch.bfloat16)):
        return built.ours[0]()

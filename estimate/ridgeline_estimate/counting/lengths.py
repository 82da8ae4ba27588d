"""FLOPs of one sequence by its length, as a table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ridgeline_estimate.architecture import Architecture, Attention
from ridgeline_estimate.counting.approximate_attention import approximate_ops
from ridgeline_estimate.counting.dense import Place
from ridgeline_estimate.counting.model import model_ops
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def flops_by_length(architecture: Architecture, max_tokens: int) -> npt.NDArray[np.float64]:
    """Total FLOPs of a forward pass of one sequence, indexed by its length: sum `table[lengths]` for a batch.

    It leaves out operations that depend on weights alone (DeBERTa's projections of its relative positions): a batch
    shares them, and runtimes fold them when they load the graph.
    returns [max_tokens + 1] float64, 0 at index 0
    Raises EstimateError when max_tokens is below 1.
    """
    import numpy as np  # here, since commands that need none of it load this package too

    if max_tokens < 1:
        raise EstimateError(f"max_tokens is {max_tokens}; it should be at least 1")
    constant, linear, quadratic = _terms(architecture)
    lengths = np.arange(max_tokens + 1, dtype=np.float64)
    table = constant + lengths * (linear + lengths * quadratic)
    for attention, layers in _approximated(architecture).items():
        table[1:] += [layers * _approximate_flops(attention, length) for length in range(1, max_tokens + 1)]
    table[0] = 0.0
    return table


def flops_of_a_token(architecture: Architecture) -> float:
    """FLOPs that a token adds to a forward pass by itself, without attention."""
    return _terms(architecture)[1]


def _terms(architecture: Architecture) -> tuple[float, float, float]:
    """Of all but approximate attention: constant, linear and quadratic in the length, so that three lengths tell."""
    one, two, three = (_flops(architecture, length) for length in (1, 2, 3))
    quadratic = (three - 2 * two + one) / 2
    linear = two - one - 3 * quadratic
    return one - linear - quadratic, linear, quadratic


def _flops(architecture: Architecture, length: int) -> float:
    """Of all but approximate attention."""
    ops = model_ops(architecture, Workload(seq=length), PRECISIONS["fp32"])
    flops = sum(op.flops for op in ops if not op.is_constant)
    return flops - sum(
        layers * _approximate_flops(attention, length) for attention, layers in _approximated(architecture).items()
    )


def _approximated(architecture: Architecture) -> Counter[Attention]:
    """Approximate attentions, and how many layers have each."""
    attentions = [layer.attention for stack in architecture.stacks for layer in stack.layers]
    return Counter(each for each in attentions if each is not None and each.approximation is not None)


def _approximate_flops(attention: Attention, length: int) -> float:
    assert attention.approximation is not None
    run = Run(1, length, PRECISIONS["fp32"])
    return sum(op.flops for op in approximate_ops(attention, attention.approximation, run, Place("")))

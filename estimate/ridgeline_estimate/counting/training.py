"""What training adds to the forward pass.

The backward pass counts twice the forward: a matmul's gradient by its input, and by its weight (Kaplan et al.,
arXiv 2001.08361, section 2.1; FlopCounterMode counts the same). Elementwise work is taken to double likewise.
AdamW's step (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) counts, for each parameter: both moments 3 and 4,
their corrections 2, root, sum, quotient and step 4, decay 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ridgeline_estimate.op import Op
from ridgeline_estimate.precision import DTYPE_BYTES, Precision

ADAMW_FLOPS = 15


def backward_ops(forward: Sequence[Op]) -> Iterator[Op]:
    """The backward pass of each operation, last one first."""
    for op in reversed(forward):
        yield Op(
            name=f"{op.name}.backward",
            part=op.part,
            layer=op.layer,
            matmul_flops=2 * op.matmul_flops,
            other_flops=2 * op.other_flops,
            skipped_flops=2 * op.skipped_flops,
            # Weights are read, their gradients written.
            weight_bytes=2 * op.weight_bytes,
            # What it read and the gradient of what it gave are read; the gradient of what it read is written.
            read_bytes=op.read_bytes + op.written_bytes,
            written_bytes=op.read_bytes,
            dtype=op.dtype,
            output=op.output,
            fused=op.fused,
        )


def optimizer_op(parameters: int, precision: Precision) -> Op:
    """AdamW's step: weights, gradients and both moments, in the weights' format but at least 2 bytes each."""
    size = max(DTYPE_BYTES[precision.weights], 2.0)
    return Op(
        name="optimizer",
        part="other",
        layer=None,
        other_flops=float(ADAMW_FLOPS * parameters),
        weight_bytes=2 * size * parameters,
        read_bytes=3 * size * parameters,
        written_bytes=2 * size * parameters,
        dtype=precision.activations,
        output=(parameters,),
    )

"""Operations that layers and heads are made of: matmuls with weights, norms, activations."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_estimate.counting.elements import activation_flops, norm_flops
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.op import Op


@dataclass(frozen=True, slots=True)
class Place:
    """Where operations stand: prefix of their names, number of the layer, and whether their weights are their own."""

    name: str
    layer: int | None = None
    owns_weights: bool = True

    def named(self, name: str) -> str:
        """The full name of an operation here."""
        return f"{self.name}.{name}" if self.name else name


def dense(
    run: Run,
    place: Place,
    name: str,
    part: str,
    inputs: int,
    outputs: int,
    bias: bool,
    *,
    shape: tuple[int, ...] | None = None,
    owns_matrix: bool = True,
    is_constant: bool = False,
) -> Op:
    """A matmul of states with a matrix of weights, and its bias: [rows, inputs] by [inputs, outputs].

    shape: of what runs, its last dimension apart; None = every new token
    """
    leading = (run.sequences, run.tokens) if shape is None else shape
    rows = _product(leading)
    matrix, vector = inputs * outputs, outputs * bias
    return Op(
        name=place.named(name),
        part=part,
        layer=place.layer,
        matmul_flops=2.0 * rows * matrix,
        other_flops=float(rows * vector),
        parameters=(matrix * owns_matrix + vector) * place.owns_weights,
        weight_bytes=matrix * run.weight_bytes + vector * run.element_bytes,
        read_bytes=rows * inputs * run.element_bytes,
        written_bytes=rows * outputs * run.element_bytes,
        dtype=run.precision.matmul,
        output=(*leading, outputs),
        vectors=vector * place.owns_weights,
        is_constant=is_constant,
    )


def norm(
    run: Run,
    place: Place,
    name: str,
    width: int,
    per_element: int,
    *,
    additions: int = 0,
    keeps_sum: bool = False,
    shape: tuple[int, ...] | None = None,
    parameters: int | None = None,
    is_constant: bool = False,
) -> Op:
    """A norm, and the residuals that are added in the same pass.

    per_element: weights per element of `width`
    additions:   how many states are added to the input before (or to the output after) it
    keeps_sum:   their sum is written too, for the next residual
    parameters:  when they are not per_element · width
    """
    leading = (run.sequences, run.tokens) if shape is None else shape
    elements = _product(leading) * width
    weights = per_element * width if parameters is None else parameters
    owned = weights * place.owns_weights
    return Op(
        name=place.named(name),
        part="norms",
        layer=place.layer,
        other_flops=float(elements * (norm_flops(per_element) + additions)),
        parameters=owned,
        weight_bytes=weights * run.element_bytes,
        read_bytes=elements * (1 + additions) * run.element_bytes,
        written_bytes=elements * (1 + keeps_sum) * run.element_bytes,
        dtype=run.precision.activations,
        output=(*leading, width),
        vectors=owned,
        is_constant=is_constant,
    )


def activation(
    run: Run, place: Place, name: str, function: str, shape: tuple[int, ...], *, is_gated: bool = False
) -> Op:
    """An activation function over a matmul's output, and the multiplication by the other half of a gate."""
    elements = _product(shape)
    return Op(
        name=place.named(name),
        part="activations",
        layer=place.layer,
        other_flops=float(elements * (activation_flops(function) + is_gated)),
        read_bytes=elements * (1 + is_gated) * run.element_bytes,
        written_bytes=elements * run.element_bytes,
        dtype=run.precision.activations,
        output=shape,
        fused=True,
    )


def addition(run: Run, place: Place, name: str, width: int, additions: int) -> Op:
    """Residuals that no norm follows."""
    elements = run.rows * width
    return Op(
        name=place.named(name),
        part="other",
        layer=place.layer,
        other_flops=float(elements * additions),
        read_bytes=elements * (1 + additions) * run.element_bytes,
        written_bytes=elements * run.element_bytes,
        dtype=run.precision.activations,
        output=(run.sequences, run.tokens, width),
    )


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result

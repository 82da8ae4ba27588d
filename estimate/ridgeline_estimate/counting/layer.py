"""One layer: its parts, with norms and residuals where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ridgeline_estimate.architecture import Attention, FeedForward, Layer, Stack
from ridgeline_estimate.counting.attention import attention_ops
from ridgeline_estimate.counting.dense import Place, activation, norm
from ridgeline_estimate.counting.feed_forward import feed_forward_ops
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.op import Op


def layer_ops(layer: Layer, stack: Stack, run: Run, place: Place, waiting: int) -> tuple[list[Op], int]:
    """Operations of a layer.

    waiting: outputs of the layer before that are still to be added to its input: the next norm does it in its pass
    returns the operations, and how many outputs wait after this layer
    """
    ops: list[Op] = []
    parts = _parts(layer, run)
    for number, (name, part) in enumerate(parts):
        inner = Place(place.named(name), place.layer, place.owns_weights)
        before = replace(inner, owns_weights=True) if layer.has_own_first_norm and number == 0 else inner
        if layer.norm_placement in ("pre", "sandwich") and _has_norm_before(layer, number, len(parts)):
            ops.append(_norm(stack, run, before, "norm", waiting, keeps_sum=waiting > 0))
            waiting = 0
        if isinstance(part, FeedForward):
            ops += feed_forward_ops(part, run, inner, stack.hidden)
        else:
            ops += attention_ops(part, run, inner, stack.hidden, stack.norm_parameters)
        if layer.norm_placement == "pre":
            waiting += 1
        elif layer.norm_placement == "sandwich":
            ops.append(_norm(stack, run, inner, "output_norm", 0))
            waiting += 1
        else:
            ops.append(_norm(stack, run, inner, "norm", 1))
    if layer.cross is not None and not run.source:
        ops.append(_idle_cross(layer.cross, stack, run, place))
    if layer.conv_kernel_size:
        ops += _convolution(layer, stack, run, place)
    return ops, waiting


def _parts(layer: Layer, run: Run) -> list[tuple[str, Attention | FeedForward]]:
    """What runs: attention to an encoder does not where there is none."""
    cross = layer.cross if run.source else None
    named = (("attention", layer.attention), ("cross", cross), ("feed_forward", layer.feed_forward))
    return [(name, part) for name, part in named if part is not None]


def _idle_cross(cross: Attention, stack: Stack, run: Run, place: Place) -> Op:
    """Attention to an encoder in a model that has none (BartForCausalLM): weights that nothing reads."""
    inner = Place(place.named("cross"), place.layer, place.owns_weights)
    ops = [*attention_ops(cross, run, inner, stack.hidden, stack.norm_parameters), _norm(stack, run, inner, "norm", 0)]
    return Op(
        name=place.named("cross"),
        part="projections",
        layer=place.layer,
        parameters=sum(op.parameters for op in ops),
        dtype=run.precision.matmul,
        fused=True,
        vectors=sum(op.vectors for op in ops),
    )


def _has_norm_before(layer: Layer, number: int, parts: int) -> bool:
    """Parallel parts may share the first one's norm; else it is the first that may have none (ModernBERT)."""
    if layer.norm_placement == "sandwich":
        return True
    return number < layer.norms if layer.is_parallel else number >= parts - layer.norms


def _norm(stack: Stack, run: Run, place: Place, name: str, additions: int, *, keeps_sum: bool = False) -> Op:
    return norm(run, place, name, stack.hidden, stack.norm_parameters, additions=additions, keeps_sum=keeps_sum)


def _convolution(layer: Layer, stack: Stack, run: Run, place: Place) -> Iterator[Op]:
    """DeBERTa-v2's convolution of width k over the layer's input: 2·B·S·H·H·k ÷ groups; tanh, and a norm of the sum."""
    hidden = stack.hidden
    matrix = hidden * (hidden // layer.conv_groups) * layer.conv_kernel_size
    states = run.rows * hidden * run.element_bytes
    shape = (run.sequences, run.tokens, hidden)
    inner = Place(place.named("convolution"), place.layer, place.owns_weights)
    yield Op(
        name=inner.named("kernel"),
        part="convolution",
        layer=place.layer,
        matmul_flops=2.0 * run.rows * matrix,
        other_flops=float(run.rows * hidden),
        parameters=(matrix + hidden) * place.owns_weights,
        weight_bytes=matrix * run.weight_bytes + hidden * run.element_bytes,
        read_bytes=states,
        written_bytes=states,
        dtype=run.precision.matmul,
        output=shape,
        vectors=hidden * place.owns_weights,
    )
    yield activation(run, inner, "activation", "tanh", shape)
    yield _norm(stack, run, inner, "norm", 1)

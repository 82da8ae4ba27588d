"""A model's approximate attention → the dialect's op for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.packed.approximate_ops import (
    linformer_attention,
    local_global_attention,
    lsh_attention,
    nystrom_attention,
)
from ridgeline_export.packed.dialect import dialect

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ridgeline_export.form.form import AttentionForm

BUFFERS = ("packed_conv_kernel", "packed_key_projection", "packed_value_projection", "packed_rotations")
# Of 16 bits: a program of the kernel holds a chunk's queries in 32 KiB.
_MOST_IN_CHUNK = 1 << 14


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a method becomes an op.

    tensors:    what the op reads, by the method's names; absent ones are None
    attributes: the op's, of the method's settings
    has_heads:  keys and values need as many heads as queries
    """

    op: str
    function: Callable[..., Any]
    tensors: tuple[str, ...]
    attributes: tuple[str, ...]
    has_heads: bool


_KINDS: Mapping[str, _Kind] = {
    "nystrom": _Kind("NystromAttention", nystrom_attention, ("conv_kernel",), ("landmarks", "iterations"), True),
    "linformer": _Kind("LinformerAttention", linformer_attention, ("key_projection", "value_projection"), (), True),
    "lsh": _Kind("LshAttention", lsh_attention, ("rotations",), ("chunk", "key_chunks"), False),
    "local-global": _Kind("LocalGlobalAttention", local_global_attention, (), ("window", "global_tokens"), False),
}


@dataclass(frozen=True, slots=True)
class Approximation:
    """What a module attends with. tensors: names of its buffers, None for an absent one."""

    method: str
    attributes: Mapping[str, int]
    tensors: tuple[str | None, ...]

    def attend(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float) -> Tensor:
        """q [1, tokens, heads, head_dim], k and v with as many heads or a divisor of them → q's shape."""
        kind = _KINDS[self.method]
        group = q.shape[2] // k.shape[2]
        if kind.has_heads and group > 1:
            k, v = (x.repeat_interleave(group, dim=2) for x in (k, v))
        tensors = (None if name is None else module.get_buffer(name) for name in self.tensors)
        out: Tensor = kind.function(q, k, v, cu_seqlens, *tensors, scale=scale, **self.attributes)
        return out


def approximation_of(module: nn.Module, name: str, head_dim: int) -> Approximation | None:
    """What a module attends with, its tensors made its buffers BUFFERS; None where it attends exactly.

    name: the module's, for messages
    Raises UnsupportedModelError for numbers that the dialect's op does not take.
    """
    from ridgeline_export.form.attention import attention_of, attention_tensors

    form = attention_of(module)
    if form is None:
        return None
    kind = _KINDS.get(form.method)
    if kind is None:
        raise UnsupportedModelError(
            f"{name} has {form.method} attention, which has no packed op; there are ops for {', '.join(_KINDS)}"
        )
    attributes = _attributes(kind, form)
    _check(name, kind, attributes, head_dim)
    given = attention_tensors(module)
    tensors: list[str | None] = []
    for tensor_name in kind.tensors:
        tensor = given.get(tensor_name)
        tensors.append(None if tensor is None else f"packed_{tensor_name}")
        if tensor is not None:
            # What all heads share has an axis of size 1 for them.
            shared = tensor.detach()[None] if tensor_name.endswith("projection") and tensor.dim() == 2 else tensor
            module.register_buffer(f"packed_{tensor_name}", shared.detach(), persistent=False)
    return Approximation(form.method, attributes, tuple(tensors))


def exact_tokens(model: nn.Module) -> int:
    """The longest text that all of the model's attention sees exactly; 0 for a model that attends exactly anyway."""
    from ridgeline_export.form.attention import attention_of
    from ridgeline_export.form.attention.approximations import make_approximation

    forms = (attention_of(module) for module in model.modules())
    return max((make_approximation(form).exact_tokens for form in forms if form is not None), default=0)


def _attributes(kind: _Kind, form: AttentionForm) -> dict[str, int]:
    """The op's attributes: a setting that is absent has the default that the method has."""
    from ridgeline_export.form.attention.approximations import make_approximation

    settings = make_approximation(form)
    return {name: int(getattr(settings, name)) for name in kind.attributes}


def _check(name: str, kind: _Kind, attributes: Mapping[str, int], head_dim: int) -> None:
    law = dialect().ops[kind.op].attributes
    for attribute, value in attributes.items():
        bound = law[attribute].bound(value)
        if bound is not None:
            raise UnsupportedModelError(
                f"{name} has {attribute} = {value}; {kind.op} of packed graphs takes {bound}: serve padded variants, "
                "or compress the model again"
            )
    if attributes.get("chunk", 0) * head_dim > _MOST_IN_CHUNK:
        most = max(size for size in law["chunk"].allowed or () if size * head_dim <= _MOST_IN_CHUNK)
        raise UnsupportedModelError(
            f"{name} has chunk = {attributes['chunk']} with heads of {head_dim} dims; {kind.op} of packed graphs takes "
            f"chunks of at most {most} there: serve padded variants, or compress the model again"
        )

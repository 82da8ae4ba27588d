"""What a model computes on a batch beside its answer: states of its layers, queries, keys and values."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import UnsupportedModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

_IMPLEMENTATION = "ridgeline_captured"


@dataclass(frozen=True, slots=True)
class Attention:
    """One call of a layer's attention.

    query, key, value: [batch, heads, sequence, head_dim], after rotary embeddings where the model has them
    mask: what the model hands its attention function: added to the scores, or bool with True = visible; None for all
    bias: added to the scores, such as T5's by distance; None for none
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    mask: Tensor | None
    bias: Tensor | None

    def scores(self) -> Tensor:
        """Before mask and softmax, fp32 [batch, heads, sequence, sequence]."""
        key = self.key
        if key.shape[1] != self.query.shape[1]:  # grouped keys
            key = key.repeat_interleave(self.query.shape[1] // key.shape[1], dim=1)
        scores = self.query.float() @ key.float().transpose(-1, -2) * self.scale
        return scores if self.bias is None else scores + self.bias.float()

    def visible(self, is_real: Tensor) -> Tensor:
        """Pairs of a query and a key that see each other, both real: bool [batch, 1 or heads, sequence, sequence]."""
        import torch

        pairs = is_real[:, None, :, None] & is_real[:, None, None, :]
        if self.mask is None:
            return pairs
        seen = self.mask if self.mask.dtype == torch.bool else self.mask > torch.finfo(self.mask.dtype).min / 2
        return pairs & seen


@dataclass(slots=True)
class Captured:
    """hidden: the first layer's input, then each layer's output, [batch, sequence, width]; attentions: one a layer."""

    hidden: list[Tensor] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)


def layer_stack(model: Any) -> nn.ModuleList:
    """The list of a model's layers; layers that share all weights may stand in it once.

    Raises UnsupportedModelError when the model has no such list.
    """
    from torch import nn

    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    if not found:
        raise UnsupportedModelError(
            f"'{model.config.model_type}' keeps its layers in no list; its hidden states cannot be learned from"
        )
    return max(found.values(), key=lambda stack: sum(parameter.numel() for parameter in stack.parameters()))


@contextmanager
def capture(model: Any, *, hidden: bool, attention: bool) -> Iterator[Captured]:
    """Collect what the model's next pass computes; afterwards the model is as before."""
    captured = Captured()
    with ExitStack() as undo:
        if hidden:
            undo.enter_context(_hidden(model, captured))
        if attention:
            undo.enter_context(_attention(model, captured))
        yield captured


@contextmanager
def _hidden(model: Any, captured: Captured) -> Iterator[None]:
    def begin(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not captured.hidden:
            captured.hidden.append(args[0] if args else kwargs["hidden_states"])

    def end(module: Any, args: Any, output: Any) -> None:
        captured.hidden.append(output[0] if isinstance(output, tuple) else output)

    handles = []
    for layer in dict.fromkeys(layer_stack(model)):
        handles += [layer.register_forward_pre_hook(begin, with_kwargs=True), layer.register_forward_hook(end)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _attention(model: Any, captured: Captured) -> Iterator[None]:
    """Stand before the model's own attention function in transformers' registries."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = {key: config._attn_implementation_internal or "eager" for key, config in configs.items()}
    # All of a model's configs name the same implementation.
    own_mask = ALL_MASK_ATTENTION_FUNCTIONS.get(before[id(model.config)])

    def record(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any) -> Any:
        scale = kwargs.get("scaling")
        captured.attentions.append(
            Attention(
                query,
                key,
                value,
                1 / math.sqrt(query.shape[-1]) if scale is None else float(scale),
                mask,
                kwargs.get("position_bias"),
            )
        )
        return _function(module, before[id(module.config)])(module, query, key, value, mask, **kwargs)

    AttentionInterface.register(_IMPLEMENTATION, record)
    if own_mask is not None:
        AttentionMaskInterface.register(_IMPLEMENTATION, own_mask)
    try:
        for config in configs.values():
            config._attn_implementation_internal = _IMPLEMENTATION
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
        AttentionInterface._global_mapping.pop(_IMPLEMENTATION, None)
        AttentionMaskInterface._global_mapping.pop(_IMPLEMENTATION, None)


def _function(module: Any, implementation: str) -> Callable[..., Any]:
    """What the module would have called: a registered function, or the eager one beside its class."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    for owner in type(module).__mro__:
        eager = getattr(sys.modules[owner.__module__], "eager_attention_forward", None)
        if eager is not None:
            found: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)
            return found
    raise UnsupportedModelError(f"{type(module).__name__} has no attention function of its own that could be observed")

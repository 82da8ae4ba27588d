"""MPNet's self-attention: as BERT's, with one bias by distance for all layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ridgeline_export.packed.attention import Attentions

# MPNetEncoder.relative_position_bucket's max_distance, which no config changes.
REACH = 128


def adapt(module: Any, attentions: Attentions) -> Callable[..., Any]:
    def forward(
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor]:
        batch, tokens = hidden_states.shape[:2]
        q, k, v = (
            project(hidden_states).view(batch, tokens, -1, module.attention_head_size).transpose(1, 2)
            for project in (module.q, module.k, module.v)
        )
        out, _ = attentions.attend(module, q, k, v, attention_mask, position_bias=position_bias)
        return (module.o(out.reshape(batch, tokens, -1)),)

    return forward

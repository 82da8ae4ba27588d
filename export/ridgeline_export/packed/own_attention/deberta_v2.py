"""DeBERTa-v2's and -v3's disentangled self-attention (He et al., arXiv 2006.03654).

The projections of the relative embeddings are the same for every input: they are computed once and kept as constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.packed.ops import disentangled_attention, packed_attention

if TYPE_CHECKING:
    from torch import Tensor

    from ridgeline_export.packed.attention import Attentions

BUFFERS = ("packed_buckets", "packed_position_keys", "packed_position_queries")
_FURTHEST = 1 << 20


def adapt(module: Any, attentions: Attentions) -> Callable[..., Any]:
    own_forward = module.forward

    def forward(
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        if query_states is not None:
            raise UnsupportedModelError(
                f"{attentions.name(module)} takes queries of another layer, which packed attention cannot express"
            )
        if attentions.cu_seqlens is None:
            attentions.note(module)
            if rel_embeddings is not None:
                _keep_constants(module, attentions.name(module), rel_embeddings)
            return own_forward(  # type: ignore[no-any-return]
                hidden_states, attention_mask, relative_pos=relative_pos, rel_embeddings=rel_embeddings
            )
        return _attend(module, hidden_states, attentions.cu_seqlens), None

    return forward


def _attend(module: Any, hidden_states: Tensor, cu_seqlens: Tensor) -> Tensor:
    batch, tokens = hidden_states.shape[:2]
    q, k, v = (
        project(hidden_states).view(batch, tokens, module.num_attention_heads, -1)
        for project in (module.query_proj, module.key_proj, module.value_proj)
    )
    keys, queries = (getattr(module, name, None) for name in BUFFERS[1:])
    terms = 1 + sum(kind in module.pos_att_type for kind in ("c2p", "p2c"))
    scale = float((q.shape[-1] * terms) ** -0.5)
    if keys is None and queries is None:
        out = packed_attention(
            q, k, v, cu_seqlens, None, scale=scale, causal=False, window_left=-1, window_right=-1, softcap=0.0
        )
    else:
        out = disentangled_attention(
            q, k, v, cu_seqlens, module.packed_buckets, _by_position(q, keys), _by_position(k, queries), scale=scale
        )
    return out.reshape(batch, tokens, -1)


def _by_position(states: Tensor, positions: Tensor | None) -> Tensor | None:
    """states [1, tokens, heads, head_dim], positions [heads, head_dim, columns] → [1, tokens, heads, columns]."""
    import torch

    if positions is None:
        return None
    return torch.matmul(states.transpose(1, 2), positions).transpose(1, 2)


def _keep_constants(module: Any, name: str, rel_embeddings: Tensor) -> None:
    span = int(module.pos_ebd_size)
    embeddings = rel_embeddings[: 2 * span]

    def heads(project: Any) -> Tensor:
        projected: Tensor = project(embeddings).view(embeddings.shape[0], module.num_attention_heads, -1)
        return projected.permute(1, 2, 0).contiguous()

    shared = module.share_att_key
    if "c2p" in module.pos_att_type:
        project = module.key_proj if shared else module.pos_key_proj
        module.register_buffer(BUFFERS[1], heads(project), persistent=False)
    if "p2c" in module.pos_att_type:
        project = module.query_proj if shared else module.pos_query_proj
        module.register_buffer(BUFFERS[2], heads(project), persistent=False)
    module.register_buffer(BUFFERS[0], _buckets(module, name, span), persistent=False)


def _buckets(module: Any, name: str, span: int) -> Tensor:
    """int32 [2 reach + 1]: the column of every distance (query - key) + reach, the same one for both terms."""
    import torch

    reach = span
    while True:
        columns = _columns(module, torch.arange(-reach, reach + 1), span)
        if columns[0] == 0 and columns[-1] == 2 * span - 1:
            break
        if reach > _FURTHEST:
            raise UnsupportedModelError(f"the position buckets of {name} do not end within {_FURTHEST} tokens")
        reach *= 2
    least, most = int((columns == 0).nonzero()[-1]), int((columns == 2 * span - 1).nonzero()[0])
    reach = max(reach - least, most - reach)
    return _columns(module, torch.arange(-reach, reach + 1), span).to(torch.int32)


def _columns(module: Any, distances: Tensor, span: int) -> Tensor:
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    buckets = distances
    if module.position_buckets > 0 and module.max_relative_positions > 0:
        buckets = make_log_bucket_position(distances, module.position_buckets, module.max_relative_positions).long()
    return (buckets + span).clamp(0, 2 * span - 1)

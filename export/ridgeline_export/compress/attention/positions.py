"""Longer texts than a model was made for: its table of positions, its tokenizer and its limits.

A learned table of positions is repeated, as Longformer's authors began (Beltagy et al., 2020, section 5): position p of
a table of n gets the row of p mod n, so that neighbours within each stretch keep what they know of each other. Rotary
and relative positions have no table, and go on as they are.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import UnsupportedModelError, summary
from ridgeline_export.load import LoadedModel
from ridgeline_export.tokenizer import make_encoder

if TYPE_CHECKING:
    from torch import nn

# Buffers with a column a position, in the modules that own a table.
_BUFFERS = ("position_ids", "token_type_ids")


def set_longest(loaded: LoadedModel, tokens: int) -> LoadedModel:
    """The same model, which is changed in place, for texts of up to `tokens` tokens.

    Raises UnsupportedModelError when the model cannot take them.
    """
    model = loaded.model
    extend_positions(model, tokens)
    _try(model, tokens)
    loaded.tokenizer.model_max_length = tokens
    is_lowered = bool(loaded.modules and loaded.modules.lowercase)
    encoder = make_encoder(loaded.tokenizer, loaded.encoder.input_names, tokens, is_lowered)
    shape = {**loaded.shape, "positions": int(getattr(model.config, "max_position_embeddings", 0) or 0)}
    return dataclasses.replace(loaded, encoder=encoder, max_tokens=tokens, shape=shape)


def extend_positions(model: Any, tokens: int) -> None:
    """Make a model's table of positions, if it has one, hold `tokens` of them, in place; never make it shorter."""
    config = model.config
    tables = [
        (module, module.position_embeddings)
        for module in model.modules()
        if hasattr(getattr(module, "position_embeddings", None), "num_embeddings")
    ]
    before = getattr(config, "max_position_embeddings", None)
    if getattr(config, "max_relative_positions", 1) < 1:
        # DeBERTa then takes the number of positions for the farthest distance that it tells apart.
        config.max_relative_positions = before
    for owner, table in tables:
        # RoBERTa and its kin count positions from padding_idx + 1 on.
        offset = 0 if table.padding_idx is None else int(table.padding_idx) + 1
        if table.num_embeddings - offset < tokens:
            _extend(owner, table, offset, tokens)
        before = None
        config.max_position_embeddings = max(config.max_position_embeddings, table.num_embeddings)
    if isinstance(before, int) and 0 < before < tokens:
        config.max_position_embeddings = tokens


def _extend(owner: nn.Module, table: nn.Embedding, offset: int, tokens: int) -> None:
    import torch

    rows, old = offset + tokens, table.num_embeddings
    weight = table.weight.detach()
    position = torch.arange(tokens, device=weight.device) % (old - offset)
    longer = torch.cat([weight[:offset], weight[offset:].index_select(0, position)])
    table.weight = torch.nn.Parameter(longer, requires_grad=table.weight.requires_grad)
    table.num_embeddings = rows
    for name in _BUFFERS:
        buffer = owner._buffers.get(name)
        if buffer is not None and buffer.shape[-1] == old:
            fresh = torch.arange(rows) if name == "position_ids" else torch.zeros(rows, dtype=torch.long)
            owner._buffers[name] = fresh.expand(1, -1).to(buffer.device)


def _try(model: Any, tokens: int) -> None:
    """Run the model on one text that is a little longer than what its class may have set aside."""
    import torch

    device = next(model.parameters()).device
    ids = torch.full((1, tokens), min(5, model.get_input_embeddings().num_embeddings - 1), device=device)
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception as error:  # every architecture fails in its own way
        raise UnsupportedModelError(
            f"'{model.config.model_type}' models cannot be made to take texts of {tokens} tokens: {summary(error)}"
        ) from error
    finally:
        model.train(was_training)

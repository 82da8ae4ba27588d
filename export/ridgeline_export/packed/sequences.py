"""Sequences of random tokens to try a model on, and to export it with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridgeline_export.packed.positions import has_types

if TYPE_CHECKING:
    from torch import Tensor

_SPECIAL = ("bos", "eos", "mask", "cls", "sep")


def sequences(model: Any, lengths: tuple[int, ...], offset: int | None) -> dict[str, Tensor]:
    """Random sequences end to end, as a packed graph takes them.

    No token is padding. Of every other special token the sequences hold different numbers, long ones two and short ones
    none: what a model counts of them in a row differs from a sequence to its neighbours.

    offset: None for a model without positions
    Returns input_ids, token_type_ids and position_ids as far as the model has them, int64 [1, tokens], and cu_seqlens,
    int32 [sequences + 1].
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    tokens = sum(lengths)
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    ids = torch.randint(0, vocabulary, (1, tokens), generator=generator)
    padding = _ids_of(model.config, "pad")
    special = sorted({number for kind in _SPECIAL for number in _ids_of(model.config, kind)} - padding)
    kept = padding.union(special)
    plain = next((number for number in range(vocabulary - 1, -1, -1) if number not in kept), 0)
    ids = torch.where(torch.isin(ids, torch.tensor(sorted(kept))), plain, ids)
    start = 0
    for length in lengths:
        placed = torch.tensor([number for number in special if number < vocabulary] * (length // 5))[: length - 1]
        ids[0, start + 1 : start + 1 + len(placed)] = placed
        start += length
    inputs = {"input_ids": ids}
    if has_types(model):
        inputs["token_type_ids"] = torch.randint(0, model.config.type_vocab_size, (1, tokens), generator=generator)
    if offset is not None:
        inputs["position_ids"] = torch.cat([torch.arange(length) for length in lengths])[None]
    inputs["cu_seqlens"] = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return inputs


def _ids_of(config: Any, kind: str) -> set[int]:
    """The ids that a config names for a kind of token: none, one or several."""
    given = getattr(config, f"{kind}_token_id", None)
    return {number for number in (given if isinstance(given, list) else [given]) if type(number) is int}

"""Masked words for models that fill them in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.load import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Masking:
    """special: ids that are never masked: separators, padding and the like."""

    mask_token_id: int
    special: tuple[int, ...]

    def apply(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs with 15 % of their words masked at random, and which: bool [batch, sequence].

        Drawn from torch's generator of the CPU, whatever the device.
        """
        import torch

        ids = inputs["input_ids"]
        special = torch.tensor(self.special, device=ids.device)
        is_word = inputs["attention_mask"].bool() & ~torch.isin(ids, special)
        is_masked = is_word & (torch.rand(ids.shape).to(ids.device) < _SHARE)
        return {**inputs, "input_ids": ids.masked_fill(is_masked, self.mask_token_id)}, is_masked

    def fixed(self, tokens: Tokens) -> Tokens:
        """The texts with every seventh word masked, always the same ones."""
        places = np.flatnonzero(~np.isin(tokens.ids, self.special))[::7]
        ids = tokens.ids.copy()
        ids[places] = self.mask_token_id
        return dataclasses.replace(tokens, ids=ids)


def masking_of(loaded: LoadedModel) -> Masking:
    """How a model's words are masked. Raises UnsupportedModelError when its tokenizer has no mask."""
    found = loaded.encoder.mask_token_id
    if found is None:
        raise UnsupportedModelError("the tokenizer has no mask token, which task 'fill-mask' needs")
    special = {int(number) for number in loaded.tokenizer.all_special_ids} | {loaded.encoder.pad_token_id, found}
    return Masking(found, tuple(sorted(special)))

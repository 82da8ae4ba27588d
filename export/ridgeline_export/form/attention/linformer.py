"""Linformer attention (Wang et al., 2020): keys and values projected along the tokens.

    out = softmax(scale · q (Eᵀ k)ᵀ) Fᵀ v        E, F: the first `tokens` rows of learned matrices [max_length, rank]

All heads of a layer share its matrices, and keys and values share one (the paper's section 4: "key-value sharing")
unless `separate_values`. A projection defines the attention, so texts shorter than the rank go through it as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ridgeline_export.errors import ModelError, UsageError
from ridgeline_export.form.attention.numbers import check_choice, check_whole
from ridgeline_export.form.attention.softmax import attend


@dataclass(frozen=True)
class Linformer:
    """Linformer attention of one layer.

    rank:            keys and values that are left
    max_length:      tokens of the longest text
    separate_values: values have a projection of their own
    Tensors: `key_projection` and, for separate values, `value_projection`, [max_length, rank]
    """

    method: ClassVar[str] = "linformer"
    trained: ClassVar[tuple[str, ...]] = ("key_projection", "value_projection")
    rank: int
    max_length: int
    separate_values: bool = False

    def __post_init__(self) -> None:
        check_whole("rank", self.rank, 1)
        check_whole("max_length", self.max_length, 1)
        check_choice("separate_values", self.separate_values, (False, True))
        if self.rank > self.max_length:
            raise ModelError(
                f"the attention's rank is {self.rank}, above its max_length of {self.max_length}: "
                "compress the model again"
            )

    @property
    def exact_tokens(self) -> int:
        """Texts of so many tokens get exact attention."""
        return 0

    @property
    def block_tokens(self) -> int:
        """Tokens that are computed together."""
        return 1

    def shapes(self, head_dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a layer's tensors by name."""
        names = self.trained if self.separate_values else self.trained[:1]
        return dict.fromkeys(names, (self.max_length, self.rank))

    def initial(self, head_dim: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Projections to begin with: means over `rank` segments of the longest text, as Nyström's landmarks are.

        Attention is then that to mean keys and values, which recovery makes better; random projections, as the paper's
        training from scratch begins with, would make a trained model forget what it attends to.
        """
        return {name: segment_means(self.max_length, self.rank) for name in self.shapes(head_dim)}

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        is_token: Tensor,
        tensors: Mapping[str, Tensor],
        scale: float,
        dropout: float,
    ) -> Tensor:
        """q, k, v [batch, heads, tokens, head_dim]; is_token bool [batch, tokens], padding on the right → like q."""
        tokens = k.shape[2]
        if tokens > self.max_length:
            raise UsageError(
                f"a text has {tokens} tokens, Linformer's projections are for {self.max_length}; cut the text"
            )
        is_kept = is_token[:, None, :, None].to(k.dtype)
        key_projection = tensors["key_projection"]
        value_projection = tensors.get("value_projection", key_projection)
        keys, values = (
            projection[:tokens].transpose(0, 1).to(x.dtype) @ (x * is_kept)
            for projection, x in ((key_projection, k), (value_projection, v))
        )
        return attend(q, keys, values, torch.ones(1, dtype=torch.bool, device=q.device), scale, dropout)


def segment_means(length: int, rank: int) -> Tensor:
    """A projection [length, rank] onto means over segments that differ by one token at most."""
    bounds = torch.arange(rank + 1) * length // rank
    position = torch.arange(length)[:, None]
    is_member = (position >= bounds[:-1]) & (position < bounds[1:])
    return is_member / (bounds[1:] - bounds[:-1])

"""Nyström attention (Xiong et al., Nyströmformer, 2021): softmax attention through a few landmarks.

    out = softmax(scale · q k̃ᵀ) A⁺ (softmax(scale · q̃ kᵀ) v)  [+ depthwise convolution of v]
    q̃, k̃ = means of q, k over segments of a text's own tokens        A = softmax(scale · q̃ k̃ᵀ)

A⁺ by the paper's equation 14, from Aᵀ scaled by A's own column sums, so that a text's answer depends on no other. A
text of no more tokens than landmarks gets exact attention. Weights are never dropped out: they are no weights of keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ridgeline_export.errors import ModelError
from ridgeline_export.form.attention.numbers import check_whole
from ridgeline_export.form.attention.softmax import attend, in_float32

MAX_LANDMARKS = 128


@dataclass(frozen=True)
class Nystrom:
    """Nyström attention of one layer.

    landmarks:  segments of a text; they differ by one token at most
    iterations: of the pseudo-inverse
    conv:       width of the convolution of v along the tokens, odd; None for none
    Tensors: with conv, `conv_kernel` [1, conv], for all heads
    """

    method: ClassVar[str] = "nystrom"
    trained: ClassVar[tuple[str, ...]] = ("conv_kernel",)
    landmarks: int
    iterations: int = 6
    conv: int | None = None

    def __post_init__(self) -> None:
        check_whole("landmarks", self.landmarks, 1, MAX_LANDMARKS)
        check_whole("iterations", self.iterations, 0)
        if self.conv is not None:
            check_whole("conv", self.conv, 1)
            if self.conv % 2 == 0:
                raise ModelError(f"the attention's conv is {self.conv}; it must be odd: compress the model again")

    @property
    def exact_tokens(self) -> int:
        """Texts of so many tokens get exact attention."""
        return self.landmarks if self.conv is None else 0

    @property
    def block_tokens(self) -> int:
        """Tokens that are computed together."""
        return self.landmarks

    def shapes(self, head_dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a layer's tensors by name."""
        return {} if self.conv is None else {"conv_kernel": (1, self.conv)}

    def initial(self, head_dim: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Tensors to begin with: the convolution adds nothing until it is trained."""
        return {name: torch.zeros(shape) for name, shape in self.shapes(head_dim).items()}

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
        is_member, is_slot = _segments(is_token, self.landmarks)
        sizes = is_member.sum(dim=-1).clamp(min=1)[:, None, :, None]
        few_queries, few_keys = ((is_member[:, None].to(x.dtype) @ x).float() / sizes for x in (q, k))
        summary = attend(few_queries.to(q.dtype), k, v, is_token[:, None, None, :], scale)
        with in_float32(q):
            middle = torch.softmax(few_queries @ few_keys.transpose(-1, -2) * scale, dim=-1)
            values = (pseudo_inverse(middle, self.iterations) @ summary.float()).to(v.dtype)
        # A text's tokens are its landmarks, and their values the landmarks', where it has no more of them.
        own = v.index_select(2, torch.arange(self.landmarks, device=v.device).clamp(max=v.shape[2] - 1))
        is_short = is_token.sum(dim=-1) <= self.landmarks
        values = torch.where(is_short[:, None, None, None], own, values)
        out = attend(q, few_keys.to(q.dtype), values, is_slot[:, None, None, :], scale)
        return out if self.conv is None else out + self._convolved(v, is_token, tensors["conv_kernel"])

    def _convolved(self, v: Tensor, is_token: Tensor, kernel: Tensor) -> Tensor:
        heads = v.shape[1]
        weight = kernel.to(v.dtype).expand(heads, -1)[:, None, :, None]
        kept = v * is_token[:, None, :, None].to(v.dtype)
        return functional.conv2d(kept, weight, padding=(kernel.shape[1] // 2, 0), groups=heads)


def pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """The pseudo-inverse of matrices [..., n, n] whose rows are weights that sum to 1, in fp32."""
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    z = a.transpose(-1, -2) / a.sum(dim=-2).amax(dim=-1)[..., None, None]
    for _ in range(iterations):
        p = a @ z
        z = 0.25 * z @ (13 * identity - p @ (15 * identity - p @ (7 * identity - p)))
    return z


def _segments(is_token: Tensor, landmarks: int) -> tuple[Tensor, Tensor]:
    """Which tokens a landmark is the mean of, [batch, landmarks, tokens], and which landmarks a text has.

    Landmark i of c = min(n, landmarks) has the tokens from floor(i n / c) to floor((i + 1) n / c) - 1.
    """
    length = is_token.sum(dim=-1)[:, None]
    count = length.clamp(max=landmarks)
    slot = torch.arange(landmarks, device=is_token.device)
    position = torch.arange(is_token.shape[1], device=is_token.device)
    first, last = (torch.div(number * length, count.clamp(min=1), rounding_mode="floor") for number in (slot, slot + 1))
    is_member = (position >= first[:, :, None]) & (position < last[:, :, None]) & is_token[:, None]
    return is_member, slot < count

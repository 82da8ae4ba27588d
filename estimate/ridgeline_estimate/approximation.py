"""What stands in exact attention's place, and what it costs: it grows with a sequence's tokens, not with their square.

Of a head with d dims and a sequence of n tokens, multiply-adds × 2:

    Nyström             m landmarks: scores 4nmd + 2m²d, values 4nmd + 2m²d, and 4 products of [m, m] in each iteration,
                        8m³; exact attention's 2n²d and 2n²d for n ≤ m; a convolution of width w: 2nwd
                                                                              (Xiong et al., arXiv 2102.03902)
    Linformer           rank r: E^T k and scores 4nrd, F^T v and values 4nrd   (Wang et al., arXiv 2006.04768)
    LSH                 b buckets, windows of w: in each round hashes 2·d·b/2 of a query and of a key, scores and values
                        2n·min(n, w)·d each                                   (Kitaev et al., arXiv 2001.04451)
    local and global    2d for the score and 2d for the value of each pair that is seen
                                                                              (Beltagy et al., arXiv 2004.05150)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Work:
    """Of all heads and one sequence.

    scores_matmul_flops: of scores and all that leads to them; values_matmul_flops: of sums over values
    other_flops:         what leads to the scores and is no matmul
    weights:             that softmaxes make
    largest:             weights that are there at once
    """

    scores_matmul_flops: float
    values_matmul_flops: float
    other_flops: float
    weights: int
    largest: int


@dataclass(frozen=True, slots=True)
class Nystrom:
    """Attention through landmarks. conv: width of the convolution of the values, None = none."""

    method: ClassVar[str] = "nystrom"
    landmarks: int
    iterations: int = 6
    conv: int | None = None

    @property
    def parameters(self) -> int:
        """Weights of a layer's."""
        return self.conv or 0

    def work(self, tokens: int, heads: int, kv_heads: int, head_dim: int) -> Work:
        """Of one sequence."""
        m, is_exact = self.landmarks, tokens <= self.landmarks
        products = tokens * tokens if is_exact else 2 * tokens * m + m * m
        inverse = 0 if is_exact else 8 * self.iterations * m**3
        # Means of queries and keys; differences from the multiples of I, and the quarter.
        other = 0 if is_exact else 2 * tokens * head_dim + m * m * (1 + 4 * self.iterations)
        return Work(
            scores_matmul_flops=heads * (2.0 * products * head_dim + inverse),
            values_matmul_flops=heads * 2.0 * (products + tokens * (self.conv or 0)) * head_dim,
            other_flops=float(heads * other),
            weights=heads * products,
            largest=heads * tokens * min(tokens, m),
        )


@dataclass(frozen=True, slots=True)
class Linformer:
    """Attention to keys and values that were projected along the tokens."""

    method: ClassVar[str] = "linformer"
    rank: int
    max_length: int
    separate_values: bool = False

    @property
    def parameters(self) -> int:
        """Weights of a layer's."""
        return self.max_length * self.rank * (1 + self.separate_values)

    def work(self, tokens: int, heads: int, kv_heads: int, head_dim: int) -> Work:
        """Of one sequence."""
        products = 4.0 * heads * tokens * self.rank * head_dim
        weights = heads * tokens * self.rank
        return Work(products, products, 0.0, weights, weights)


@dataclass(frozen=True, slots=True)
class Lsh:
    """Attention to keys that hash like the query; keys that a round meets again are computed all the same."""

    method: ClassVar[str] = "lsh"
    chunk: int = 64
    key_chunks: int = 2
    buckets: int = 64
    rounds: int = 2

    @property
    def parameters(self) -> int:
        """Its rotations are drawn, not learned."""
        return 0

    def work(self, tokens: int, heads: int, kv_heads: int, head_dim: int) -> Work:
        """Of one sequence."""
        pairs = self.rounds * heads * tokens * min(tokens, self.chunk * self.key_chunks)
        hashed = self.rounds * (heads + kv_heads) * tokens * (self.buckets // 2)
        products = 2.0 * pairs * head_dim
        # Of every hash a comparison with each bucket; sorting by the codes has no floating-point operations.
        return Work(products + 2.0 * hashed * head_dim, products, 2.0 * hashed, pairs, pairs // self.rounds)


@dataclass(frozen=True, slots=True)
class LocalGlobal:
    """Attention to `window` tokens on each side, and of and to the first `global_tokens`."""

    method: ClassVar[str] = "local-global"
    window: int
    global_tokens: int = 0

    @property
    def parameters(self) -> int:
        """It has none."""
        return 0

    def work(self, tokens: int, heads: int, kv_heads: int, head_dim: int) -> Work:
        """Of one sequence."""
        first = min(self.global_tokens, tokens)
        local = tokens - first
        reach = min(self.window, max(local - 1, 0))
        pairs = heads * (first * tokens + local * first + local * (2 * reach + 1) - reach * (reach + 1))
        products = 2.0 * pairs * head_dim
        return Work(products, products, 0.0, pairs, pairs)


Approximation = Nystrom | Linformer | Lsh | LocalGlobal
APPROXIMATIONS: dict[str, type[Approximation]] = {each.method: each for each in (Nystrom, Linformer, Lsh, LocalGlobal)}

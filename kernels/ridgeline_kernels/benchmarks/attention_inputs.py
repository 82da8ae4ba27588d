"""Made-up queries, keys and values: random ones, and ones whose attention looks at few tokens, as trained heads' does.

Each is one sequence: q, k, v [tokens, heads, head_dim] fp32. Attention over random vectors is almost even, which leaves
little but noise in the outputs; the structured ones are scaled until the attention's entropy has a given mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

MEAN_ENTROPY = 4.0
"""In nats: the weight of some 55 tokens. Chosen, not measured on a model."""


def random_inputs(tokens: int, heads: int, head_dim: int, seed: int) -> Inputs:
    """Independent normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(tokens, heads, head_dim, generator=generator) for _ in range(3))
    return q, k, v


def clustered_inputs(tokens: int, heads: int, head_dim: int, seed: int) -> Inputs:
    """Topics that come back: each token belongs to one of 32 topics, for runs of some 8 tokens.

    Keys and values are their topic's vector and a part of noise half as large; a query is near its own topic's keys.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    topics = 32
    changes = torch.rand(tokens, generator=generator) < 1 / 8
    drawn = torch.randint(topics, (tokens,), generator=generator)
    last_change = torch.where(changes, torch.arange(tokens), 0).cummax(0).values
    topic = drawn[last_change]
    key_topics, value_topics = normal(topics, heads, head_dim), normal(topics, heads, head_dim)
    k = key_topics[topic] + 0.5 * normal(tokens, heads, head_dim)
    q = key_topics[topic] + 0.5 * normal(tokens, heads, head_dim)
    v = value_topics[topic] + 0.5 * normal(tokens, heads, head_dim)
    return _sharpened(q, k, v)


def smooth_inputs(tokens: int, heads: int, head_dim: int, seed: int) -> Inputs:
    """Meaning that drifts: queries, keys and values are random walks that forget within some 64 tokens.

    Half of a query is its own key, so that neighbours attend each other; a tenth of everything is noise.
    """
    generator = torch.Generator().manual_seed(seed)

    def walk() -> torch.Tensor:
        steps = torch.randn(tokens, heads, head_dim, generator=generator)
        keep = math.exp(-1 / 64)
        state, states = steps[0], []
        for step in steps:
            state = keep * state + math.sqrt(1 - keep * keep) * step
            states.append(state)
        return torch.stack(states) + 0.1 * torch.randn(tokens, heads, head_dim, generator=generator)

    k, v = walk(), walk()
    return _sharpened((k + walk()) / math.sqrt(2), k, v)


INPUTS: dict[str, Callable[[int, int, int, int], Inputs]] = {
    "random": random_inputs,
    "clustered": clustered_inputs,
    "smooth": smooth_inputs,
}


def mean_entropy(q: torch.Tensor, k: torch.Tensor) -> float:
    """Mean entropy in nats of the softmax over all keys, over at most 256 evenly taken queries."""
    taken = q[:: max(1, q.shape[0] // 256)]
    scores = torch.einsum("qhd,khd->hqk", taken, k) / math.sqrt(q.shape[2])
    logarithms = scores.log_softmax(-1)
    return float(-(logarithms.exp() * logarithms).sum(-1).mean())


def _sharpened(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Inputs:
    """Queries times the factor that gives attention the mean entropy, found by halving."""
    low, high = 2.0**-6, 2.0**6
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if mean_entropy(middle * q, k) > MEAN_ENTROPY else (low, middle)
    return math.sqrt(low * high) * q, k, v

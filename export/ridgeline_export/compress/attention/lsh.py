"""Hashed attention: queries attend the keys that hash like them."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_export.compress.attention.replace import lengthen, replace_attention
from ridgeline_export.compress.attention.settings import Approximate
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.setting import setting
from ridgeline_export.errors import UsageError

_CHUNKS = (16, 32, 64, 128)
_MOST_BUCKETS = 1024


@dataclass(frozen=True, slots=True)
class LshAttention(Approximate):
    """Attend the keys in the same hash buckets (Kitaev et al., 2020); works without training."""

    chunk: int = setting(64, help="Queries that share a window of keys.", choices=_CHUNKS)
    key_chunks: int = setting(2, help="Chunks of keys that a query sees in each round.", least=2, most=16)
    rounds: int = setting(2, help="Independent hashes; cost and likeness to exact attention grow with them.", least=1)
    buckets: int | None = setting(
        None,
        help="Of each round, even; about the longest text's tokens divided by the chunk when not given.",
        least=2,
        most=_MOST_BUCKETS,
    )


@handles(LshAttention, "attention", "lsh")
def _lsh(config: LshAttention, job: Job) -> Outcome:
    if config.buckets is not None and config.buckets % 2:
        raise UsageError(f"buckets is {config.buckets}; it must be even: a direction and its opposite are two buckets")
    lengthen(job, config.positions)
    buckets = config.buckets or min(max(job.loaded.max_tokens // config.chunk // 2 * 2, 2), _MOST_BUCKETS)
    settings = {
        "chunk": config.chunk,
        "key_chunks": config.key_chunks,
        "buckets": buckets,
        "rounds": config.rounds,
    }
    return replace_attention(config, job, "lsh", settings)

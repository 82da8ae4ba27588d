"""Linformer attention: keys and values projected to a fixed number, whatever the length."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_export.compress.attention.replace import lengthen, replace_attention
from ridgeline_export.compress.attention.settings import Approximate
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.setting import setting
from ridgeline_export.errors import UsageError


@dataclass(frozen=True, slots=True)
class LinformerAttention(Approximate):
    """Attend to learned projections of keys and values (Wang et al., 2020); needs training, and suits texts that are
    about as long as --positions: shorter ones leave most of a projection unused."""

    rank: int = setting(128, help="Keys and values that are left; cost and quality grow with them.", least=1)
    separate_values: bool = setting(
        False, help="Values get a projection of their own; else they share the keys', as the paper found to be enough."
    )


@handles(LinformerAttention, "attention", "linformer")
def _linformer(config: LinformerAttention, job: Job) -> Outcome:
    lengthen(job, config.positions)
    longest = job.loaded.max_tokens
    if config.rank > longest:
        raise UsageError(f"rank is {config.rank}, but texts have {longest} tokens at most; choose a smaller rank")
    settings = {"rank": config.rank, "max_length": longest, "separate_values": config.separate_values}
    return replace_attention(config, job, "linformer", settings)

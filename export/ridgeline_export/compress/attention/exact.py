"""Exact attention for longer texts: what approximations are compared with, and the way back from one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ridgeline_export.compress.attention.replace import lengthen
from ridgeline_export.compress.attention.settings import Lengths
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.errors import UsageError


@dataclass(frozen=True, slots=True)
class Exact(Lengths):
    """Take longer texts with exact attention; an approximation that the model has is taken out."""


@handles(Exact, "attention", "exact")
def _exact(config: Exact, job: Job) -> Outcome:
    from ridgeline_export.form.attention import remove_attention

    before, approximate = job.loaded.max_tokens, job.form.attention
    if approximate is None and config.positions in (None, before):
        raise UsageError(
            f"the model attends exactly and takes {before} tokens already; give positions above or below that"
        )
    remove_attention(job.loaded.model)
    job.form = dataclasses.replace(job.form, attention=None)
    lengthen(job, config.positions)
    return Outcome(
        f"Attention is exact; texts may have {job.loaded.max_tokens} tokens, before {before}.",
        {"max_tokens": job.loaded.max_tokens, "replaced": None if approximate is None else approximate.method},
    )

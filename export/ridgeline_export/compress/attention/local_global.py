"""Local and global attention: a window around each token, and a few tokens that see and are seen by all."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_export.compress.attention.replace import lengthen, replace_attention
from ridgeline_export.compress.attention.settings import Approximate
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.setting import setting


@dataclass(frozen=True, slots=True)
class LocalGlobalAttention(Approximate):
    """Attend the tokens around (Beltagy et al., 2020), and the first ones of the text; works without training."""

    window: int = setting(128, help="Tokens that a token sees to each side.", least=0)
    global_tokens: int = setting(
        1, help="First tokens of a text that see all and are seen by all, such as [CLS].", least=0
    )


@handles(LocalGlobalAttention, "attention", "local-global")
def _local_global(config: LocalGlobalAttention, job: Job) -> Outcome:
    lengthen(job, config.positions)
    settings = {"window": config.window, "global_tokens": config.global_tokens}
    return replace_attention(config, job, "local-global", settings)

"""Nyström attention: exact softmax attention through a few landmarks."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_export.compress.attention.replace import lengthen, replace_attention
from ridgeline_export.compress.attention.settings import Approximate
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.setting import setting
from ridgeline_export.errors import UsageError


@dataclass(frozen=True, slots=True)
class NystromAttention(Approximate):
    """Attend through means of segments of the text (Xiong et al., 2021); works without training."""

    landmarks: int = setting(
        64, help="Segments of a text; cost and likeness to exact attention grow with them.", least=1, most=128
    )
    iterations: int = setting(6, help="Of the pseudo-inverse between landmarks.", least=1)
    conv: int | None = setting(
        None, help="Width of a convolution along the tokens that is trained along, odd; begins with zeros.", least=1
    )


@handles(NystromAttention, "attention", "nystrom")
def _nystrom(config: NystromAttention, job: Job) -> Outcome:
    if config.conv is not None and config.conv % 2 == 0:
        raise UsageError(f"conv is {config.conv}; it must be odd, for a tap at its centre")
    lengthen(job, config.positions)
    settings = {"landmarks": config.landmarks, "iterations": config.iterations}
    return replace_attention(
        config, job, "nystrom", settings if config.conv is None else {**settings, "conv": config.conv}
    )

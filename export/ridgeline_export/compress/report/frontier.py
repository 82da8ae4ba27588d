"""Plans as points of speed and quality, and those of them that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One plan of one report, as it is drawn and tabled.

    name:      of the model
    report:    number of the report, from 0; None for an original, which several reports may have
    speed:     times the throughput of the report's own baseline
    """

    name: str
    report: int | None
    variant: str
    runtime: str
    metric: str
    quality: float
    speed: float

    @property
    def is_original(self) -> bool:
        return self.report is None


def unbeaten(points: Sequence[Point]) -> list[Point]:
    """Points that no other point of the same metric beats: is as fast and as good, and faster or better."""
    return [point for point in points if not any(_beats(other, point) for other in points)]


def _beats(one: Point, other: Point) -> bool:
    if one.metric != other.metric:
        return False
    ours, theirs = (one.speed, one.quality), (other.speed, other.quality)
    return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))

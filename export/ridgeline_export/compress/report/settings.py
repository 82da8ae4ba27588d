"""What a report measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ridgeline_export.compress.setting import setting
from ridgeline_export.errors import UsageError

RUNTIMES = ("onnxruntime", "openvino")
VARIANTS = ("fp32", "int8-dynamic", "int8")
Shape = tuple[int, int]
_USUAL = (8, 128)
_LONG_TOKENS = 512


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """Which plans are measured, and for how long."""

    runtimes: tuple[str, ...] = setting(RUNTIMES, help="Runtimes to measure on, of those installed.", choices=RUNTIMES)
    variants: tuple[str, ...] = setting(VARIANTS, help="Variants to export and measure.", choices=VARIANTS)
    shapes: tuple[str, ...] | None = setting(
        None,
        help="Batches to time, texts x tokens of each, such as 8x128,1x4096; else 8x128, and 1 of the longest text of "
        "a model that takes more than 512 tokens.",
    )
    passes: int = setting(6, help="Rounds in which every plan is timed once.", least=1)
    pass_s: float = setting(1.5, help="Seconds that a round times the original's throughput, about.", above=0)
    bundles: Path | None = setting(None, help="Directory that keeps exported bundles; else the user's cache.")


def shapes_of(settings: ReportSettings, max_tokens: int) -> tuple[Shape, ...]:
    """The shapes (texts, tokens) to time on models of so many tokens at most.

    Raises UsageError for one that is no shape, or too long.
    """
    if settings.shapes is None:
        usual = (_USUAL[0], min(_USUAL[1], max_tokens))
        return (usual, (1, max_tokens)) if max_tokens > _LONG_TOKENS else (usual,)
    return tuple(dict.fromkeys(_shape(text, max_tokens) for text in settings.shapes))


def in_words(shape: Shape) -> str:
    """A shape as people write it: 8 × 128."""
    return f"{shape[0]} × {shape[1]}"


def _shape(text: str, max_tokens: int) -> Shape:
    texts, _, tokens = text.lower().partition("x")
    try:
        shape = int(texts), int(tokens)
    except ValueError:
        shape = 0, 0
    if min(shape) < 1:
        raise UsageError(f"--shapes has '{text}'; give texts x tokens of each, such as 8x128")
    if shape[1] > max_tokens:
        raise UsageError(f"--shapes has '{text}', but the models take texts of {max_tokens} tokens at most")
    return shape

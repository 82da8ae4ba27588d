"""Text for calibration and quality: a user's file, or the docstrings of the interpreter's standard library.

A text belongs to exactly one split, by a hash of the text itself, so that no text that calibrated a model also judges
it, whatever file it came from and however often.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from pathlib import Path

from ridgeline_export.docstrings import standard_library
from ridgeline_export.errors import UsageError

MIN_TEXTS = 100


class Split(enum.Enum):
    """What a text is for; the value is the split's tenths of a corpus."""

    CALIBRATION = range(2)
    QUALITY = range(2, 4)
    BENCHMARK = range(4, 7)
    TRAINING = range(7, 10)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Distinct texts with the name that a manifest quotes."""

    name: str
    texts: tuple[str, ...]

    def take(self, split: Split, limit: int) -> list[str]:
        """At most `limit` texts of a split, in an order that depends on the texts alone."""
        chosen = sorted((text for text in self.texts if split_of(text) is split), key=digest)
        return chosen[:limit]


def split_of(text: str) -> Split:
    """The split that a text belongs to."""
    tenth = int.from_bytes(digest(text)[:8], "big") % 10
    return next(split for split in Split if tenth in split.value)


def load_corpus(path: Path | None) -> Corpus:
    """Texts of a file, one a line, or the standard library's docstrings when path is None.

    Raises UsageError when the file cannot be read, is not UTF-8, or has fewer than MIN_TEXTS distinct texts.
    """
    if path is None:
        return Corpus("standard library docstrings", tuple(dict.fromkeys(text for _, text in standard_library())))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"--texts {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"--texts {path} cannot be read: {error.strerror or error}") from error
    texts = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(texts) < MIN_TEXTS:
        raise UsageError(
            f"--texts {path} has {len(texts)} distinct texts; calibration and quality need at least {MIN_TEXTS}, "
            "one a line"
        )
    return Corpus(path.name, texts)


def digest(text: str) -> bytes:
    """What decides a text's split and its place in it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

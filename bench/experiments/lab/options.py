"""The flags that every experiment has."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DEFAULT_BUNDLE = Path("bundles/all-MiniLM-L6-v2")


@dataclass(frozen=True, slots=True)
class Common:
    """flags: of `ridgeline serve`; texts_from: a file of one text a line, None = the standard library's docstrings."""

    bundle: Path
    flags: list[str]
    out: Path
    texts_from: Path | None

    @property
    def model(self) -> str:
        """The name under which the bundle is served."""
        return self.bundle.resolve().name

    @property
    def inputs(self) -> dict[str, Any]:
        """As the JSON file names them."""
        texts = str(self.texts_from) if self.texts_from else "docstrings of Python's standard library"
        return {"bundle": self.bundle.name, "serve": shlex.join(self.flags), "texts": texts}


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the common flags; the defaults of all flags make a short trial, not a measurement."""
    made = argparse.ArgumentParser(
        description=description,
        epilog="Exit code 0: every target is met; 1: one is missed; 2: wrong usage.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("bundle", type=Path, nargs="?", default=_DEFAULT_BUNDLE, help="bundle to serve")
    made.add_argument("--serve", default="", metavar="FLAGS", help="flags for `ridgeline serve`, as one word")
    made.add_argument("--out", type=Path, default=Path("build/experiments"), help="folder for the JSON and the plot")
    made.add_argument("--texts", type=Path, help="one text a line; without it docstrings of the standard library")
    return made


def common(arguments: argparse.Namespace) -> Common:
    return Common(arguments.bundle, shlex.split(arguments.serve), arguments.out, arguments.texts)


def numbers(text: str) -> Sequence[int]:
    """A comma-separated list of whole numbers, as argparse takes it."""
    return [int(part) for part in text.split(",")]

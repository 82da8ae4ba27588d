"""The load generator as the command that everybody has: `ridgeline bench`, in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline_bench.corpus import corpus_from_file, standard_library_docstrings

_LEFT_OUT = ("definitions", "machine")


class LoadError(Exception):
    """The load generator failed; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A load: `texts` a request from `connections` in a closed loop, or `rate` requests per second in an open one."""

    connections: int = 0
    texts: int = 1
    rate: float | None = None

    @property
    def name(self) -> str:
        """Such as "1 text, 32 connections"."""
        texts = f"{self.texts} text{'' if self.texts == 1 else 's'}"
        if self.rate is not None:
            return f"{texts}, {self.rate:.0f} requests/s"
        return f"{texts}, {self.connections} connection{'' if self.connections == 1 else 's'}"

    def flags(self) -> list[str]:
        """For `ridgeline bench`."""
        load = ["--concurrency", str(self.connections)] if self.rate is None else ["--rate", f"{self.rate:.3f}"]
        return [*load, "--texts-per-request", str(self.texts)]


def run(url: str, shape: Shape, texts: Path, duration_s: float, warmup_s: float = 1.0, *flags: str) -> dict[str, Any]:
    """Make the load and return what `ridgeline bench` writes as JSON.

    flags: more of the command's own
    Raises LoadError when it fails, or no request succeeded.
    """
    with Background(url, shape, texts, duration_s, warmup_s, *flags) as running:
        return running.result()


class Background:
    """As `run`, in the background: `result()` waits. Ends the generator when its `with` block is left early."""

    def __init__(
        self, url: str, shape: Shape, texts: Path, duration_s: float, warmup_s: float = 1.0, *flags: str
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        seconds = ["--duration", f"{duration_s:g}", "--warmup", f"{warmup_s:g}"]
        fixed = ["--texts", str(texts), "--out", self._folder.name, "--no-plot"]
        command = [sys.executable, "-m", "ridgeline_bench", url, *shape.flags(), *seconds, *fixed, *flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._folder.cleanup()

    def result(self) -> dict[str, Any]:
        """What the run wrote. Raises LoadError."""
        said, _ = self._process.communicate()
        if self._process.returncode:
            raise LoadError(f"the load failed: {said.strip()}")
        (path,) = Path(self._folder.name).glob("*.json")
        told: dict[str, Any] = json.loads(path.read_text())
        return {name: value for name, value in told.items() if name not in _LEFT_OUT}


def write_texts(path: Path, count: int, source: Path | None = None, longest: int = 0) -> list[str]:
    """Write the texts that every part of an experiment reads, one a line, and return them.

    source:  a file with one text a line; None: the standard library's docstrings
    longest: characters of some long texts put between them, one in fifty; 0 = none
    """
    corpus = corpus_from_file(source) if source else standard_library_docstrings()
    texts = [" ".join(text.split()) for text in corpus.texts[:count]]
    if longest:
        joined = " ".join(texts)
        for index in range(0, len(texts), 50):
            texts[index] = joined[index : index + max(longest * (index + 50) // len(texts), 200)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return texts

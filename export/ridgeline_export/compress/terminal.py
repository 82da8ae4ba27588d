"""A compression's progress on a terminal, or as lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ridgeline_export.compress.progress import Step
from ridgeline_export.interrupts import Interrupts

if TYPE_CHECKING:
    from rich.console import Console

_DRAW_S = 0.2
_LINE_S = 15.0


class TerminalProgress:
    """Stages with their seconds, and a bar while a model is trained; implements Progress."""

    def __init__(self, console: Console, interrupts: Interrupts) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = console
        self._interrupts = interrupts
        self._is_terminal = console.is_terminal
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[news]}"),
        )
        self._bars = Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False,
                              disable=not self._is_terminal)  # fmt: skip
        self._shown = 0.0
        self._depth = 0

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """A stage of the work."""
        self._interrupts.check()
        began = time.monotonic()
        if not self._is_terminal:
            self._print(f"{description} …")
        task = self._bars.add_task("  " * self._depth + description, total=1, news="")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        self._interrupts.check()
        self._bars.update(task, completed=1)
        if not self._is_terminal:
            self._print(f"{description}: {time.monotonic() - began:.1f} s")

    def train(self, step: Step) -> None:
        """A step was made."""
        self._interrupts.check()
        now = time.monotonic()
        if now - self._shown < (_DRAW_S if self._is_terminal else _LINE_S) and step.step < step.steps:
            return
        self._shown = now
        if self._is_terminal:
            task = next(
                (task for task in self._bars.tasks if task.fields.get("is_training") and not task.finished), None
            )
            number = (
                self._bars.add_task("  " * self._depth + "Training", total=step.steps, news="", is_training=True)
                if task is None
                else task.id
            )
            self._bars.update(number, completed=step.step, news=news_of(step))
        else:
            self._print(f"step {step.step}/{step.steps}  {news_of(step)}")

    def say(self, sentence: str) -> None:
        """Something that stays on the screen."""
        self._print(sentence)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def news_of(step: Step) -> str:
    """A training step in a line."""
    parts = [
        f"epoch {step.epoch:.2f}",
        f"loss {step.loss:.4g}",
        f"rate {step.rate:.2g}",
        f"{step.texts_per_s:.0f} texts/s",
    ]
    if step.figure is not None:
        parts.append(f"{step.figure[0]} {step.figure[1]:.4f}")
    if step.eta_s is not None:
        minutes, seconds = divmod(round(step.eta_s), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return "  ".join(parts)

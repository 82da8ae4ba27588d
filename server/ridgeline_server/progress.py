"""How far a command is that measures for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """The step that a measurement is at, on the terminal's error stream; a line a step where that is no terminal.

    first: what is done before the first step
    """

    def __init__(self, console: Console, first: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = console
        # Never drawn by a thread of its own: what is measured needs the cores.
        self._bar = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task(first, total=None)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, description: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=description, completed=done, total=total, refresh=True)
        if not self._console.is_terminal:
            self._console.print(f"{done + 1}/{total} {description}", highlight=False, markup=False, soft_wrap=True)

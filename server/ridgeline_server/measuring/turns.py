"""Plans that are measured in turns, each round there and back, in processes that stay loaded while memory allows.

In turns, because a machine that others use drifts: what is timed last must not lose by that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, TypeVar

from ridgeline_server.measuring.process import PlanProcess

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def there_and_back(items: Sequence[T], number: int) -> Sequence[T]:
    """The items in the order of round `number`: forwards and backwards in turn."""
    return items if number % 2 == 0 else items[::-1]


class Residents(Generic[K]):
    """Processes that stay from one visit to the next, until together they hold too much; then each visit starts one.

    start:       starts the process of a plan
    most_bytes:  that all may hold
    """

    def __init__(self, start: Callable[[K], PlanProcess], most_bytes: float) -> None:
        self._start = start
        self._most_bytes = most_bytes
        self._stay = True
        self._processes: dict[K, PlanProcess] = {}

    def __enter__(self) -> Residents[K]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for key in list(self._processes):
            self.drop(key)

    @contextmanager
    def visit(self, key: K) -> Iterator[tuple[PlanProcess, bool]]:
        """The process of a plan, and whether it was just started. A process that raises is ended.

        Raises PlanError when it cannot be started.
        """
        is_new = key not in self._processes
        process = self._processes.get(key) or self._start(key)
        self._processes[key] = process
        try:
            yield process, is_new
        except BaseException:
            self.drop(key)  # one that hangs would slow down the others
            raise
        if sum(each.memory_bytes for each in self._processes.values()) > self._most_bytes:
            self._stay = False
        if not self._stay:
            for other in list(self._processes):
                self.drop(other)

    def drop(self, key: K) -> None:
        """End a plan's process, if it has one."""
        process = self._processes.pop(key, None)
        if process is not None:
            process.close()

"""How long to wait before a worker is started again: pure counting."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST_S = 0.05
# A worker that never comes up costs a load each time and will hardly come up sooner for being tried often.
_LONGEST_BEFORE_UP_S = 10.0
# One that came up serves for a while at least: killed by hand, or by one request after another.
_LONGEST_AFTER_UP_S = 2.0
_FREE_SHORT_LIVES = 3
SHORT_LIFE_S = 10.0


@dataclass(slots=True)
class Backoff:
    """Counts a replica's deaths in a row.

    failed_starts: workers that ended before they were ready
    short_lives:   workers that were ready for less than SHORT_LIFE_S
    """

    failed_starts: int = 0
    short_lives: int = 0

    def came_up(self) -> None:
        """A worker is ready."""
        self.failed_starts = 0

    def died(self, served_s: float | None) -> None:
        """A worker ended after it was ready for `served_s` seconds, None = it never was."""
        if served_s is None:
            self.failed_starts += 1
        elif served_s < SHORT_LIFE_S:
            self.short_lives += 1
        else:
            self.short_lives = 0

    @property
    def wait_s(self) -> float:
        """Seconds to wait before the next start: none for the first deaths of workers that were up, then ever more."""
        before_up = _grow(self.failed_starts, _LONGEST_BEFORE_UP_S)
        return max(before_up, _grow(self.short_lives - _FREE_SHORT_LIVES, _LONGEST_AFTER_UP_S))


def _grow(deaths: int, longest_s: float) -> float:
    return min(longest_s, _FIRST_S * 2.0 ** min(deaths, 30)) if deaths > 0 else 0.0

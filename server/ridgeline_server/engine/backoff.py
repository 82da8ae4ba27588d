"""How long to wait before a worker is started again: pure counting."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST_S = 0.05
# A worker that never comes up costs a load each time and will hardly come up sooner for being tried often.
_LONGEST_BEFORE_UP_S = 10.0
# One that was killed, by hand or by one request after another, serves in between.
_LONGEST_KILLED_S = 2.0
_FREE_SHORT_LIVES = 3
# Killed while it loads, a worker shows nothing; killed so often, it may be the kernel that has no memory for it.
_FREE_KILLS = 5
SHORT_LIFE_S = 10.0


@dataclass(slots=True)
class Backoff:
    """Counts a replica's deaths in a row.

    failures:    workers that ended by themselves before they were ready
    kills:       workers that somebody killed before they were ready
    short_lives: workers that were ready for less than SHORT_LIFE_S
    """

    failures: int = 0
    kills: int = 0
    short_lives: int = 0

    @property
    def failed_starts(self) -> int:
        """How often the replica failed to come up, as far as that is its own doing."""
        return self.failures + max(0, self.kills - _FREE_KILLS)

    def came_up(self) -> None:
        """A worker is ready."""
        self.failures = self.kills = 0

    def died(self, served_s: float | None, *, is_outside_kill: bool) -> None:
        """A worker ended after it was ready for `served_s` seconds, None = it never was."""
        if served_s is None:
            self.kills += is_outside_kill
            self.failures += not is_outside_kill
        elif served_s < SHORT_LIFE_S:
            self.short_lives += 1
        else:
            self.short_lives = 0

    @property
    def wait_s(self) -> float:
        """Seconds to wait before the next start: none for the first deaths of workers that were up, then ever more."""
        return max(
            _grow(self.failures, _LONGEST_BEFORE_UP_S),
            _grow(self.kills, _LONGEST_KILLED_S),
            _grow(self.short_lives - _FREE_SHORT_LIVES, _LONGEST_KILLED_S),
        )


def _grow(deaths: int, longest_s: float) -> float:
    return min(longest_s, _FIRST_S * 2.0 ** min(deaths, 30)) if deaths > 0 else 0.0

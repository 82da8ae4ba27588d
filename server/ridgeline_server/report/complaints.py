"""A library's warnings, told now and then: one that repeats itself would fill the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_EVERY_S = 60.0

logger = logging.getLogger(__name__)


class Complaints(logging.Handler):
    """Takes what a library logs from WARNING on, and says it in our log at most once in a while."""

    def __init__(self, library: str, about: str, clock: Callable[[], float] = time.monotonic) -> None:
        """library: name of its loggers' parent; about: what its warnings mean here"""
        super().__init__(logging.WARNING)
        self._about = about
        self._clock = clock
        self._next = float("-inf")
        self._more = 0
        self._counting = threading.Lock()
        self._library = logging.getLogger(library)
        self._propagates = self._library.propagate
        self._library.addHandler(self)
        self._library.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the record, or count it."""
        with self._counting:
            now = self._clock()
            if now < self._next:
                self._more += 1
                return
            self._next = now + _EVERY_S
            more, self._more = self._more, 0
        also = f" ({more} more such warnings since the last one that is told)" if more else ""
        logger.warning("%s: %s%s", self._about, record.getMessage(), also)

    def close(self) -> None:
        """Let the library log by itself again."""
        self._library.removeHandler(self)
        self._library.propagate = self._propagates
        super().close()

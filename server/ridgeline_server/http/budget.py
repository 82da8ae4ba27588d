"""How many bytes the bodies of unanswered requests hold."""

from __future__ import annotations

from ridgeline_server.errors import OverloadedError

_RETRY_AFTER_S = 1.0


class ByteBudget:
    """Bounds the bytes of all bodies, as far as they have arrived, until they have their answers."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes that are held at the moment."""
        return self._used

    def check(self, size: int) -> None:
        """Hold nothing yet. Raises: OverloadedError when `size` more bytes do not fit."""
        if self._used + size > self.max_bytes:
            raise OverloadedError(
                f"the bodies of the requests in flight hold {self._used} of {self.max_bytes} bytes, and this one "
                f"needs {size} more; try again after the seconds in Retry-After",
                _RETRY_AFTER_S,
            )

    def take(self, size: int) -> None:
        """Hold `size` more bytes. Raises: OverloadedError when they do not fit."""
        self.check(size)
        self._used += size

    def give_back(self, size: int) -> None:
        """The request that held `size` bytes was answered."""
        self._used -= size

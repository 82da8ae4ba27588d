"""What the process says on stderr: sentences for people, or a JSON object a line. Users' texts are in neither.

An exception's message may hold what a user sent, whichever library raised it: a traceback is told without it.
"""

from __future__ import annotations

import datetime
import logging
import os
import sys
import threading
import traceback
from collections import deque
from types import TracebackType
from typing import Any

import orjson

# Lines that wait for whoever reads them; past that they are dropped and counted, for a log must not hold up requests.
MOST_LINES = 10_000
_MOST_AT_ONCE = 500
_FLUSH_S = 2.0

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def told(error: BaseException | None) -> str:
    """A traceback, its causes before it, without the messages of the exceptions."""
    if error is None:
        return ""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{told(before)}{frames}{type(error).__module__}.{type(error).__qualname__}\n"


class DiscreetFormatter(logging.Formatter):
    """Of exceptions the traceback, and not the message, unless `has_texts`."""

    def __init__(self, has_texts: bool = False) -> None:
        super().__init__("%(message)s")
        self._has_texts = has_texts

    def formatException(self, ei: _ExcInfo) -> str:
        """The traceback."""
        return super().formatException(ei) if self._has_texts else told(ei[1]).rstrip()

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback that another handler made of the record is not taken over."""
        record.exc_text = None
        text = super().format(record)
        record.exc_text = None
        return text


class LineWriter:
    """Writes JSON lines to a file descriptor from a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._is_over = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, fields: dict[str, Any]) -> None:
        """Write a line soon."""
        if len(self._lines) >= MOST_LINES:
            self._dropped += 1
            return
        self._lines.append(orjson.dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE))
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what waits, unless nobody reads it, and end the thread."""
        self._is_over = True
        self._wake.set()
        self._thread.join(_FLUSH_S)

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            is_over = self._is_over
            while self._lines:
                _write_all(
                    self._descriptor,
                    b"".join(self._lines.popleft() for _ in range(min(len(self._lines), _MOST_AT_ONCE))),
                )
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                message = f"{dropped} lines of the log were dropped, since nobody read them in time"
                _write_all(self._descriptor, orjson.dumps({**_head("warning"), "message": message}) + b"\n")
            if is_over:
                return


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:  # whoever read the log has left; there is nowhere to complain
        return


def _head(level: str) -> dict[str, Any]:
    return {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"), "level": level}


class JsonHandler(logging.Handler):
    """Everything that is logged, as JSON lines: time, level, logger, message, and of exceptions where they were."""

    def __init__(self, writer: LineWriter, has_texts: bool = False) -> None:
        super().__init__()
        self.writer = writer
        self.setFormatter(DiscreetFormatter(has_texts))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            fields = {**_head(record.levelname.lower()), "logger": record.name, "message": record.getMessage()}
            if record.exc_info and self.formatter is not None:
                fields["traceback"] = self.formatter.formatException(record.exc_info)
            self.writer.write(fields)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what waits."""
        self.writer.close()
        super().close()

    def request(self, fields: dict[str, Any]) -> None:
        """Write what there is to say of a request."""
        self.writer.write({**_head("info"), "event": "request", **fields})


def _first_line(record: logging.LogRecord) -> bool:
    """Of a record the first line: asyncio shows in the others what a task failed with, or was to return."""
    record.msg, record.args = record.getMessage().partition("\n")[0], None
    return True


def set_up_json(has_texts: bool) -> JsonHandler:
    """Log as JSON lines on stderr from now on."""
    handler = JsonHandler(LineWriter(sys.stderr.fileno()), has_texts)
    _set_up(handler, has_texts)
    return handler


def set_up_text(handler: logging.Handler, has_texts: bool) -> None:
    """Log sentences through the handler from now on."""
    handler.setFormatter(DiscreetFormatter(has_texts))
    _set_up(handler, has_texts)


def _set_up(handler: logging.Handler, has_texts: bool) -> None:
    if not has_texts:
        logging.getLogger("asyncio").addFilter(_first_line)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)

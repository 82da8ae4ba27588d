"""Calls in a process of their own, which may crash or hang: an illegal access ends CUDA for its process for good."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

_LONGEST_MESSAGE = 400


@dataclass(frozen=True)
class Failure:
    """Why a call gave no result, in a sentence."""

    message: str


class Caller(Protocol):
    """Calls methods of an object that may be elsewhere."""

    def call(self, method: str, *args: Any, timeout_s: float = 60.0) -> Any:
        """The method's result, or a Failure if it raised, crashed its process or took longer than `timeout_s`."""


class Inline:
    """Calls methods of an object here: what they raise becomes a Failure, time is not looked at."""

    def __init__(self, subject: object):
        self._subject = subject

    def call(self, method: str, *args: Any, timeout_s: float = 60.0) -> Any:
        """See `Caller`."""
        try:
            return getattr(self._subject, method)(*args)
        except Exception as error:
            return Failure(_sentence(error))


class Worker:
    """Calls methods of `make()` in a child process; after a crash or a call that hangs, in a new one."""

    def __init__(self, make: Callable[[], object]):
        """make: a function of a module, for it is pickled"""
        self._make = make
        self._context = multiprocessing.get_context("spawn")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def call(self, method: str, *args: Any, timeout_s: float = 60.0) -> Any:
        """See `Caller`. The first call of a process also waits for its imports, which `timeout_s` does not count."""
        pipe = self._pipe
        if pipe is None or self._process is None or not self._process.is_alive():
            pipe = self._start()
        try:
            pipe.send((method, args))
            if not pipe.poll(timeout_s):
                self.close()
                return Failure(f"it did not finish within {timeout_s:.0f} s")
            is_sound, result = pipe.recv()
        except (EOFError, OSError):
            code = self.close()
            return Failure(f"its process ended with code {code}")
        return result if is_sound else Failure(result)

    def close(self) -> int | None:
        """End the process; its exit code, if it had ended by itself."""
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if process is None:
            return None
        process.join(1.0)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        return code

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Connection:
        self.close()
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs, self._make), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        return self._pipe


def _serve(pipe: Connection, make: Callable[[], object]) -> None:
    pipe.send("ready")
    subject: object | None = None
    while True:
        try:
            method, args = pipe.recv()
        except EOFError:
            return
        try:
            subject = subject or make()
            reply = (True, getattr(subject, method)(*args))
        except Exception as error:
            reply = (False, _sentence(error))
        pipe.send(reply)
        if not reply[0] and not _is_usable():
            os._exit(1)


def _is_usable() -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except Exception:
        return False
    return True


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST_MESSAGE] if text else type(error).__name__

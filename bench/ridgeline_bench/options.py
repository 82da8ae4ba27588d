"""What the user asked for, checked before anything runs."""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass
from pathlib import Path

from ridgeline_bench.errors import UsageError

_SPARE_FILES = 64
_MAX_PROCESSES = 64


@dataclass(frozen=True, slots=True)
class Options:
    """The command's flags. Exactly one of rate and concurrency is set after `checked`."""

    url: str
    rate: float | None
    concurrency: int | None
    duration_s: float
    warmup_s: float
    texts: Path | None
    texts_per_request: int
    path: str | None
    model: str | None
    processes: int
    timeout_s: float
    request_timeout_s: float | None
    max_connections: int
    seed: int
    out: Path

    @property
    def loop(self) -> str:
        return "open" if self.rate is not None else "closed"

    @property
    def load_in_words(self) -> str:
        """Such as "closed loop, 32 connections" or "open loop, 200 requests/s"."""
        if self.rate is not None:
            return f"open loop, {self.rate:g} requests/s"
        plural = "" if self.concurrency == 1 else "s"
        return f"closed loop, {self.concurrency} connection{plural}"


def check(options: Options) -> None:
    """Raises UsageError for numbers that make no sense, saying which are allowed."""
    if options.rate is not None and options.concurrency is not None:
        raise UsageError("--rate (open loop) and --concurrency (closed loop) exclude each other; give one of them")
    if options.rate is None and options.concurrency is None:
        raise UsageError("neither --rate nor --concurrency is given")
    if options.rate is not None and not (0 < options.rate <= 1e6):
        raise UsageError(f"--rate is {options.rate:g}; it should be above 0 and at most 1000000 requests/s")
    if options.concurrency is not None and options.concurrency < 1:
        raise UsageError(f"--concurrency is {options.concurrency}; it should be at least 1")
    for flag, seconds, least in (
        ("--duration", options.duration_s, 0.1),
        ("--warmup", options.warmup_s, 0.0),
        ("--timeout", options.timeout_s, 0.001),
        ("--request-timeout", 1.0 if options.request_timeout_s is None else options.request_timeout_s, 0.001),
    ):
        if not math.isfinite(seconds) or seconds < least:
            raise UsageError(f"{flag} is {seconds:g}; it should be at least {least:g} seconds")
    for flag, number in (
        ("--texts-per-request", options.texts_per_request),
        ("--processes", options.processes),
        ("--max-connections", options.max_connections),
    ):
        if number < 1:
            raise UsageError(f"{flag} is {number}; it should be at least 1")
    _check_processes(options)
    _allow_open_files(options)


def _check_processes(options: Options) -> None:
    most = min(_MAX_PROCESSES, options.concurrency or _MAX_PROCESSES)
    if options.processes > most:
        raise UsageError(f"--processes is {options.processes}; it should be at most {most} here")


def _allow_open_files(options: Options) -> None:
    """Each connection is an open file of a generator process; the limit is raised where that is allowed."""
    connections = options.concurrency or options.max_connections
    needed = math.ceil(connections / options.processes) + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UsageError(
            f"{connections} connections need {needed} open files per process, and this system allows {hard}; "
            "use fewer connections, more --processes, or raise the limit (ulimit -n)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def writable_directory(path: Path) -> None:
    """Make the directory and see that files can be written there. Raises UsageError."""
    probe = path / ".ridgeline-bench"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UsageError(f"cannot write to --out {path}: {error.strerror or error}") from None

"""Why a benchmark ends early. The command prints the message and exits with the code.

BenchError
├── UsageError    exit code 2: what was asked for makes no sense; the message says what to change
└── RunError      exit code 1: the run failed; the message says where and what to look at
"""

from __future__ import annotations


class BenchError(Exception):
    """A benchmark that has no result."""

    exit_code = 1


class UsageError(BenchError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class RunError(BenchError):
    """The server or the generator failed."""

"""What can go wrong in tuning, and the exit code of each.

TuneError              1  nothing can be tuned, or no plan passed
└── TuneUsageError     2  an option has a value that is not allowed
"""

from __future__ import annotations


class TuneError(Exception):
    """Tuning cannot be done; the message is one sentence for the user."""

    exit_code = 1


class TuneUsageError(TuneError):
    """An option has a value that is not allowed."""

    exit_code = 2

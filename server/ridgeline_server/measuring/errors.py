"""What can go wrong in measuring, and the exit code of each.

MeasuringError         1  nothing can be measured
├── SpecError          2  what was asked for makes no sense
└── PlanError          -  one plan failed; the others go on
"""

from __future__ import annotations


class MeasuringError(Exception):
    """Nothing can be measured; the message is one sentence for the user."""

    exit_code = 1


class SpecError(MeasuringError):
    """What was asked for makes no sense."""

    exit_code = 2


class PlanError(MeasuringError):
    """A plan cannot be loaded or run; the message says why."""

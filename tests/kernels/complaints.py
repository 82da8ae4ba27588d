"""Failing with all that is wrong, a line each."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def assert_none(complaints: Iterable[str]) -> None:
    """Fail with one line a complaint."""
    lines = list(complaints)
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)

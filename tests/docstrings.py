"""Real prose for tests, read from the standard library once a test run."""

from __future__ import annotations

import functools

from ridgeline_bench.corpus import standard_library_docstrings


@functools.cache
def docstrings() -> tuple[str, ...]:
    """Docstrings of the standard library in the order in which `ridgeline bench` sends them."""
    return standard_library_docstrings().texts

"""The kernels' README: its code runs, its files exist, and it names every public function."""

from __future__ import annotations

import re
from pathlib import Path

import ridgeline_kernels

PATH = Path(__file__).parents[2] / "kernels" / "README.md"
README = PATH.read_text(encoding="utf-8")


def test_the_code_runs_and_prints_what_it_says() -> None:
    code = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert code
    for block in code:
        names: dict[str, object] = {}
        exec(compile(block, str(PATH), "exec"), names)
        assert str(names["sentences"].shape) in block  # type: ignore[attr-defined]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (PATH.parent / target).exists(), target


def test_every_public_function_is_named() -> None:
    assert not {name for name in ridgeline_kernels.__all__ if not re.search(rf"\b{name}\b", README)}

"""The threat table names tests that are there, and the promises' links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """Threat, defence and tests of each row."""
    table = GUIDE.partition("## Threats")[2]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return cells[2:]


def test_every_threat_has_a_defence_and_a_test_that_exists() -> None:
    sources = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^(?:async )?def (test_\w+)\(", sources, re.MULTILINE))
    assert len(rows()) >= 25
    for threat, defence, proofs in rows():
        named = re.findall(r"`(test_\w+)`", proofs)
        assert threat and defence and named
        assert not set(named) - there, f"{threat}: {set(named) - there} are no tests"


def test_flags_and_routes_that_are_named_are_there() -> None:
    server = ROOT / "server/ridgeline_server"
    files = (server / "serving.py", server / "keys_cli.py", ROOT / "bench/experiments/fuzz.py")
    flags = "".join(file.read_text() for file in files)
    for flag in set(re.findall(r"--([a-z][a-z-]+)", GUIDE)) - {"cacert"}:
        assert flag.replace("-", "_") in flags or f"--{flag}" in flags, flag


def test_links_lead_somewhere() -> None:
    for file in (ROOT / "SECURITY.md", ROOT / "docs/security.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), target

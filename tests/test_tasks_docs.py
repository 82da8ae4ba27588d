"""docs/tasks.md: its tables are those of the registry, and its commands are answered."""

from __future__ import annotations

import re
import shlex

import pytest

from ridgeline_server.tasks.registry import TASKS
from tests.server.http.task_engine import TaskEngine
from tests.server.http_fakes import Server
from tests.tasks_tables import PAGE, SHARED, tables, written

TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)\n```", TEXT, re.DOTALL | re.MULTILINE)
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def server() -> Server:
    return Server(TaskEngine())


def asked(command: str) -> tuple[str, str]:
    """Path and body of a curl command."""
    words = shlex.split(command)
    assert words[:2] == ["curl", "-s"] and words[3:5] == ["-H", "Content-Type: application/json"] and words[5] == "-d"
    assert words[2].startswith(ADDRESS) and len(words) == 7
    return words[2].removeprefix(ADDRESS), words[6]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: asked(command)[0])
def test_commands_are_answered(command: str, server: Server) -> None:
    path, body = asked(command)
    reply = server.post(path, body.encode())
    assert reply.status == 200, reply.body


def test_every_task_has_a_section_a_command_and_a_table() -> None:
    paths = {asked(command)[0] for command in COMMANDS}
    for name in TASKS:
        assert f"\n### {name}\n" in TEXT and f"/tasks/{name}" in paths and f"<!-- parameters of {name} -->" in TEXT, (
            name
        )


def test_tables_are_those_of_the_registry() -> None:
    assert written(TEXT) == TEXT, "run: python -m tests.tasks_tables"
    found = set(re.findall(r"<!-- parameters of ([a-z-]+) -->", TEXT))
    assert found == {*TASKS, SHARED} == set(tables())


def test_links_lead_somewhere() -> None:
    headings = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in re.findall(r"^#+ (.+)$", TEXT, re.M)}
    for target, _, anchor in re.findall(r"\]\((?!http)([^)#]*)(#([^)]+))?\)", TEXT):
        assert (PAGE.parent / target).exists(), target
        if not target:
            assert anchor in headings, anchor

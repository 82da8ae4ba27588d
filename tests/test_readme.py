"""The README's commands and code, run against a real server."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.running_server import RunningServer, running_server

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def server(default_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    bundle = tmp_path_factory.mktemp("readme") / "all-MiniLM-L6-v2"
    bundle.symlink_to(default_bundle, target_is_directory=True)
    with running_server(str(bundle)) as running:
        yield running


def curl(command: str, server: RunningServer) -> httpx.Response:
    """What the curl command would ask for."""
    words = shlex.split(command)
    assert words.pop(0) == "curl"
    headers, content, url = {}, None, ""
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            content = words.pop(0)
        elif not word.startswith("-"):
            url = word.replace(ADDRESS, server.url)
    return httpx.request("GET" if content is None else "POST", url, headers=headers, content=content)


@pytest.mark.parametrize("command", blocks("sh"), ids=lambda text: text.split()[-1][:40])
def test_curl_lines_work(command: str, server: RunningServer) -> None:
    response = curl(command, server)
    assert response.status_code == 200, response.text
    assert response.json()


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_work(code: str, server: RunningServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, server.url)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "12"]


def test_blocks_were_found() -> None:
    assert len(blocks("sh")) >= 3
    assert len(blocks("python")) >= 1


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_served_route_is_in_the_readme_or_docs(server: RunningServer) -> None:
    pages = README + "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    for path in httpx.get(f"{server.url}/openapi.json").json()["paths"]:
        assert path.split("{")[0].rstrip("/") in pages, path

"""The server runs no code of bundles and fetches nothing: what its modules may call and import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVED = ("server/ridgeline_server", "kernels/ridgeline_kernels/packed", "export/ridgeline_export/bundle.py")
FILES = sorted(
    file
    for place in SERVED
    for file in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*.py"))
    if not file.name.endswith(("_pb2.py", "_pb2_grpc.py"))
)
# Modules that fetch, or that run what they read.
FETCH = {"urllib.request", "requests", "httpx", "aiohttp", "ftplib", "urllib3", "huggingface_hub", "http.client"}
FETCH |= {"opentelemetry.exporter"}
RUN = {"pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib", "runpy", "code"}
CALLS = {"eval", "exec", "__import__", "compile", "torch.load", "torch.hub.load", "numpy.load", "np.load", "yaml.load"}
# The processes of one server talk in pickles over a private pair of sockets; the probe asks its own container; traces
# go to the collector that a flag names.
ALLOWED = {
    ("server/ridgeline_server/engine/framing.py", "pickle"),
    ("server/ridgeline_server/probe.py", "http.client"),
    ("server/ridgeline_server/report/tracing.py", "opentelemetry.exporter"),
}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_module_fetches_unpickles_or_runs_what_it_reads(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    name = file.relative_to(ROOT).as_posix()
    for module in FETCH | RUN:
        if any(f"{each}.".startswith(f"{module}.") for each in imported(tree)):
            assert (name, module) in ALLOWED, f"{name} imports {module}"
    assert not set(called(tree)) & CALLS, name


def test_the_modules_were_found() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in FILES}
    assert {"server/ridgeline_server/engine/worker.py", "server/ridgeline_server/http/door.py"} <= names
    assert all((ROOT / name).is_file() for name, _ in ALLOWED)


def test_no_component_trusts_the_code_of_a_model() -> None:
    for file in ROOT.glob("*/ridgeline_*/**/*.py"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"trust_remote_code\s*=\s*(?!False)", text), file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "load"):
                told = {word.arg: ast.unparse(word.value) for word in node.keywords}
                is_own = file.name == "rank.py"  # a process that was started a moment before, from memory
                assert ast.unparse(node.func) != "torch.load" or told.get("weights_only") == "True" or is_own, file


def test_the_image_runs_without_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] == "10001"
    stages = "\n".join(lines).split("\nFROM ")
    for stage in stages:
        last = re.findall(r"^USER (\S+)$", stage, re.MULTILINE)[-1:]
        assert last in ([], ["10001"]), stage

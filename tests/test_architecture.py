"""The walls of the house: layout, arrows between components, and what serving may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
COMPONENTS = {path.parent.parent.name: path.parent.name for path in ROOT.glob("*/ridgeline_*/__init__.py")}


def test_import_arrows_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports() == 0


def test_every_component_root_holds_one_package_and_is_none_itself() -> None:
    assert {"estimate", "export", "server", "bench"} <= set(COMPONENTS)
    for folder, package in COMPONENTS.items():
        assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/ must not be a package"
        assert package == f"ridgeline_{folder}"


def test_folders_hold_code() -> None:
    for init in ROOT.glob("*/ridgeline_*/**/__init__.py"):
        others = [path for path in init.parent.iterdir() if path.suffix == ".py" and path != init]
        assert others, f"{init.parent} is an empty shell"


@pytest.mark.parametrize(
    "module",
    ["ridgeline_server.running", "ridgeline_server.engine.worker", "ridgeline_server.runtimes.openvino_runtime"],
)
def test_serving_loads_neither_torch_nor_transformers(module: str) -> None:
    heavy = "{'torch', 'transformers', 'optimum', 'onnx', 'nncf', 'matplotlib'}"
    code = f"import sys, {module}; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'onnxruntime', 'openvino', 'fastapi', 'matplotlib', 'numpy'}"
    code = f"import sys, ridgeline_server.cli; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

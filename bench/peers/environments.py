"""Peers' environments under build/peers, one each, at pinned versions, and the model in the form that they read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from ridgeline_export.source import find_model

HERE = Path(__file__).parent
ROOT = Path("build/peers")
# Graphs that a peer optimizes for itself stay here too.
CACHE = (ROOT / "cache").absolute()
_READY = ".installed"


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, made first when it is not there; that takes minutes."""
    folder = ROOT / name
    requirements = HERE / "requirements" / f"{name}.txt"
    mark = folder / _READY
    wanted = requirements.read_text()
    if not mark.exists() or mark.read_text() != wanted:
        print(f"… installing {name} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", str(requirements)], check=True)
        mark.write_text(wanted)
    return (folder / "bin" / "python").absolute()


def model_directory(bundle: Path) -> Path:
    """The embedded default model, and its fp32 graph beside it as model.onnx."""
    folder = ROOT / "model"
    if not (folder / "model.onnx").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(find_model("default").directory, folder)
        for file in (bundle / "fp32").iterdir():
            shutil.copy(file, folder)
    return folder.absolute()

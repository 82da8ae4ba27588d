"""What the Triton runtime needs here, found without importing any of it: torch alone takes seconds."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from ridgeline_server.runtimes.gpus import compute_capabilities

_PACKAGES = ("torch", "triton", "onnx")
_LEAST_CAPABILITY = (8, 0)
_GET_KERNELS = "install the extra: pip install 'ridgeline[kernels]'"


def triton_problem(kind: str) -> str | None:
    """Why the Triton runtime cannot run on a kind of device, and what to do; None when it can."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        are = "are" if len(missing) > 1 else "is"
        return f"runtime triton needs {', '.join(missing)}, which {are} not installed; {_GET_KERNELS}"
    if kind == "cpu":
        return None
    if not has_cuda_torch():
        return (
            "runtime triton needs a torch that is built for CUDA, and the installed one is not; "
            "replace it: pip uninstall torch; pip install 'ridgeline[kernels]'"
        )
    if not has_compiler():
        return (
            "runtime triton compiles what launches its kernels, and finds no C compiler or no Python headers here; "
            "install them, on Debian and Ubuntu with: apt-get install gcc libc6-dev python3-dev"
        )
    old = [f"cuda:{index}" for index, found in enumerate(compute_capabilities()) if found < _LEAST_CAPABILITY]
    if old:
        return f"runtime triton needs GPUs of compute capability 8.0 (Ampere) or newer, which {', '.join(old)} is not"
    return None


def has_compiler() -> bool:
    """True when Triton can build a Python module: with $CC, gcc or clang, and Python's headers."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return compiler is not None and (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


def has_cuda_torch() -> bool:
    """True when the installed torch is a CUDA build, as its version module says."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=\n]*=\s*['\"]\d", text, re.MULTILINE) is not None

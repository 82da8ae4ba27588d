"""What the Triton runtime needs here, found without importing any of it: torch alone takes seconds."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from ridgeline_server.runtimes.devices import Device
from ridgeline_server.runtimes.gpus import compute_capabilities

_PACKAGES = ("torch", "triton", "onnx")
_LEAST_CAPABILITY = (8, 0)
_GET_KERNELS = "install the extra: pip install 'ridgeline[kernels]'"


def triton_problem(kind: str, gpus: Collection[int] | None = None) -> str | None:
    """Why the Triton runtime cannot run on a kind of device, and what to do; None when it can.

    gpus: numbers of those that it is to run on, each of which has to be new enough; None = one that is will do
    """
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
    old = _old_gpus()
    if gpus is None:
        refused = old if len(old) == len(compute_capabilities()) else ()
    else:
        refused = tuple(index for index in old if index in gpus)
    if not refused:
        return None
    return (
        f"runtime triton needs GPUs of compute capability 8.0 (Ampere) or newer, which {_names(refused)} "
        f"{'are' if len(refused) > 1 else 'is'} not; name others with --devices"
    )


def new_enough(gpus: tuple[Device, ...]) -> tuple[tuple[Device, ...], str]:
    """The GPUs that Triton compiles for, all if it does for none; and a clause that names the others, or nothing."""
    old = _old_gpus()
    new = tuple(gpu for gpu in gpus if gpu.index not in old)
    if not new or not old:
        return gpus, ""
    are = "are" if len(old) > 1 else "is"
    return new, f"; {_names(old)} {are} left out, older than compute capability 8.0 (Ampere), which triton needs"


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


def _old_gpus() -> tuple[int, ...]:
    """Numbers of the GPUs that Triton compiles nothing for; one that cannot be asked is not held to be old."""
    found = enumerate(compute_capabilities())
    return tuple(index for index, capability in found if capability is not None and capability < _LEAST_CAPABILITY)


def _names(indexes: Collection[int]) -> str:
    return " and ".join(f"cuda:{index}" for index in indexes)

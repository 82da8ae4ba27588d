"""Launch parameters: block sizes, warps and stages, from JSON files per device and shape class.

A file is `{"device": …, "ops": {op: {shape class: {parameter: value}}}}`. For a device the files are asked in the order
its own name (`nvidia_h200.json`), its compute capability (`sm_90.json`), `default.json`; in each, the exact shape
class, the class without its last words one after the other ("m<=16 n<=1024", "m<=16"), and then the op's `default`.
`python -m ridgeline_kernels.tune` writes a device's own file; nothing is tuned while a request waits.
RIDGELINE_KERNELS_CONFIGS names a directory whose files go before the package's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ridgeline_kernels.errors import ConfigurationError

PACKAGED = Path(__file__).parent / "configs"
DIRECTORY_VARIABLE = "RIDGELINE_KERNELS_CONFIGS"

Lookup = Callable[[str, str], Mapping[str, Any]]

_lookup: ContextVar[Lookup | None] = ContextVar("lookup", default=None)


def launch_parameters(op: str, shape_class: str, device: torch.device) -> Mapping[str, Any]:
    """The launch parameters of `op` for a shape class on a device.

    Raises ConfigurationError if no file has them.
    """
    lookup = _lookup.get()
    if lookup is not None:
        return lookup(op, shape_class)
    return find_parameters(op, shape_class, device_files(device))


@contextmanager
def looking_up(lookup: Lookup) -> Iterator[None]:
    """Take launch parameters from `lookup(op, shape_class)`, as the tuner and the compile sweep do."""
    token = _lookup.set(lookup)
    try:
        yield
    finally:
        _lookup.reset(token)


@lru_cache(maxsize=4096)
def find_parameters(op: str, shape_class: str, files: tuple[str, ...]) -> Mapping[str, Any]:
    """The entry of the first of `files` (names without .json) that has the op's shape class or one that holds it."""
    for name in files:
        classes = read_file(name).get(op, {})
        for holding in holding_classes(shape_class):
            if holding in classes:
                return dict(classes[holding])
    raise ConfigurationError(f"no launch parameters for {op} ({shape_class}): looked in {', '.join(files)}")


def holding_classes(shape_class: str) -> Iterator[str]:
    """The shape class, what is left without its last word, without its last two, …, and "default"."""
    words = shape_class.split()
    for count in range(len(words), 0, -1):
        yield " ".join(words[:count])
    yield "default"


@lru_cache(maxsize=64)
def device_files(device: torch.device) -> tuple[str, ...]:
    """Names of the files asked for a device, first the most particular."""
    if device.type != "cuda":
        return ("default",)
    major, minor = torch.cuda.get_device_capability(device)
    return (device_slug(torch.cuda.get_device_name(device)), f"sm_{major}{minor}", "default")


def device_slug(name: str) -> str:
    """A device's name as a file's: "NVIDIA H100 80GB HBM3" → "nvidia_h100_80gb_hbm3"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@lru_cache(maxsize=64)
def read_file(name: str) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """The ops of the configuration file `name`; empty if there is none of that name.

    Raises ConfigurationError if a file is not JSON of the right form.
    """
    merged: dict[str, dict[str, Mapping[str, Any]]] = {}
    for directory in [PACKAGED] + [Path(own) for own in [os.environ.get(DIRECTORY_VARIABLE)] if own]:
        path = directory / f"{name}.json"
        if path.exists():
            for op, classes in _read(path).items():
                merged.setdefault(op, {}).update(classes)
    return merged


def _read(path: Path) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ops: Mapping[str, Mapping[str, Mapping[str, Any]]] = content["ops"]
        is_sound = all(isinstance(entry, dict) for classes in ops.values() for entry in classes.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} cannot be read as launch parameters: {error!r}") from error
    if not is_sound:
        raise ConfigurationError(f'{path} must hold {{"ops": {{op: {{shape class: {{parameter: value}}}}}}}}')
    return ops

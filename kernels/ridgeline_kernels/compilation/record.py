"""What compiling gave before: `kernels/resources.json`, by a digest of everything that the compiler was given.

Compiling all kernels takes minutes, finding their digests seconds. A kernel whose source, launch parameters and types
of arguments are as recorded compiles to what is recorded: the tests compile the others, and a sample of the recorded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import triton

from ridgeline_kernels.compilation.compiled import Resources
from ridgeline_kernels.errors import ConfigurationError

Record = Mapping[str, Resources]
"""Digest → what compiling gave."""


class Digests:
    """The digest of the kernel that Triton was asked for last, and of each that it compiled."""

    def __init__(self, known: Record) -> None:
        self.known = known
        self.last = ""

    def __call__(self, *, fn: Any, compile: Mapping[str, Any], **_: Any) -> bool:
        """Triton's hook before it compiles: True keeps it from compiling what is known."""
        given = json.loads(compile["specialization_data"])
        # A path of this installation; the library belongs to Triton's version.
        given["options"].pop("extern_libs", None)
        content = [triton.__version__, fn.jit_function.cache_key, given]
        self.last = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        return self.last in self.known


@contextmanager
def digesting(known: Record) -> Iterator[Digests]:
    """Let Triton skip what is known, and tell the digest of what it is asked for."""
    runtime = triton.knobs.runtime
    before, digests = runtime.jit_cache_hook, Digests(known)
    runtime.jit_cache_hook = digests
    try:
        yield digests
    finally:
        runtime.jit_cache_hook = before


def read_record(path: Path) -> Record:
    """The record for the Triton that is installed; empty if the file is absent or of another Triton.

    Raises ConfigurationError if the file is not a record.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kernels = {digest: Resources(**resources) for digest, resources in content["kernels"].items()}
        return kernels if content["triton"] == triton.__version__ else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} is not a record of compiled kernels: {error!r}; delete it") from error


def write_record(path: Path, record: Record) -> None:
    """Write the record, a kernel a line, in the order of the digests."""
    lines = [f'    "{digest}": {json.dumps(asdict(resources))}' for digest, resources in sorted(record.items())]
    body = ",\n".join(lines)
    path.write_text(f'{{\n  "triton": "{triton.__version__}",\n  "kernels": {{\n{body}\n  }}\n}}\n', encoding="utf-8")


def without_sample(record: Record, one_in: int) -> Record:
    """The record without one in `one_in` of its kernels, always the same ones, which are then compiled."""
    return {digest: resources for digest, resources in record.items() if int(digest, 16) % one_in}

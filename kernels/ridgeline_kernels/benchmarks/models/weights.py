"""Weights for graphs that travel without: the same in every precision, so that errors are of rounding alone.

A weight is drawn in fp32 by its name and rounded to what the graph stores: to its dtype, or, for the codes and scales
of quantized linears (`NAME.codes`, `NAME.scale`), as quantized from the fp32 weight called NAME.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ridgeline_kernels.errors import GraphFileError
from ridgeline_kernels.fused.quantize import quantize_rows_reference
from ridgeline_kernels.packed.reading import read_graph
from ridgeline_kernels.packed.seeding import seeded
from ridgeline_kernels.packed.tensors import Mapped

_FORMATS = {torch.int8: "int8", torch.float8_e4m3fn: "fp8"}


def write_with_weights(graph: Path, directory: Path, seed: int = 0) -> Path:
    """Copy a graph into `directory` and write the file of weights that it names beside it; returns the copy.

    Raises GraphError if the graph cannot be read, or has its weights in several files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    copy = Path(shutil.copy(graph, directory / "model.onnx"))
    program = read_graph(copy, allow_missing_weights=True)
    missing = {name: constant for name, constant in program.constants.items() if isinstance(constant, Mapped)}
    files = {constant.path for constant in missing.values()}
    if len(files) != 1:
        raise GraphFileError(f"{graph} has its weights in {len(files)} files; one is allowed: make it again")
    draw = seeded(program, seed)
    codes = {name.removesuffix(".codes"): constant for name, constant in missing.items() if name.endswith(".codes")}
    [file] = files
    # Written under another name: where the file is, no value is drawn.
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as stream:
        for name, constant in sorted(missing.items(), key=lambda entry: entry[1].offset):
            stream.seek(constant.offset)
            stream.write(_bytes(_value(name, constant, codes, draw)))
    partial.rename(file)
    return copy


def _value(
    name: str, constant: Mapped, codes: dict[str, Mapped], draw: Callable[[str, Mapped], torch.Tensor]
) -> torch.Tensor:
    base, _, part = name.rpartition(".")
    coded = codes.get(base) if part in ("codes", "scale") else None
    if coded is None:
        if not constant.dtype.is_floating_point:
            return draw(name, constant)
        return draw(name, replace(constant, dtype=torch.float32)).to(constant.dtype)
    weight = draw(base, replace(coded, name=base, dtype=torch.float32))
    values, scale = quantize_rows_reference(weight, _FORMATS[coded.dtype])
    return values if part == "codes" else scale.to(constant.dtype)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()

"""Random weights for a graph that travels without its own: the same on every device, of a scale that stays finite."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ridgeline_kernels.errors import GraphFileError
from ridgeline_kernels.packed.dialect import dialect
from ridgeline_kernels.packed.graph import DOMAIN, Constant, Graph, Node
from ridgeline_kernels.packed.tensors import Mapped

# The standard deviation of codes that are uniform in -127 .. 127, and of random e4m3 codes.
_CODE_DEVIATION = {torch.int8: 73.3, torch.float8_e4m3fn: 100.0}


@dataclass(frozen=True, slots=True)
class _Role:
    """What a constant is for. kind: the name of an operand; factor: that its values are multiplied by."""

    kind: str
    factor: float = 1.0


def seeded(graph: Graph, seed: int) -> Callable[[str, Constant], torch.Tensor]:
    """A function that reads a constant, or, where its file is missing, draws it by its name, shape, dtype and use.

    Weights of linears have variance 1 / inputs, those of norms are near 1, biases small, codes take the whole range
    and their scales give the weight that variance: activations of every layer stay near 1.
    """
    roles = _roles(graph)

    def read(name: str, constant: Constant) -> torch.Tensor:
        if not isinstance(constant, Mapped) or constant.path.exists():
            return constant.read()
        return _draw(name, constant, roles.get(name, _Role("")), seed)

    return read


def _roles(graph: Graph) -> dict[str, _Role]:
    roles: dict[str, _Role] = {}
    for node in graph.nodes:
        if node.domain == DOMAIN:
            for operand, name in zip(dialect().ops[node.op_type].inputs, node.inputs, strict=False):
                roles[name] = _role(graph, node, operand)
        elif node.op_type == "LayerNormalization":
            roles[node.inputs[1]] = _Role("norm")
        elif node.op_type in ("MatMul", "Gemm") and not node.attributes.get("transB"):
            roles[node.inputs[1]] = _Role("columns")
    return roles


def _role(graph: Graph, node: Node, operand: str) -> _Role:
    if operand == "weight" and node.op_type in ("AddNorm", "EmbeddingLayerNorm"):
        return _Role("norm")
    codes = graph.constants.get(node.inputs[2]) if node.op_type == "QuantizedLinear" else None
    if operand == "weight_scale" and codes is not None:
        return _Role("scale", 1 / (_CODE_DEVIATION.get(codes.dtype, 1.0) * codes.shape[-1] ** 0.5))
    return _Role(operand)


def _draw(name: str, constant: Mapped, role: _Role, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    dtype, shape = constant.dtype, constant.shape
    if dtype == torch.int8:
        return torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
    if not dtype.is_floating_point:
        if role.kind == "buckets":
            return torch.zeros(shape, dtype=dtype)
        raise GraphFileError(f"the constant {name!r} of {dtype} is missing, and no seed makes up for it: copy its file")
    values = torch.randn(shape, generator=generator)
    if dtype == torch.float8_e4m3fn:
        return (values * _CODE_DEVIATION[dtype]).clamp(-448, 448).to(dtype)
    if role.kind == "norm":
        values = 1 + 0.1 * values
    elif role.kind == "scale":
        values = (1 + 0.1 * values.clamp(-3, 3)) * role.factor
    elif len(shape) < 2:
        values = 0.1 * values
    else:
        values = values / shape[0 if role.kind == "columns" else -1] ** 0.5
    return values.to(dtype)

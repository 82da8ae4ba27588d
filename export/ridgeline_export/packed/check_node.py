"""Is a node of the dialect as the schema says?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.dialect import Attribute, OpSchema, dialect
from ridgeline_export.packed.specification import ValueSpec, op_inputs, op_outputs

if TYPE_CHECKING:
    import onnx_ir

# Inputs that mean nothing without another.
_NEEDS = {
    "EmbeddingLayerNorm": (
        ("position", "position_ids"),
        ("position_ids", "position"),
        ("token_type_ids", "token_type"),
    ),
}
# An axis of size 1, for all, or of the size that the rest of the name stands for.
_ONE_OR = "1 or "
_TYPES = {"int": "INT", "float": "FLOAT", "string": "STRING"}


def describe(node: onnx_ir.Node) -> str:
    """A node by op and name, as errors call it."""
    return f"{node.op_type} node '{node.name or node.outputs[0].name}'"


def check_node(node: onnx_ir.Node) -> None:
    """Hold a node of the dialect's domain to the schema: values by what is known of their types and shapes.

    Raises ConversionError, which names the node.
    """
    schema = dialect().ops.get(node.op_type)
    if schema is None:
        known = ", ".join(dialect().ops)
        raise _error(node, f"is no op of the dialect's version {dialect().version}, which has {known}")
    _check_presence(node, schema)
    _check_attributes(node, schema)
    _check_types(node)
    _check_shapes(node)


def _error(node: onnx_ir.Node, what: str) -> ConversionError:
    return ConversionError(f"the packed graph's {describe(node)} {what}")


def _check_presence(node: onnx_ir.Node, schema: OpSchema) -> None:
    for kind, names, values in (("input", schema.inputs, node.inputs), ("output", schema.outputs, node.outputs)):
        if len(values) > len(names):
            raise _error(node, f"has {len(values)} {kind}s; {schema.name} has at most {len(names)}: {', '.join(names)}")
    given = {name for name, value in zip(schema.inputs, node.inputs, strict=False) if value is not None}
    given |= {name for name, value in zip(schema.outputs, node.outputs, strict=False) if value.name != ""}
    for name in (*schema.inputs, *schema.outputs):
        if name not in schema.optional and name not in given:
            raise _error(node, f"lacks '{name}', which every {schema.name} needs")
    for name, other in _NEEDS.get(schema.name, ()):
        if name in given and other not in given:
            raise _error(node, f"has '{name}' without '{other}': give both or neither")


def _check_attributes(node: onnx_ir.Node, schema: OpSchema) -> None:
    for name, attribute in node.attributes.items():
        if name not in schema.attributes:
            known = ", ".join(schema.attributes) or "none"
            raise _error(node, f"has an attribute '{name}', which {schema.name} does not know; it knows {known}")
        law = schema.attributes[name]
        if attribute.is_ref() or attribute.type.name != _TYPES[law.type]:
            found = "a reference" if attribute.is_ref() else attribute.type.name
            raise _error(node, f"has an attribute '{name}' of type {found}; it must be of type {_TYPES[law.type]}")
        _check_value(node, law, attribute.value)
    for name, law in schema.attributes.items():
        if law.is_required and name not in node.attributes:
            raise _error(node, f"lacks the attribute '{name}', which every {schema.name} needs")


def _check_value(node: onnx_ir.Node, law: Attribute, value: Any) -> None:
    if law.allowed is not None and value not in law.allowed:
        allowed = ", ".join(map(str, law.allowed))
        raise _error(node, f"has {law.name} = {value}; allowed are {allowed}")
    if law.type == "float" and not math.isfinite(value):
        raise _error(node, f"has {law.name} = {value}; it must be finite")
    if law.type != "string" and (bound := law.bound(value)) is not None:
        raise _error(node, f"has {law.name} = {value}; it must be {bound}")


def _values(node: onnx_ir.Node) -> list[tuple[ValueSpec, onnx_ir.Value]]:
    pairs = [
        *zip(op_inputs(node.op_type), node.inputs, strict=False),
        *zip(op_outputs(node.op_type), node.outputs, strict=False),
    ]
    return [(spec, value) for spec, value in pairs if value is not None and value.name != ""]


def _check_types(node: onnx_ir.Node) -> None:
    """Float types T are one throughout a node; the others are the schema's or an attribute's."""
    chosen: tuple[str, str] | None = None
    for spec, value in _values(node):
        if value.dtype is None:
            continue
        found = value.dtype.name
        if spec.type == "T":
            if found not in _FLOATS:
                raise _error(node, f"has '{spec.name}' of type {found}; allowed are {', '.join(_FLOATS)}")
            chosen = chosen or (spec.name, found)
            if found != chosen[1]:
                raise _error(
                    node, f"has '{spec.name}' of type {found} and '{chosen[0]}' of type {chosen[1]}; they must be one"
                )
            continue
        allowed = _allowed(node, spec)
        if found not in allowed:
            raise _error(node, f"has '{spec.name}' of type {found}; it must be {' or '.join(allowed)}")


_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16")
_PLAIN = {"float": ("FLOAT",), "float or T": _FLOATS, "int32": ("INT32",), "int64": ("INT64",)}


def _allowed(node: onnx_ir.Node, spec: ValueSpec) -> tuple[str, ...]:
    import onnx_ir

    if spec.type == "codes":
        return ("INT8",) if _setting(node, "format") == "int8" else ("FLOAT8E4M3FN",)
    if spec.type == "to":
        return (onnx_ir.DataType(_setting(node, "to")).name,)
    return _PLAIN[spec.type]


def _setting(node: onnx_ir.Node, name: str) -> Any:
    attribute = node.attributes.get(name)
    return dialect().ops[node.op_type].attributes[name].default if attribute is None else attribute.value


def _check_shapes(node: onnx_ir.Node) -> None:
    """Ranks, and sizes that the schema gives one name, as far as they are known."""
    sizes: dict[str, tuple[str, int]] = {}
    one_or: list[tuple[str, str, int]] = []
    for spec, value in _values(node):
        if value.shape is None:
            continue
        if len(value.shape) != len(spec.shape):
            wanted = ", ".join(map(str, spec.shape))
            raise _error(node, f"has '{spec.name}' of {len(value.shape)} axes; it must be [{wanted}]")
        for axis, size in zip(spec.shape, value.shape, strict=True):
            if not isinstance(size, int):
                continue
            if isinstance(axis, int) and size != axis:
                raise _error(node, f"has '{spec.name}' of shape {value.shape}; its axis of size {axis} is {size}")
            if isinstance(axis, str) and axis.startswith(_ONE_OR):
                one_or.append((spec.name, axis.removeprefix(_ONE_OR), size))
            elif isinstance(axis, str):
                other, known = sizes.setdefault(axis, (spec.name, size))
                if size != known:
                    raise _error(node, f"has '{spec.name}' with {axis} = {size}, but '{other}' has {axis} = {known}")
    for name, axis, size in one_or:
        other, known = sizes.get(axis, ("", size))
        if size not in (1, known):
            raise _error(node, f"has '{name}' for {size} {axis}, but '{other}' has {axis} = {known}; give 1 or {known}")
    heads, kv_heads = (sizes.get(axis, ("", 0))[1] for axis in ("heads", "kv_heads"))
    if heads and kv_heads and heads % kv_heads:
        raise _error(node, f"has {heads} heads and {kv_heads} kv_heads; the first must be a multiple of the second")

"""A signature → the ONNX function that is its body."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from ridgeline_export.packed.dialect import Attribute, dialect
from ridgeline_export.packed.signature import BODIES, Signature
from ridgeline_export.packed.specification import op_doc

if TYPE_CHECKING:
    from onnx import FunctionProto


@cache
def make_function(signature: Signature) -> FunctionProto:
    """The body as a function of the dialect's domain; its attributes and their defaults are the schema's."""
    import onnx.parser

    law = dialect()
    schema = law.ops[signature.op]
    words = frozenset(signature.words)
    attributes = ", ".join(_declare(attribute) for attribute in schema.attributes.values())
    outputs = [name for name in schema.outputs if name not in schema.optional or name in words]
    text = f"""<opset_import: ["": {law.opset}], domain: "{law.domain}">
{signature.op} <{attributes}> ({", ".join(schema.inputs)}) => ({", ".join(outputs)})
{{
{BODIES[signature.op].text(words)}
}}"""
    function = onnx.parser.parse_function(text)
    function.overload = signature.overload
    function.doc_string = op_doc(signature.op)
    return function


def _declare(attribute: Attribute) -> str:
    if attribute.is_required:
        return attribute.name
    return f"{attribute.name}: {attribute.type} = {json.dumps(attribute.default)}"

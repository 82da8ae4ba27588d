"""Give every op of the dialect in a graph its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgeline_export.packed.check import check_ops
from ridgeline_export.packed.dialect import dialect
from ridgeline_export.packed.function import make_function
from ridgeline_export.packed.signature import Signature, signature_of

if TYPE_CHECKING:
    import onnx_ir


def attach_bodies(program: onnx_ir.Model) -> None:
    """Add a function for every signature in use, and name it in each node's `overload`, in place.

    Functions of the dialect that were there before are replaced, so that calling twice changes nothing.
    Raises ConversionError for a node that is not as the dialect says.
    """
    import onnx_ir

    check_ops(program)
    law = dialect()
    for key in [key for key in program.functions if key[0] == law.domain]:
        del program.functions[key]
    signatures: dict[Signature, None] = {}
    for node in program.graph.all_nodes():
        if node.domain == law.domain:
            signature = signature_of(node)
            node.overload = signature.overload
            signatures[signature] = None
    for signature in signatures:
        function = onnx_ir.serde.deserialize_function(make_function(signature))
        program.functions[function.identifier()] = function

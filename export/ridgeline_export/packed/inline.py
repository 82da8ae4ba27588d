"""Put the bodies in the ops' places, for runtimes that know no functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.dialect import dialect

if TYPE_CHECKING:
    import onnx_ir


def inline(program: onnx_ir.Model) -> None:
    """Replace every op of the dialect by its body, in place; what bodies have in common is computed once.

    Weights stay the tensors that they were, in memory or in a file.
    """
    from onnx_ir.passes import common

    attach_bodies(program)
    common.InlinePass()(program)
    common.IdentityEliminationPass()(program)
    common.CommonSubexpressionEliminationPass()(program)
    common.RemoveUnusedNodesPass()(program)
    program.opset_imports.pop(dialect().domain, None)

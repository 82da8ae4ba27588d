"""What of a node decides its body: the op, the optional inputs and outputs it has, and the attributes that choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgeline_export.packed.bodies import (
    attention,
    disentangled,
    embedding,
    gated,
    linear,
    linformer,
    local_global,
    lsh,
    norm,
    nystrom,
    pool,
    quantized,
    rotary,
)
from ridgeline_export.packed.dialect import dialect

if TYPE_CHECKING:
    import onnx_ir


@dataclass(frozen=True, slots=True)
class Body:
    """How an op's body is made.

    words: what a node's attributes, defaults included, add to its signature
    text:  the body's lines in ONNX's text format, for the words of a signature
    """

    words: Callable[[Mapping[str, Any]], tuple[str, ...]]
    text: Callable[[AbstractSet[str]], str]


BODIES: Mapping[str, Body] = {
    "PackedAttention": Body(attention.words, attention.body),
    "DisentangledAttention": Body(disentangled.words, disentangled.body),
    "NystromAttention": Body(nystrom.words, nystrom.body),
    "LinformerAttention": Body(linformer.words, linformer.body),
    "LshAttention": Body(lsh.words, lsh.body),
    "LocalGlobalAttention": Body(local_global.words, local_global.body),
    "Rotary": Body(rotary.words, rotary.body),
    "EmbeddingLayerNorm": Body(embedding.words, embedding.body),
    "AddNorm": Body(norm.words, norm.body),
    "Linear": Body(linear.words, linear.body),
    "GatedActivation": Body(gated.words, gated.body),
    "QuantizeRows": Body(quantized.rows_words, quantized.rows_body),
    "QuantizedLinear": Body(quantized.linear_words, quantized.linear_body),
    "Pool": Body(pool.words, pool.body),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """An op and the words that choose its body, in the schema's order: inputs, attributes, outputs."""

    op: str
    words: tuple[str, ...]

    @property
    def overload(self) -> str:
        """The words as a function's overload: "bias,gelu"."""
        return ",".join(self.words)


def signature_of(node: onnx_ir.Node) -> Signature:
    """The signature of a node of the dialect that is as the schema says."""
    schema = dialect().ops[node.op_type]
    inputs = [name for name, value in zip(schema.inputs, node.inputs, strict=False) if value is not None]
    outputs = [name for name, value in zip(schema.outputs, node.outputs, strict=False) if value.name]
    attributes: dict[str, Any] = {name: attribute.default for name, attribute in schema.attributes.items()}
    attributes |= {name: attribute.value for name, attribute in node.attributes.items()}
    return Signature(
        node.op_type,
        (
            *(name for name in inputs if name in schema.optional),
            *BODIES[node.op_type].words(attributes),
            *(name for name in outputs if name in schema.optional),
        ),
    )

"""Joins of the dialect's ops into what the kernels do in one pass, and what they need beside the dialect's operands.

Traffic of [T, N] activations in 2 bytes, codes in 1, in units of T·N bytes:

    AddNorm, QuantizeRows           2·2 (x, residual) + 2·2 (output, sum) + 2 + 1    joined: 2 less, 4 less if only the
                                                                                    codes of the output are read
    GatedActivation, QuantizeRows   4 (gate, up) + 2 + 2 + 1                         joined: 4 less
    linear's activation with the    2 (linear's output) + 2 + 1                      the same: only where the activation
    quantization after it                                                           is computed differs
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ridgeline_kernels.packed.graph import DOMAIN, INTERNAL, Node

ACTIVATION_AFTER_LINEAR = False
"""Whether a linear leaves its activation to the quantization of its result. It costs no traffic, takes the activation
out of the product's epilogue, whose warps compute nothing else meanwhile, and rounds the sum once more before it."""


def join_ops(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[Node, ...]:
    """The nodes, joined where one kernel does the work of several; outputs: names of the graph's outputs asked for.

    Unread outputs must be "" already (`liveness.prune`).
    """
    joined = list(nodes)
    reads = Counter(name for node in nodes for name in node.inputs)
    reads.update(outputs)
    made_at = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
    for index, node in enumerate(nodes):
        if (node.domain, node.op_type) != (DOMAIN, "QuantizeRows"):
            continue
        maker_index = made_at.get(node.inputs[0])
        maker = None if maker_index is None else joined[maker_index]
        if maker is None or maker_index is None:
            continue
        together = _joined(maker, node, is_only_reader=reads[node.inputs[0]] == 1)
        if together is not None:
            joined[maker_index], joined[index] = together
    return tuple(_with_row_numbers(node for node in joined if node.op_type))


# Of a node that has gone into another.
_GONE = Node("", "", "", (), ())


def _joined(maker: Node, quantize: Node, *, is_only_reader: bool) -> tuple[Node, Node] | None:
    """What takes the places of the two nodes; None if they stay."""
    code_format = quantize.attributes["format"]
    if maker.domain != DOMAIN:
        return None
    attributes = {**maker.attributes, "format": code_format}
    codes, scale = (*quantize.outputs, "")[:2]
    if maker.op_type == "AddNorm":
        out, total = (*maker.outputs, "")[:2]
        outputs = ("" if is_only_reader else out, total, codes, scale)
        return _internal(maker, "AddNormQuantized", outputs, attributes), _GONE
    if not is_only_reader:
        return None
    if maker.op_type == "GatedActivation":
        return _internal(maker, "GatedActivationQuantized", (codes, scale), attributes), _GONE
    is_linear = maker.op_type in ("Linear", "QuantizedLinear") and maker.attributes["activation"] != "none"
    has_residual = len(maker.inputs) > (3 if maker.op_type == "Linear" else 5) and bool(maker.inputs[-1])
    if ACTIVATION_AFTER_LINEAR and is_linear and not has_residual:
        activation = {"activation": maker.attributes["activation"], "format": code_format}
        plain = replace(maker, attributes={**maker.attributes, "activation": "none"})
        return plain, replace(quantize, domain=INTERNAL, op_type="ActivationQuantized", attributes=activation)
    return None


def _internal(node: Node, op_type: str, outputs: tuple[str, ...], attributes: dict[str, object]) -> Node:
    return replace(node, domain=INTERNAL, op_type=op_type, outputs=outputs, attributes=attributes)


def _with_row_numbers(nodes: Iterable[Node]) -> Iterable[Node]:
    """Rotary's kernel looks angles up by position; the dialect gives token t its own, which are row t."""
    numbers = ""
    for node in nodes:
        if (node.domain, node.op_type) != (DOMAIN, "Rotary"):
            yield node
            continue
        if not numbers:
            numbers = f"row numbers of {node.inputs[2]}"
            yield Node(numbers, "RowNumbers", INTERNAL, (node.inputs[2],), (numbers,))
        yield replace(node, inputs=(*node.inputs, numbers))

"""How much of a graph's activations is alive at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ridgeline_estimate.graph.model import Call, Value
from ridgeline_estimate.graph.registry import find_handler

# What an executor of the packed dialect makes no copy of, beside what is a view everywhere: its kernels take strides.
PACKED_VIEWS = frozenset({"Split", "Slice", "Transpose", "Expand"})


def peak_bytes(
    calls: Sequence[Call], inputs: Iterable[Value], outputs: Iterable[str], views: frozenset[str] = frozenset()
) -> float:
    """The most that inputs and activations take at any time.

    Calls run in their order. A value lives from its call to its last reader, outputs to the end, and views share the
    memory of what they show. Values whose shape is not known take nothing.

    views: op types that are views too
    """
    last: dict[Value, int] = {}
    wanted = set(outputs)
    for index, call in enumerate(calls):
        given = [value for value in call.outputs if value is not None]
        for value in (*call.activations, *given):
            owner = _owner(value, views)
            last[owner] = max(last.get(owner, 0), len(calls) if value.name in wanted else index)
    freed: dict[int, float] = {}
    for value, index in last.items():
        freed[index] = freed.get(index, 0.0) + _bytes(value)
    alive = sum(_bytes(value) for value in inputs if value in last)
    peak = alive
    for index, call in enumerate(calls):
        alive += sum(_bytes(value) for value in call.outputs if value is not None and _owner(value, views) is value)
        peak = max(peak, alive)
        alive -= freed.get(index, 0.0)
    return peak


def _owner(value: Value, views: frozenset[str]) -> Value:
    """The value whose memory it lies in."""
    while value.producer is not None and _is_view(value.producer, views):
        source = value.producer.optional(0)
        if source is None or source.is_static:
            break
        value = source
    return value


def _is_view(call: Call, views: frozenset[str]) -> bool:
    entry = find_handler(call.node.domain, call.node.op_type)
    return call.node.op_type in views or (entry is not None and entry.kind == "view")


def _bytes(value: Value) -> float:
    return 0.0 if value.shape is None else value.bytes

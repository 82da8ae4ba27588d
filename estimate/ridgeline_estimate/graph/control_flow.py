"""Nodes with subgraphs: which branch is counted, and how often a body."""

from __future__ import annotations

from collections.abc import Mapping

from ridgeline_estimate.graph.model import Call, Node, Value
from ridgeline_estimate.graph.propagate import ControlFlow, Propagation, Scope
from ridgeline_estimate.graph.registry import costs_of


def run_if(state: Propagation, node: Node, scope: Scope, times: int) -> list[Call]:
    """The branch that the condition picks; where it is not known, the one that needs more FLOPs."""
    condition = scope.get(node.inputs[0])
    if condition is not None and condition.constant is not None:
        names = ["then_branch" if bool(condition.constant.all()) else "else_branch"]
    else:
        names = ["then_branch", "else_branch"]
    runs = []
    for name in names:
        inner = dict(scope)
        before = len(state.warnings)
        calls = state.run(node.bodies[name], inner, times)
        runs.append((calls, [inner.get(output) for output in node.bodies[name].outputs], name))
        if len(names) > 1:
            del state.warnings[before:]
    calls, outputs, name = max(runs, key=lambda run: sum(_work(call) for call in run[0]))
    if len(names) > 1:
        state.warnings.append(f"{node}: its condition is not known; its {name}, which does more, is counted")
    for given, value in zip(node.outputs, outputs, strict=True):
        if given and value is not None:
            scope[given] = value
    return calls


def run_loop(state: Propagation, node: Node, scope: Scope, times: int) -> list[Call]:
    """The body as often as the trip count says, once where it is not known."""
    body = node.bodies["body"]
    trips = scope.get(node.inputs[0]) if node.inputs[0] else None
    known = trips is not None and trips.constant is not None
    count = int(trips.constant.reshape(-1)[0]) if trips is not None and trips.constant is not None else 1
    carried = [scope.get(name) for name in node.inputs[2:]]
    inner = dict(scope)
    for index, declared in enumerate(body.inputs):
        given = carried[index - 2] if index >= 2 else None
        shape = given.shape if given is not None else ()
        inner[declared.name] = Value(declared.name, declared.element_type or _element_type(given), shape)
    calls = state.run(body, inner, times * count) if count else []
    state.warnings.append(
        f"{node}: its body is counted {count} times"
        if known
        else f"{node}: how often its body runs is not known; it is counted once"
    )
    results = [inner.get(name) for name in body.outputs[1:]] if count else [*carried]
    _give(node, scope, results, len(carried), (count,))
    return calls


def run_scan(state: Propagation, node: Node, scope: Scope, times: int) -> list[Call]:
    """The body once for each element of the axis that is scanned."""
    body = node.bodies["body"]
    scanned = int(node.attributes["num_scan_inputs"])
    states = len(node.inputs) - scanned
    axes = list(node.attributes.get("scan_input_axes", ())) or [0] * scanned
    count, inner = 1, dict(scope)
    for index, (name, declared) in enumerate(zip(node.inputs, body.inputs, strict=True)):
        given = scope.get(name)
        shape = given.shape if given is not None else None
        if index >= states and shape is not None:
            axis = axes[index - states] % len(shape)
            count, shape = shape[axis], shape[:axis] + shape[axis + 1 :]
        inner[declared.name] = Value(declared.name, declared.element_type or _element_type(given), shape)
    calls = state.run(body, inner, times * count)
    state.warnings.append(f"{node}: its body is counted {count} times")
    _give(node, scope, [inner.get(name) for name in body.outputs], states, (count,))
    return calls


def _give(node: Node, scope: Scope, results: list[Value | None], carried: int, count: tuple[int, ...]) -> None:
    """Outputs of a loop: states as they are, and what each round gave, stacked."""
    for index, name in enumerate(node.outputs):
        value = results[index] if index < len(results) else None
        if not name or value is None:
            continue
        stacked = value.shape if index < carried or value.shape is None else (*count, *value.shape)
        scope[name] = Value(name, value.element_type, stacked, producer=value.producer)


def _work(call: Call) -> float:
    """FLOPs of a call as far as they are known."""
    return call.times * sum(cost.matmul_flops + cost.other_flops for cost in costs_of(call))


def _element_type(value: Value | None) -> int:
    return value.element_type if value is not None else 1


CONTROL_FLOW: Mapping[str, ControlFlow] = {"If": run_if, "Loop": run_loop, "Scan": run_scan}

"""Names for the weights that the exporter transposed: the parameter's own, and `.T`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir

_FIRST = 16


def name_weights(graph: onnx_ir.Graph, model: Any) -> None:
    """Name every initializer that is a parameter of the model, transposed, so that messages can speak of it."""
    import numpy as np

    parameters: dict[tuple[tuple[int, ...], bytes], list[tuple[str, np.ndarray]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and f"{name}.T" not in graph.initializers:
            values = parameter.detach().numpy().T
            parameters.setdefault(_key(values), []).append((f"{name}.T", values))
    known = {name for name, _ in model.named_parameters()}
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or value.name in known or len(tensor.shape) != 2:
            continue
        values = tensor.numpy()
        candidates = parameters.get(_key(values), [])
        for index, (name, candidate) in enumerate(candidates):
            if np.array_equal(values, candidate):
                del candidates[index]
                value.name = name
                break


def _key(values: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """Shape and first values: equal for equal weights, and hardly ever for others."""
    return values.shape, values[0, :_FIRST].tobytes()

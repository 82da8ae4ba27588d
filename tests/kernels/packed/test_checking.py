"""Nodes that break the rules of ONNX or of the dialect: each gets one sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_kernels.errors import GraphError, InvalidGraphError, UnsupportedOpError
from tests.kernels.packed.test_reading import text_refused


@pytest.mark.parametrize(
    ("nodes", "error", "says"),
    [
        (
            "[n] last_hidden_state = ridgeline.Teleport (h)",
            UnsupportedOpError,
            "node 'n' is the op Teleport of the domain ridgeline, which has none .*AddNorm",
        ),
        (
            "[n] last_hidden_state = LSTM (h, w, w)",
            UnsupportedOpError,
            "node 'n' is the op LSTM of the domain ai.onnx, which the executor lacks; it has \\d+ of ONNX's ops",
        ),
        ("[n] last_hidden_state = NonZero (h)", UnsupportedOpError, "its shape would depend on data"),
        (
            "[n] last_hidden_state = other.Add (h, h)",
            UnsupportedOpError,
            "the op Add of the domain other; the executor has the domains ridgeline and ai.onnx",
        ),
        (
            "last_hidden_state = ridgeline.Linear <speed = 9> (h, w)",
            InvalidGraphError,
            "has the attribute speed, which Linear lacks; it has activation",
        ),
        (
            'last_hidden_state = ridgeline.Linear <activation = "step"> (h, w)',
            InvalidGraphError,
            "activation = 'step'; allowed: 'none', 'relu'",
        ),
        (
            "last_hidden_state = ridgeline.Linear <activation = 3> (h, w)",
            InvalidGraphError,
            "activation = 3; activation is of type string",
        ),
        (
            "last_hidden_state = ridgeline.GatedActivation (h)",
            InvalidGraphError,
            "lacks the attribute activation, which GatedActivation needs",
        ),
        ("last_hidden_state = ridgeline.Linear (h)", InvalidGraphError, "lacks the input weight, which Linear needs"),
        ("last_hidden_state = ridgeline.Linear (h, )", InvalidGraphError, "lacks the input weight"),
        (
            "last_hidden_state = ridgeline.Linear (h, w, w, w, w)",
            InvalidGraphError,
            "has 5 inputs; Linear has 4: x, weight, bias, residual",
        ),
        ("last_hidden_state, b = ridgeline.Linear (h, w)", InvalidGraphError, "has 2 outputs; Linear has 1"),
        ("last_hidden_state = Concat (h, h)", InvalidGraphError, "lacks the attribute axis, which Concat needs"),
        (
            "last_hidden_state = Neg <by = 3> (h)",
            InvalidGraphError,
            "has the attribute by, which Neg lacks; it has no attribute",
        ),
        ("last_hidden_state = Neg (h, h)", InvalidGraphError, "has 2 inputs and 1 outputs; Neg takes 1 to 1 inputs"),
        ("last_hidden_state = Add (, h)", InvalidGraphError, "lacks the input A, which Add needs"),
        (
            "[n] last_hidden_state = Neg (nothing)",
            InvalidGraphError,
            "node 'n' .* reads 'nothing', which is no input, no constant",
        ),
        ("b = Neg (h)", InvalidGraphError, "the graph's output 'last_hidden_state' is made by no node"),
        (
            "[a] x = Neg (h)\n[b] x = Abs (h)\nlast_hidden_state = Neg (x)",
            InvalidGraphError,
            "node 'b' .* makes 'x', which node 'a' .* is already",
        ),
        ("word = Neg (h)\nlast_hidden_state = Neg (h)", InvalidGraphError, "which an input or a constant is already"),
        (
            "[a] last_hidden_state = Add (h, y)\n[b] y = Neg (h)",
            InvalidGraphError,
            "node 'a' .* reads 'y' before node 'b' .* the nodes must be sorted",
        ),
        (
            "[a] x = Add (h, y)\n[b] y = Neg (x)\nlast_hidden_state = Neg (y)",
            InvalidGraphError,
            "the graph is cyclic: node 'a' .*: 'a' → 'b' → 'a'",
        ),
        ("[a] x = Add (h, x)\nlast_hidden_state = Neg (x)", InvalidGraphError, "the graph is cyclic: .* 'a' → 'a'"),
    ],
)
def test_nodes(tmp_path: Path, nodes: str, error: type[GraphError], says: str) -> None:
    text_refused(tmp_path, nodes, error, says)


@pytest.mark.parametrize(
    ("attributes", "version", "says"),
    [
        ("landmarks = 129", 2, "landmarks = 129; it must be at most 128"),
        ("landmarks = 4, iterations = -1", 2, "iterations = -1; it must be at least 0"),
        ("landmarks = 4", 1, "is an op of the dialect since version 2, and the graph imports version 1"),
    ],
)
def test_bounds_and_versions(tmp_path: Path, attributes: str, version: int, says: str) -> None:
    nodes = f"last_hidden_state = ridgeline.NystromAttention <scale = 0.5, {attributes}> (h, h, h, cu_seqlens)"
    text_refused(tmp_path, nodes, InvalidGraphError, says, opsets=f'"": 20, "ridgeline": {version}')

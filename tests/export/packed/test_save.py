"""A packed graph's files, with weights and without."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx_ir

from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.save import save_packed
from tests.export.packed.one_op import packed_program


def program() -> onnx_ir.Model:
    """A Linear whose weight is 1 KiB and whose bias is less, and an integer table that nobody reads."""
    x = np.zeros((1, 3, 32), np.float16)
    made = packed_program("Linear", {"x": x, "weight": np.zeros((16, 32)), "bias": np.zeros(16)}, {})
    rng = np.random.default_rng(0)
    for name, shape in (("weight", (16, 32)), ("bias", (16,))):
        value = next(value for value in made.graph.inputs if value.name == f"{name}_in")
        value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT16)
        value.shape = onnx_ir.Shape(shape)
        value.const_value = onnx_ir.tensor(rng.normal(size=shape).astype(np.float16), name=value.name)
        made.graph.inputs.remove(value)
        made.graph.initializers.add(value)
    table = onnx_ir.tensor(np.arange(400), name="table")
    made.graph.initializers.add(onnx_ir.Value(name="table", const_value=table, type=onnx_ir.TensorType(table.dtype)))
    attach_bodies(made)
    return made


def test_weights_lie_beside_the_graph(tmp_path: Path) -> None:
    path = save_packed(program(), tmp_path)
    assert path == tmp_path / "model.onnx"
    assert (tmp_path / "model.onnx.data").stat().st_size >= 1024


def test_a_graph_without_weights_keeps_small_tensors_and_integers(tmp_path: Path) -> None:
    made = program()
    before = {name: value.const_value for name, value in made.graph.initializers.items()}
    path = save_packed(made, tmp_path, with_weights=False)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert {name: value.const_value for name, value in made.graph.initializers.items()} == before
    found = {name: value.const_value for name, value in onnx_ir.load(path).graph.initializers.items()}
    weight = found["weight_in"]
    assert isinstance(weight, onnx_ir.ExternalTensor)
    assert (weight.location, weight.offset, weight.length) == ("model.onnx.data", 0, 1024)
    assert (weight.dtype, weight.shape) == (onnx_ir.DataType.FLOAT16, (16, 32))
    for name in ("bias_in", "table"):
        kept, given = found[name], before[name]
        assert kept is not None
        assert given is not None
        np.testing.assert_array_equal(kept.numpy(), given.numpy())


def test_absent_weights_have_places_of_their_own(tmp_path: Path) -> None:
    made = program()
    for index in range(3):
        tensor = onnx_ir.tensor(np.ones((300 + index,), np.float32), name=f"more{index}")
        made.graph.initializers.add(onnx_ir.Value(name=tensor.name, const_value=tensor))
    loaded = onnx_ir.load(save_packed(made, tmp_path, with_weights=False))
    absent = [value.const_value for value in loaded.graph.initializers.values()]
    spans = sorted((t.offset or 0, t.length or 0) for t in absent if isinstance(t, onnx_ir.ExternalTensor))
    assert len(spans) == 4
    assert all(first + length == second for (first, length), (second, _) in itertools.pairwise(spans))

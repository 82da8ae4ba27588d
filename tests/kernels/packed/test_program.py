"""What a graph becomes: which steps, where, what is folded and let go; and graphs that become nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ridgeline_kernels.errors import InvalidGraphError, UnsupportedOpError
from ridgeline_kernels.packed.executor import PackedModel
from ridgeline_kernels.packed.liveness import last_uses
from tests.kernels.packed.dialect_graphs import bert, feed_of, graph_of, save
from tests.kernels.packed.small_models import ROWS, load, states, steps


class TestPlaces:
    def test_shape_arithmetic_is_done_on_the_host(self, tmp_path: Path) -> None:
        nodes = """
            s = Shape (h)
            t = Gather (s, one)
            half = Div (t, two)
            rows = Unsqueeze (half, zero)
            to = Concat <axis = 0> (rows, rest)
            out = Reshape (h, to)
        """
        model = load(tmp_path, nodes, ROWS, one=np.int64(1), two=np.int64(2), zero=[0], rest=[32])
        assert steps(model) == Counter(
            {
                "EmbeddingLayerNorm": 1,
                "Shape@host": 1,
                "Gather@host": 1,
                "Div@host": 1,
                "Unsqueeze@host": 1,
                "Concat@host": 1,
                "Reshape": 1,
            }
        )
        for lengths in ([4], [3, 5]):
            got = model.run(feed_of(lengths))["out"]
            torch.testing.assert_close(got, states(lengths).view(-1, 32))

    def test_a_range_is_made_on_the_device_and_its_ends_on_the_host(self, tmp_path: Path) -> None:
        nodes = """
            s = Shape <start = 1, end = 2> (input_ids)
            t = Squeeze (s)
            r = Range (zero, t, one)
            c = Cast <to = 1> (r)
            u = Unsqueeze (c, two)
            out = Add (h, u)
        """
        model = load(tmp_path, nodes, zero=np.int64(0), one=np.int64(1), two=[0, 2])
        assert {"Shape@host", "Squeeze@host", "Range", "Cast"} <= set(steps(model))
        got = model.run(feed_of([2, 3]))["out"]
        torch.testing.assert_close(got, states([2, 3]) + torch.arange(5.0).view(1, 5, 1))

    def test_a_range_is_made_on_the_host_for_a_shape(self, tmp_path: Path) -> None:
        nodes = """
            s = Shape (h)
            n = Size (s)
            r = Range (zero, n, one)
            to = Gather (s, r)
            out = Reshape (h, to)
        """
        model = load(tmp_path, nodes, zero=np.int64(0), one=np.int64(1))
        assert {"Range@host", "Gather@host"} <= set(steps(model))
        torch.testing.assert_close(model.run(feed_of([3]))["out"], states([3]))

    def test_a_number_of_the_host_meets_tensors_of_the_device(self, tmp_path: Path) -> None:
        nodes = """
            s = Shape (h)
            f = Cast <to = 1> (s)
            t = Gather (f, one)
            scaled = Div (h, t)
            n = ReduceProd <keepdims = 0> (f)
            out = Add (scaled, n)
        """
        model = load(tmp_path, nodes, one=np.int64(1))
        assert steps(model)["upload"] == 1
        torch.testing.assert_close(model.run(feed_of([4]))["out"], states([4]) / 4 + 64)

    def test_a_value_is_in_both_places(self, tmp_path: Path) -> None:
        nodes = """
            s = Shape (h)
            t = Gather (s, one)
            r = Range (zero, t, step)
            m = ReduceMax <keepdims = 0> (r)
            z = Unsqueeze (m, axis)
            wide = Expand (c, z)
            rf = Cast <to = 1> (r)
            total = ReduceSum (rf)
            k = ReduceSum (wide)
            y = Mul (h, total)
            out = Add (y, k)
        """
        model = load(
            tmp_path, nodes, one=np.int64(1), zero=np.int64(0), step=np.int64(1), axis=[0], c=np.float32([1.0])
        )
        assert {"Range", "Range@host"} <= set(steps(model))
        torch.testing.assert_close(model.run(feed_of([5]))["out"], states([5]) * 10 + 4)

    @pytest.mark.parametrize(
        ("nodes", "source"),
        [
            ("[bad] out = Reshape (h, f)", "input_ids"),
            (
                "n = Cast <to = 7> (c)\n[bad] r = Range (zero, n, one)\nk = Cast <to = 1> (r)\nout = Add (h, k)",
                "cu_seqlens",
            ),
            ("u = ridgeline.Linear (h, word)\ni = Cast <to = 7> (u)\nj = Squeeze (i)\n[bad] out = Tile (h, j)", "h"),
        ],
    )
    def test_shapes_that_depend_on_values_are_refused(self, tmp_path: Path, nodes: str, source: str) -> None:
        says = (
            rf"the shape of node 'bad' \(.*\) depends on the values of '{source}': shapes may follow from the numbers"
        )
        nodes = f"f = Squeeze (input_ids)\nc = ReduceMax <keepdims = 0> (cu_seqlens)\n{nodes}"
        with pytest.raises(UnsupportedOpError, match=says):
            load(tmp_path, nodes, zero=np.int64(0), one=np.int64(1))


class TestFolding:
    def test_what_follows_from_constants_is_a_constant(self, tmp_path: Path) -> None:
        nodes = """
            t = Transpose (w)
            n = Neg (t)
            s = Shape (n)
            i = Gather (s, one)
            j = Unsqueeze (i, one0)
            to = Concat <axis = 0> (front, j)
            y = Reshape (h, to)
            out = MatMul (y, n)
        """
        w = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
        model = load(tmp_path, nodes, w=w, one=np.int64(1), one0=[0], front=[1, -1])
        assert steps(model) == Counter({"EmbeddingLayerNorm": 1, "Reshape": 1, "MatMul": 1})
        torch.testing.assert_close(model.run(feed_of([3]))["out"], states([3]) @ -torch.from_numpy(w).t())

    def test_long_chains_are_no_trouble(self, tmp_path: Path) -> None:
        chain = "\n".join(f"c{i + 1} = Add (c{i}, one)" for i in range(1500))
        model = load(tmp_path, f"{chain}\nout = Add (h, c1500)", c0=np.float32(0), one=np.float32(1))
        assert steps(model) == Counter({"EmbeddingLayerNorm": 1, "Add": 1})
        torch.testing.assert_close(model.run(feed_of([2]))["out"], states([2]) + 1500)

    def test_a_constant_that_cannot_be_computed_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidGraphError, match=r"node 'bad' \(MatMul\) cannot be computed from its constants"):
            load(tmp_path, "[bad] m = MatMul (a, a)\nout = Add (h, m)", a=np.ones((2, 3), np.float32))

    def test_constants_and_inputs_may_be_outputs(self, tmp_path: Path) -> None:
        outputs = "float[3] c, int64[1, tokens] input_ids"
        model = PackedModel.load(save(graph_of("c = Neg (a)", outputs, {"a": np.float32([1, 2, 3])}), tmp_path))
        feed = feed_of([2])
        got = model.run(feed)
        assert got["c"].tolist() == [-1, -2, -3]
        assert torch.equal(got["input_ids"], feed["input_ids"])


def test_dead_nodes_are_no_steps(tmp_path: Path) -> None:
    model = load(tmp_path, "dead = Neg (h)\ndeader = Neg (dead)\nout = Abs (h)")
    assert steps(model) == Counter({"EmbeddingLayerNorm": 1, "Abs": 1})


def test_last_uses() -> None:
    reads = [(1, 2), (3, 1), (4, 3, 0)]
    makes = [(3, -1), (4,), (5, 6)]
    assert last_uses(reads, makes, keep=[0, -1, 2, 6]) == [(), (1,), (3, 4, 5)]


def test_every_made_value_is_let_go(tmp_path: Path) -> None:
    model = PackedModel.load(save(bert(3), tmp_path))
    kept = set(model.program.outputs.values()) | set(model.program.constants) | {0, -1}
    made = {slot for step in model.program.steps for slot in step.makes} | set(model.program.inputs.values())
    freed = [slot for step in model.program.steps for slot in step.frees]
    assert sorted(freed) == sorted(made - kept)

"""What a graph becomes: which steps, where, what is folded, joined and let go; and graphs that become nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ridgeline_kernels.errors import InvalidGraphError, UnsupportedOpError
from ridgeline_kernels.packed import fusing
from ridgeline_kernels.packed.executor import PackedModel
from ridgeline_kernels.packed.liveness import last_uses
from tests.kernels.packed.dialect_graphs import DIM, bert, feed_of, graph_of, save

EMBED = "h = ridgeline.EmbeddingLayerNorm (input_ids, word)\n"
ROWS = "float[rows, 16] out"


def weights(**more: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    word = rng.normal(size=(40, DIM)).astype(np.float32)
    return {"word": word, **{name: np.asarray(value) for name, value in more.items()}}


def load(directory: Path, nodes: str, outputs: str = "float[1, tokens, 16] out", **more: object) -> PackedModel:
    """The model of these nodes after an embedding h [1, tokens, 16], with these constants."""
    return PackedModel.load(save(graph_of(EMBED + nodes, outputs, weights(**more)), directory))


def steps(model: PackedModel) -> Counter[str]:
    """Op types of the steps, "@host" behind those that run there; "upload" for a host's value made on the device."""
    named = (
        f"{step.node.op_type}{'@host' * step.is_on_host}" if step.node else "upload" for step in model.program.steps
    )
    return Counter(named)


def states(lengths: list[int]) -> torch.Tensor:
    """h of `feed_of(lengths)`, normalized."""
    word = torch.from_numpy(weights()["word"])
    return torch.nn.functional.layer_norm(word[feed_of(lengths)["input_ids"]], (DIM,), eps=1e-12)


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


class TestJoins:
    QUANTIZED = "c, s = ridgeline.QuantizeRows ({x})\nout = ridgeline.QuantizedLinear <to = 1> (c, s, w, ws)"
    WEIGHTS = {  # noqa: RUF012
        "w": np.random.default_rng(2).integers(-127, 128, (16, 16)).astype(np.int8),
        "ws": np.full(16, 0.01, np.float32),
        "g": np.random.default_rng(3).normal(size=(32, 16)).astype(np.float32),
        "b": np.random.default_rng(4).normal(size=16).astype(np.float32),
        "v": np.random.default_rng(5).normal(size=(16, 16)).astype(np.float32),
    }

    def both_ways(self, directory: Path, monkeypatch: pytest.MonkeyPatch, nodes: str, outputs: str = "") -> PackedModel:
        """The model, after its answers were found to be those of the same steps unjoined."""
        options = {"outputs": outputs} if outputs else {}
        joined = load(directory, nodes, **options, **self.WEIGHTS)
        with monkeypatch.context() as patch:
            patch.setattr(fusing, "_joined", lambda *args, **kwargs: None)
            plain = load(directory, nodes, **options, **self.WEIGHTS)
        feed = feed_of([4, 1, 0, 7])
        assert steps(plain)["QuantizeRows"]
        for name, value in plain.run(feed).items():
            torch.testing.assert_close(joined.run(feed)[name], value)
        return joined

    def test_norm_and_codes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = "n = ridgeline.AddNorm (h, , b)\n" + self.QUANTIZED.format(x="n")
        model = self.both_ways(tmp_path, monkeypatch, nodes)
        assert steps(model) == Counter({"EmbeddingLayerNorm": 1, "AddNormQuantized": 1, "QuantizedLinear": 1})

    def test_norm_and_codes_of_what_others_read_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = "n, t = ridgeline.AddNorm (h, h)\n" + self.QUANTIZED.format(x="n").replace("ws)", "ws, , n)")
        outputs = "float[1, tokens, 16] out, float[1, tokens, 16] t, float[1, tokens, 16] n"
        model = self.both_ways(tmp_path, monkeypatch, nodes, outputs)
        assert steps(model)["AddNormQuantized"] == 1
        assert not steps(model)["QuantizeRows"]

    def test_two_kinds_of_codes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = (
            "n = ridgeline.AddNorm (h)\n"
            'd, e = ridgeline.QuantizeRows <format = "fp8"> (n)\nf = Cast <to = 1> (d)\nk = Unsqueeze (e, last)\n'
            "p = Mul (f, k)\n" + self.QUANTIZED.format(x="n").replace("out =", "y =") + "\nout = Add (p, y)"
        )
        monkeypatch.setitem(self.WEIGHTS, "last", np.array([-1]))
        model = self.both_ways(tmp_path, monkeypatch, nodes)
        assert steps(model)["AddNormQuantized"] == steps(model)["QuantizeRows"] == 1

    def test_gate_and_codes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = (
            "l = ridgeline.Linear (h, g)\n"
            'a = ridgeline.GatedActivation <activation = "silu", gate_first = 0> (l)\n' + self.QUANTIZED.format(x="a")
        )
        model = self.both_ways(tmp_path, monkeypatch, nodes)
        assert steps(model)["GatedActivationQuantized"] == 1
        assert not steps(model)["QuantizeRows"]

    def test_a_gate_that_others_read_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = (
            "l = ridgeline.Linear (h, g)\n"
            'a = ridgeline.GatedActivation <activation = "silu"> (l)\n' + self.QUANTIZED.format(x="a")
        )
        model = self.both_ways(tmp_path, monkeypatch, nodes, "float[1, tokens, 16] out, float[1, tokens, 16] a")
        assert steps(model)["GatedActivation"] == 1

    @pytest.mark.parametrize("is_after", [False, True])
    def test_a_linears_activation_by_the_switch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_after: bool
    ) -> None:
        monkeypatch.setattr(fusing, "ACTIVATION_AFTER_LINEAR", is_after)
        nodes = 'l = ridgeline.Linear <activation = "gelu"> (h, v, b)\n' + self.QUANTIZED.format(x="l")
        model = self.both_ways(tmp_path, monkeypatch, nodes)
        assert steps(model)["ActivationQuantized"] == is_after
        assert steps(model)["QuantizeRows"] == (not is_after)

    def test_angles_are_numbered_once(self, tmp_path: Path) -> None:
        nodes = """
            q = Reshape (h, heads)
            p = Cast <to = 1> (position_ids)
            u = Unsqueeze (p, last)
            a = Mul (u, frequencies)
            cos = Cos (a)
            sin = Sin (a)
            r, k = ridgeline.Rotary (q, q, cos, sin)
            s, t = ridgeline.Rotary <interleaved = 1> (r, k, cos, sin)
            x = Add (s, t)
            out = Reshape (x, flat)
        """
        shapes = {"heads": [1, -1, 2, 8], "flat": [1, -1, 16], "last": [-1], "frequencies": np.float32([0.5, 0.1])}
        model = load(tmp_path, nodes, **shapes)
        assert steps(model)["RowNumbers"] == 1
        feed = feed_of([3, 2])
        angles = feed["position_ids"][0, :, None] * torch.tensor([0.5, 0.1])
        x = states([3, 2]).view(5, 2, 8)
        for interleaved in (False, True):
            x = _rotated(x, angles.cos()[:, None], angles.sin()[:, None], interleaved)
        torch.testing.assert_close(model.run(feed)["out"], 2 * x.view(1, 5, 16))


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    a, b = (x[..., :4:2], x[..., 1:4:2]) if interleaved else (x[..., :2], x[..., 2:4])
    pair = (a * cos - b * sin, b * cos + a * sin)
    turned = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat([turned, x[..., 4:]], -1)


class TestRidgelineOps:
    def test_heads_are_normed_one_by_one(self, tmp_path: Path) -> None:
        nodes = 'q = Reshape (h, heads)\nn = ridgeline.AddNorm <kind = "rms"> (q, , w)\nout = Reshape (n, flat)'
        w = np.random.default_rng(6).normal(size=8).astype(np.float32)
        model = load(tmp_path, nodes, heads=[1, -1, 2, 8], flat=[1, -1, 16], w=w)
        x = states([3]).view(3, 2, 8)
        want = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * torch.from_numpy(w)
        torch.testing.assert_close(model.run(feed_of([3]))["out"], want.view(1, 3, 16))

    def test_linears_of_one_row_a_sequence(self, tmp_path: Path) -> None:
        nodes = (
            'p = ridgeline.Pool <method = "first"> (h, cu_seqlens)\nout = ridgeline.Linear <activation = "tanh"> (p, w)'
        )
        w = np.random.default_rng(7).normal(size=(3, 16)).astype(np.float32)
        model = load(tmp_path, nodes, "float[sequences, 3] out", w=w)
        want = (states([2, 3])[0, [0, 2]] @ torch.from_numpy(w).t()).tanh()
        torch.testing.assert_close(model.run(feed_of([2, 3]))["out"], want)

    def test_disentangled_attention_without_terms_is_attention(self, tmp_path: Path) -> None:
        head = "q = Reshape (h, heads)\n"
        shapes = {"heads": [1, -1, 2, 8], "flat": [1, -1, 16], "buckets": np.int32([0, 1, 2])}
        texts = (
            "a = ridgeline.PackedAttention <scale = 0.3> (q, q, q, cu_seqlens)\nout = Reshape (a, flat)",
            "a = ridgeline.DisentangledAttention <scale = 0.3> (q, q, q, cu_seqlens, buckets)\nout = Reshape (a, flat)",
        )
        one, other = (load(tmp_path, head + text, **shapes).run(feed_of([3, 2]))["out"] for text in texts)
        assert torch.equal(one, other)

    def test_an_embedding_without_its_table_is_refused(self, tmp_path: Path) -> None:
        text = "out = ridgeline.EmbeddingLayerNorm (input_ids, word, position_ids)"
        with pytest.raises(InvalidGraphError, match="ids without their table"):
            load(tmp_path, text)


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

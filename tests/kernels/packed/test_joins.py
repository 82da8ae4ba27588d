"""Ops of the dialect by the kernels' calls, and the joins of several into one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ridgeline_kernels.errors import InvalidGraphError
from ridgeline_kernels.packed import fusing
from ridgeline_kernels.packed.executor import PackedModel
from tests.kernels.packed.dialect_graphs import feed_of
from tests.kernels.packed.small_models import load, states, steps


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

    def test_constants_are_rotated_at_load(self, tmp_path: Path) -> None:
        nodes = """
            r, k = ridgeline.Rotary (q, q, cos, sin)
            flat = Reshape (k, row)
            out = Add (h, flat)
        """
        angles = np.float32([[[0.3, 0.7], [1.1, 0.2]]])
        q = np.random.default_rng(8).normal(size=(1, 2, 1, 8)).astype(np.float32)
        model = load(tmp_path, nodes, q=q, cos=np.cos(angles), sin=np.sin(angles), row=[1, 1, 16])
        assert not {"Rotary", "RowNumbers"} & set(steps(model))
        x, turn = torch.from_numpy(q[0]), torch.from_numpy(angles[0])[:, None]
        turned = _rotated(x, turn.cos(), turn.sin(), interleaved=False)
        torch.testing.assert_close(model.run(feed_of([3]))["out"], states([3]) + turned.view(1, 1, 16))


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

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from ridgeline_export.packed.calibrate import activation_maxima
from ridgeline_export.packed.quantize import quantize_linears
from ridgeline_export.packed.smooth import smooth, smoothable_inputs
from tests.export.packed.graphs import DIM, HEAD, HEADS, VOCABULARY, parse, pre_norm, random_weights, run
from tests.export.packed.test_quantize_linears import post_norm

STATES = f"float[1, tokens, {DIM}] last_hidden_state"


def _feeds() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    mask = np.arange(12) < np.array([[12], [3], [7]])
    return [{"input_ids": rng.integers(0, VOCABULARY, (3, 12)), "attention_mask": mask.astype(np.int64)}]


def _smoothed(program: onnx_ir.Model, directory: Path, alpha: float = 0.5) -> onnx_ir.Model:
    copy = program.clone()
    directory.mkdir(exist_ok=True)
    maxima = activation_maxima(copy, smoothable_inputs(copy), _feeds(), directory)
    assert smooth(copy, maxima, alpha) == len(maxima)
    return copy


def test_every_input_with_an_exact_fold_is_found() -> None:
    assert smoothable_inputs(pre_norm()) == ("normed", "joined", "normed2", "gated")


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_function_stays_and_the_weights_change(tmp_path: Path, alpha: float) -> None:
    program = pre_norm()
    expected = run(program, tmp_path / "before")
    smoothed = _smoothed(program, tmp_path / "maxima", alpha)
    given = run(smoothed, tmp_path / "after")
    for name, array in expected.items():
        assert np.abs(given[name] - array).max() < 1e-5
    before, after = (
        {node.op_type + str(index): node for index, node in enumerate(graph.graph)} for graph in (program, smoothed)
    )
    for key, node in before.items():
        if node.op_type == "Linear":
            old, new = node.inputs[1], after[key].inputs[1]
            assert old is not None and new is not None and old.const_value is not None and new.const_value is not None
            is_head = old.name == "head_w"
            assert np.array_equal(old.const_value.numpy(), new.const_value.numpy()) == is_head


def test_maxima_are_those_of_real_tokens(tmp_path: Path) -> None:
    program, (feed,) = pre_norm(), _feeds()
    maxima = activation_maxima(program, ["embedded"], [feed], tmp_path)
    word = program.graph.initializers["word"].const_value
    assert word is not None
    real = feed["input_ids"][feed["attention_mask"] == 1]
    assert np.array_equal(maxima["embedded"], np.abs(word.numpy()[real]).max(axis=0))
    assert activation_maxima(program, [], [feed], tmp_path) == {}


def test_factors_are_those_of_the_paper(tmp_path: Path) -> None:
    program = pre_norm()
    maxima = activation_maxima(program, ["normed2"], _feeds(), tmp_path)
    weights = {name: value.const_value for name, value in program.graph.initializers.items()}
    up, gain = (weights[name] for name in ("up_w", "norm2_w"))
    assert up is not None and gain is not None
    factors = maxima["normed2"] ** 0.7 / np.abs(up.numpy()).max(axis=0) ** 0.3
    smooth(program, maxima, 0.7)
    after = program.graph.initializers
    for name, expected in (
        ("up_w.smooth", up.numpy() * factors),
        ("norm2_w.smooth", gain.numpy() / factors),
    ):
        tensor = after[name].const_value
        assert tensor is not None and np.allclose(tensor.numpy(), expected, rtol=1e-5)
    assert "up_w" not in after and "norm2_w" not in after


def test_an_outlier_channel_costs_less(tmp_path: Path) -> None:
    gain = np.ones(DIM, np.float32)
    gain[5] = 300
    weight = random_weights(9, up_w=(80, DIM))["up_w"]
    weight[:, 5] /= 300
    program = pre_norm(norm2_w=gain, up_w=weight)
    expected = run(program, tmp_path / "fp32")["last_hidden_state"]
    errors = []
    for name, copy in (("plain", program.clone()), ("smoothed", _smoothed(program, tmp_path / "maxima"))):
        quantize_linears(copy, "int8")
        errors.append(np.linalg.norm(run(copy, tmp_path / name)["last_hidden_state"] - expected))
    assert errors[1] < errors[0] * 0.3


def test_a_norm_that_is_also_the_residual_and_what_gelu_gives_are_left_alone() -> None:
    # Of a post-norm layer, only the values can be folded.
    assert smoothable_inputs(post_norm()) == ("joined",)


def test_weights_that_layers_share_are_left_alone() -> None:
    weights = random_weights(word=(VOCABULARY, DIM), w=(DIM, DIM), o=(DIM, DIM), gain=(DIM,))
    layer = """
        n{0} = ridgeline.AddNorm<kind = "rms">(s{0}, , gain)
        v{0} = ridgeline.Linear(n{0}, w)
        h{0} = Reshape(v{0}, heads)
        a{0} = ridgeline.PackedAttention<scale = 0.4>(h{0}, h{0}, h{0}, cu_seqlens)
        j{0} = Reshape(a{0}, flat)
        o{0} = ridgeline.Linear(j{0}, o)
        s{1} = Add(o{0}, s{0})
    """
    nodes = "s0 = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)" + layer.format(0, 1)
    shapes = {"heads": np.array([1, -1, HEADS, HEAD]), "flat": np.array([1, -1, DIM])}
    end = "last_hidden_state = Identity(s{})"
    once = parse(nodes + end.format(1), STATES, weights | shapes)
    # Its values are also its queries and keys.
    assert smoothable_inputs(once) == ("n0",)
    twice = parse(nodes + layer.format(1, 2) + end.format(2), STATES, weights | shapes)
    assert smoothable_inputs(twice) == ()


def test_norms_without_weight_and_with_an_offset_fold(tmp_path: Path) -> None:
    program = pre_norm()
    for node in program.graph:
        if node.op_type == "AddNorm" and node.inputs[2] is not None and node.inputs[2].name == "norm2_w":
            node.attributes["weight_offset"] = onnx_ir.AttrFloat32("weight_offset", 1.0)
        elif node.op_type == "AddNorm" and node.outputs[0].name == "normed":
            node.replace_input_with(2, None)
            node.replace_input_with(3, None)
    assert smoothable_inputs(program) == ("normed", "joined", "normed2", "gated")
    expected = run(program, tmp_path / "before")["last_hidden_state"]
    given = run(_smoothed(program, tmp_path / "maxima"), tmp_path / "after")["last_hidden_state"]
    assert np.abs(given - expected).max() < 1e-5


def test_relu_lets_factors_through(tmp_path: Path) -> None:
    weights = random_weights(word=(VOCABULARY, DIM), up=(30, DIM), up_b=(30,), down=(DIM, 30), v=(DIM, DIM))
    nodes = """
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        v0 = ridgeline.Linear(x, v)
        h = Reshape(v0, heads)
        a = ridgeline.PackedAttention<scale = 0.4>(h, h, h, cu_seqlens)
        j = Reshape(a, flat)
        inner = ridgeline.Linear<activation = "relu">(j, up, up_b)
        last_hidden_state = ridgeline.Linear(inner, down, , j)
    """
    shapes = {"heads": np.array([1, -1, HEADS, HEAD]), "flat": np.array([1, -1, DIM])}
    program = parse(nodes, STATES, weights | shapes)
    assert smoothable_inputs(program) == ("inner",)
    expected = run(program, tmp_path / "before")["last_hidden_state"]
    given = run(_smoothed(program, tmp_path / "maxima"), tmp_path / "after")["last_hidden_state"]
    assert np.abs(given - expected).max() < 1e-5


def test_alpha_is_checked() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1"):
        smooth(pre_norm(), {}, 1.5)

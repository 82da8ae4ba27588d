"""`python -m ridgeline_export.packed`: a packed graph in a directory, or one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
import transformers
from typer.testing import CliRunner, Result

from ridgeline_export.packed.command import app

DECODER = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
DECODER |= {"num_key_value_heads": 2, "intermediate_size": 48}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answers(path: Path, feed: dict[str, Any]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    results = session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})
    return dict(zip((value.name for value in session.get_outputs()), results, strict=True))


def packed_feed(ids: torch.Tensor, *lengths: int) -> dict[str, Any]:
    """Sequences of these lengths, the first tokens of `ids`, int64 [1, tokens]."""
    return {
        "input_ids": ids.numpy(),
        "token_type_ids": np.zeros_like(ids.numpy()),
        "position_ids": np.concatenate([np.arange(length) for length in lengths])[None],
        "cu_seqlens": np.cumsum([0, *lengths]).astype(np.int32),
    }


def test_an_encoder_in_float16(tiny_models: Callable[[str, str], Path], tmp_path: Path) -> None:
    source = tiny_models("bert", "feature-extraction")
    result = run(source, tmp_path / "out", "--precision", "fp16")
    assert result.exit_code == 0, result.output
    assert "BertModel, feature-extraction:" in result.output
    assert "PackedAttention" in result.output
    path = tmp_path / "out" / "model.onnx"
    onnx.checker.check_model(path, full_check=True)
    program = onnx_ir.load(path)
    assert {value.dtype for value in program.graph.initializers.values() if len(value.shape or ()) == 2} == {
        onnx_ir.DataType.FLOAT16
    }
    ids = torch.randint(5, 400, (1, 9))
    found = answers(path, packed_feed(ids, 3, 6))
    model = transformers.AutoModel.from_pretrained(source).eval()
    for part in (slice(0, 3), slice(3, 9)):
        with torch.no_grad():
            hidden = model(input_ids=ids[:, part]).last_hidden_state
        np.testing.assert_allclose(found["last_hidden_state"][:, part], hidden, atol=1e-2)
    np.testing.assert_allclose(found["pooled"][1], hidden[0].mean(0), atol=1e-2)


def test_a_decoders_graph_without_weights_and_functions(tmp_path: Path) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | DECODER
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text(json.dumps(config))
    options = ("--no-weights", "--inline", "--precision", "bf16", "--quantize", "int8")
    result = run(tmp_path / "llama", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "LlamaForCausalLM, text-generation:" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
    program = onnx_ir.load(tmp_path / "out" / "model.onnx")
    assert {node.domain for node in program.graph} == {""}
    assert not program.functions
    tensors = [value.const_value for value in program.graph.initializers.values()]
    absent = [tensor for tensor in tensors if isinstance(tensor, onnx_ir.ExternalTensor)]
    assert {tensor.dtype.name for tensor in absent} == {"BFLOAT16", "INT8"}


@pytest.mark.parametrize(
    ("config", "arguments", "sentence", "code"),
    [
        (None, [], "is not a model: its config.json cannot be read", 1),
        ({"model_type": "unheard-of"}, [], "transformers has no 'unheard-of' models", 1),
        ({"model_type": "bert"}, ["--no-weights"], "names no architecture; say what the model is for with --task", 1),
        (
            {"model_type": "gpt2"},
            ["--no-weights", "--task", "fill-mask"],
            "--task 'fill-mask' is not supported for 'gpt2'; supported are: text-generation, feature-extraction, text-",
            2,
        ),
        ({"model_type": "gpt2"}, [], "cannot be loaded", 1),
        ({"model_type": "gpt2"}, ["--precision", "fp64"], "Invalid value", 2),
        ({"model_type": "marian", "pad_token_id": 0}, ["--no-weights"], "whose encoder cannot be had alone", 1),
    ],
)
def test_wrong_usage(
    config: dict[str, Any] | None, arguments: list[str], sentence: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    if config is not None:
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    result = run(tmp_path / "model", tmp_path / "out", *arguments)
    assert (result.exit_code, sentence in result.output) == (code, True), result.output
    assert not (tmp_path / "out").exists()


def test_an_out_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = run(tmp_path, tmp_path / "out")
    assert result.exit_code == 1
    assert "exists already" in result.output

"""Which formats a config is counted in, and what is said when it cannot be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.estimate.estimating import run

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}


def told(tmp_path: Path, **changes: Any) -> tuple[int, str]:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **changes}))
    done = run(str(tmp_path), "--json")
    return done.exit_code, done.stdout if done.exit_code == 0 else done.output


@pytest.mark.parametrize(
    ("quantization", "precision"),
    [
        ({"quant_method": "gptq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": "4"}, "int4"),
        ({"quant_method": "awq", "w_bit": 4}, "int4"),
        ({"quant_method": "mxfp4"}, "int4"),
        ({"load_in_8bit": True}, "int8"),
        ({"quant_method": "fp8"}, "fp8"),
    ],
)
def test_a_quantized_config_is_counted_in_its_format(
    tmp_path: Path, quantization: dict[str, Any], precision: str
) -> None:
    code, output = told(tmp_path, dtype="bfloat16", quantization_config=quantization)
    assert code == 0, output
    assert f"{precision}: the config's quantization_config says so" in output


@pytest.mark.parametrize("quantization", [{"quant_method": "aqlm"}, {"quant_method": "gptq", "bits": 3}, "bitnet"])
def test_a_quantization_that_is_not_understood_is_an_error(tmp_path: Path, quantization: object) -> None:
    code, output = told(tmp_path, dtype="bfloat16", quantization_config=quantization)
    assert code == 1
    assert "name one with --dtype" in " ".join(output.split())


def test_a_dtype_that_is_not_known_is_said(tmp_path: Path) -> None:
    code, output = told(tmp_path, dtype="float64")
    assert code == 0
    assert "the config's dtype is float64, which is not known here" in output

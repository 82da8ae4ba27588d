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


def test_int8_leaves_the_cache_of_a_16_bit_model_in_16_bits(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "dtype": "bfloat16"}))
    shown = [run(str(tmp_path), "--json", "--mode", "decode", "--dtype", dtype) for dtype in ("bf16", "int8", "fp32")]
    caches = [json.loads(each.stdout)["memory_bytes"]["kv_cache"] for each in shown]
    assert caches[0] == caches[1] == caches[2] / 2


def test_decoding_without_past_has_a_context_of_seq(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    given = [
        json.loads(run(str(tmp_path), "--json", "--mode", "decode", *rest).stdout)
        for rest in (("--seq", "500"), ("--past", "500"), ("--past", "0"))
    ]
    caches = [each["memory_bytes"]["kv_cache"] for each in given]
    assert caches[0] == caches[1] == 501 * caches[2] > 0
    assert given[0]["flops"] == given[1]["flops"]


def test_a_dtype_that_is_not_known_is_said(tmp_path: Path) -> None:
    code, output = told(tmp_path, dtype="float64")
    assert code == 0
    assert "the config's dtype is float64, which is not known here" in output

"""Weights, KV cache, gradients and optimizer states: exact; and how devices share them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from ridgeline_estimate import EstimateError
from ridgeline_estimate.architecture import Architecture, Dropout
from ridgeline_estimate.memory import estimate_memory
from ridgeline_estimate.optimizers import OPTIMIZERS
from ridgeline_estimate.precision import find_precision
from ridgeline_estimate.workload import Mode, Workload
from tests.estimate.allocations import architecture_of, parameter_bytes, small_model

FP32, BF16 = find_precision("fp32"), find_precision("bf16")
TRAIN = Workload(8, 128, mode=Mode.TRAIN)
LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("ForMaskedLM", {}),
    "roberta": ("ForMaskedLM", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}),
    "distilbert": ("ForSequenceClassification", {}),
    "albert": ("ForMaskedLM", {}),
    "deberta-v2": ("ForMaskedLM", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "modernbert": ("ForMaskedLM", {}),
    "gpt2": ("ForCausalLM", {}),
    "llama": ("ForCausalLM", {"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256}),
    "qwen3": ("ForCausalLM", {"tie_word_embeddings": True}),
    "mixtral": ("ForCausalLM", {}),
    "t5": ("ForSeq2SeqLM", {"d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 3072}),
    "bart": ("ForSeq2SeqLM", {}),
}


def architecture(model_type: str = "llama", head: str = "ForCausalLM") -> Architecture:
    with torch.device("meta"):
        return architecture_of(small_model(model_type, head, "eager"))


@pytest.mark.parametrize("model_type", LARGE)
def test_weights_are_those_of_the_model_with_shared_ones_once(model_type: str) -> None:
    head, changes = LARGE[model_type]
    config = transformers.AutoConfig.for_model(model_type, **changes)
    with torch.device("meta"):
        model = getattr(transformers, f"AutoModel{head}").from_config(config)
    for precision, dtype in ((FP32, torch.float32), (BF16, torch.bfloat16)):
        found = estimate_memory(architecture_of(model), Workload(), precision)
        assert found.weights == parameter_bytes(model.to(dtype))
        assert found.weights == sum(found.weights_by_kind.values()) == sum(found.weights_by_dtype.values())


def test_quantized_matrices_shrink_and_bring_scales() -> None:
    plain = estimate_memory(architecture("bert", "Model"), Workload(), FP32)
    int8 = estimate_memory(architecture("bert", "Model"), Workload(), find_precision("int8"))
    matrices = plain.weights_by_kind["matrices"]
    assert int8.weights_by_kind["matrices"] == matrices // 4
    assert int8.weights_by_kind["tables"] == plain.weights_by_kind["tables"]
    assert set(int8.weights_by_dtype) == {"int8", "fp32"}
    # Columns of query, key, value, output and both inner projections of three layers, and of the pooler.
    assert int8.weights_by_kind["scales"] == 4 * (3 * (4 * 192 + 700 + 192) + 192)
    int4 = estimate_memory(architecture("bert", "Model"), Workload(), find_precision("int4"))
    assert int4.weights_by_kind["matrices"] == matrices // 8
    assert int4.weights_by_kind["scales"] == matrices // 4 // 32 * 2


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "mistral", "deepseek_v3"])
def test_the_kv_cache_is_that_of_transformers(model_type: str) -> None:
    model = small_model(model_type, "ForCausalLM", "eager")
    ids = torch.full((2, 100), 3)
    with torch.no_grad():
        cache = model(input_ids=ids, use_cache=True).past_key_values
        found = estimate_memory(architecture_of(model), Workload(2, 100, mode=Mode.PREFILL), FP32)
        assert found.kv_cache == cache_bytes(cache)
        cache = model(input_ids=ids[:, :1], past_key_values=cache).past_key_values
    found = estimate_memory(architecture_of(model), Workload(2, past=100, mode=Mode.DECODE), FP32)
    assert found.kv_cache == cache_bytes(cache)


def test_the_kv_cache_of_an_encoder_decoder_holds_the_encoders_keys() -> None:
    model = small_model("t5", "ForSeq2SeqLM", "eager")
    source, target = torch.full((2, 50), 3), torch.full((2, 20), 3)
    with torch.no_grad():
        cache = model(input_ids=source, decoder_input_ids=target, use_cache=True).past_key_values
    found = estimate_memory(architecture_of(model), Workload(2, 50, target=20, mode=Mode.PREFILL), FP32)
    assert found.kv_cache == cache_bytes(cache.self_attention_cache) + cache_bytes(cache.cross_attention_cache)
    decoding = estimate_memory(architecture_of(model), Workload(2, 50, past=20, mode=Mode.DECODE), FP32)
    assert decoding.kv_cache - found.kv_cache == 2 * 2 * 2 * 192 * 4


def cache_bytes(cache: Any) -> int:
    return sum((layer.keys.numel() + layer.values.numel()) * layer.keys.element_size() for layer in cache.layers)


def test_forward_and_training_keep_no_cache() -> None:
    for mode in (Mode.FORWARD, Mode.TRAIN):
        assert estimate_memory(architecture(), Workload(2, 64, mode=mode), FP32).kv_cache == 0
    assert estimate_memory(architecture(), Workload(2, 64, past=8), FP32).kv_cache > 0


TORCH: dict[str, Any] = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1),
    "momentum": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    "adam": lambda weights: torch.optim.Adam(weights),
    "adamw": lambda weights: torch.optim.AdamW(weights),
    "amsgrad": lambda weights: torch.optim.Adam(weights, amsgrad=True),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights),
    "rmsprop-momentum": lambda weights: torch.optim.RMSprop(weights, momentum=0.9),
    "rmsprop-centered": lambda weights: torch.optim.RMSprop(weights, centered=True),
    "rmsprop-centered-momentum": lambda weights: torch.optim.RMSprop(weights, centered=True, momentum=0.9),
    "adagrad": lambda weights: torch.optim.Adagrad(weights),
}


def test_gradients_and_optimizer_states_are_those_of_torch() -> None:
    model = small_model("bert", "ForMaskedLM", "sdpa")
    ids = torch.full((1, 4), 3)
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = sum(weight.grad.numel() * 4 for weight in model.parameters())
    assert set(TORCH) == set(OPTIMIZERS)
    for name, make in TORCH.items():
        optimizer = make(model.parameters())
        optimizer.step()
        states = optimizer.state_dict()["state"].values()
        tensors = [value for state in states for value in state.values() if torch.is_tensor(value)]
        expected = sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.ndim)
        found = estimate_memory(architecture_of(model), TRAIN, FP32, optimizer=name)
        assert found.optimizer_state == expected, name
        assert found.gradients == gradients
        assert found.master_weights == 0


def test_sixteen_bit_training_with_adam_takes_sixteen_bytes_a_weight() -> None:
    found = estimate_memory(architecture(), TRAIN, BF16, optimizer="adam")
    elements = found.weights / 2
    kept = found.weights + found.gradients + found.optimizer_state + found.master_weights
    assert kept == 16 * elements


def test_a_gpt_layer_keeps_what_korthikanti_et_al_count() -> None:
    """Activations of a layer: s·b·h·(34 + 5·a·s/h) bytes in 16 bits (arXiv 2205.05198, eq. 1)."""
    base = architecture("bert", "ForMaskedLM")
    stack = base.encoder
    assert stack is not None
    hidden, heads, seq, batch = 192, 6, 128, 8
    layer = stack.layers[0]
    assert layer.feed_forward is not None
    feed = replace(layer.feed_forward, width=4 * hidden)
    layer = replace(layer, norm_placement="pre", feed_forward=feed)

    def peak(layers: int) -> int:
        changed = replace(
            base,
            encoder=replace(stack, layers=(layer,) * layers, final_norm=True),
            dropout=Dropout(0.1, 0.1),
        )
        return estimate_memory(changed, TRAIN, BF16, kind="cuda").activations_peak_materialized

    expected = seq * batch * hidden * (34 + 5 * heads * seq / hidden)
    assert peak(6) - peak(5) == pytest.approx(expected, rel=0.01)


def test_gpus_keep_dropout_in_their_attention_kernels_and_cpus_do_not() -> None:
    cpu, cuda = (estimate_memory(architecture("bert", "Model"), TRAIN, FP32, kind=kind) for kind in ("cpu", "cuda"))
    assert cpu.activations_peak == cpu.activations_peak_materialized
    assert cuda.activations_peak < 0.7 * cuda.activations_peak_materialized


def test_replicas_divide_the_batch_and_zero_divides_what_they_keep() -> None:
    one = estimate_memory(architecture(), replace(TRAIN, batch=2), BF16, optimizer="adamw")
    four = estimate_memory(architecture(), TRAIN, BF16, optimizer="adamw", data_parallel=4)
    assert four == one
    stages = [
        estimate_memory(architecture(), TRAIN, BF16, optimizer="adamw", data_parallel=4, zero_stage=stage)
        for stage in range(4)
    ]
    assert [stage.optimizer_state * 4 == one.optimizer_state for stage in stages] == [False, True, True, True]
    assert [stage.master_weights * 4 == one.master_weights for stage in stages] == [False, True, True, True]
    assert [stage.gradients * 4 == one.gradients for stage in stages] == [False, False, True, True]
    assert [stage.weights * 4 == one.weights for stage in stages] == [False, False, False, True]


def test_tensor_parallelism_divides_matrices_and_heads_but_no_norms() -> None:
    workload = Workload(2, 64, mode=Mode.PREFILL)
    whole = estimate_memory(architecture(), workload, FP32)
    half = estimate_memory(architecture(), workload, FP32, tensor_parallel=2)
    assert half.weights_by_kind["matrices"] * 2 == whole.weights_by_kind["matrices"]
    assert half.weights_by_kind["tables"] * 2 == whole.weights_by_kind["tables"]
    assert half.weights_by_kind["vectors"] == whole.weights_by_kind["vectors"]
    assert half.kv_cache * 2 == whole.kv_cache
    assert whole.activations / 2 < half.activations < whole.activations


def test_key_value_heads_are_copied_when_there_are_more_devices() -> None:
    workload = Workload(2, 64, mode=Mode.PREFILL)
    model = replace(architecture())
    two = estimate_memory(model, workload, FP32, tensor_parallel=2)
    assert model.decoder is not None and model.decoder.layers[0].attention is not None
    attention = replace(model.decoder.layers[0].attention, heads=8)
    layers = tuple(replace(layer, attention=attention) for layer in model.decoder.layers)
    wide = replace(model, decoder=replace(model.decoder, layers=layers))
    four = estimate_memory(wide, workload, FP32, tensor_parallel=4)
    assert four.kv_cache == two.kv_cache


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"tensor_parallel": 4},
            "6 attention heads cannot be divided evenly among 4 devices; choose a tensor_parallel",
        ),
        ({"tensor_parallel": 3}, "2 key-value heads can be neither divided"),
        ({"tensor_parallel": 0}, "tensor_parallel is 0; it should be a whole number from 1 up"),
        ({"data_parallel": 3}, "a batch of 8 cannot be divided evenly among 3 devices"),
        ({"data_parallel": True}, "data_parallel is True"),
        ({"zero_stage": 4}, "zero_stage is 4"),
        ({"kind": "tpu"}, "kind of device is 'tpu'; allowed: cpu, cuda"),
        ({"optimizer": "lion"}, "optimizer 'lion' is unknown; allowed: sgd, momentum, adam"),
    ],
)
def test_impossible_settings_get_a_sentence(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EstimateError, match=complaint):
        estimate_memory(architecture(), TRAIN, FP32, **settings)


def test_impossible_combinations_get_a_sentence() -> None:
    with pytest.raises(EstimateError, match="optimizer is 'adam', but forward takes no step"):
        estimate_memory(architecture(), Workload(), FP32, optimizer="adam")
    with pytest.raises(EstimateError, match="weights in int8 cannot be trained"):
        estimate_memory(architecture(), TRAIN, find_precision("int8"))
    with pytest.raises(EstimateError, match="no KV cache"):
        estimate_memory(architecture("bert", "Model"), Workload(mode=Mode.DECODE), FP32)
    with pytest.raises(EstimateError, match="width 700 cannot be divided evenly among 8 devices"):
        model = architecture("llama")
        assert model.decoder is not None and model.decoder.layers[0].attention is not None
        attention = replace(model.decoder.layers[0].attention, heads=8, kv_heads=8)
        layers = tuple(replace(layer, attention=attention) for layer in model.decoder.layers)
        wide = replace(model, decoder=replace(model.decoder, layers=layers))
        estimate_memory(wide, TRAIN, FP32, tensor_parallel=8)


def test_parts_add_up() -> None:
    found = estimate_memory(architecture(), TRAIN, BF16, optimizer="adamw", materialized_attention=True)
    assert found.total == sum(found.parts.values())
    assert found.parts["activations"] == found.activations_peak_materialized > found.activations_peak
    assert found.step_peak <= found.activations + found.gradients

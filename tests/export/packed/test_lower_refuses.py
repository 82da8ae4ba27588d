"""Models that cannot be packed are refused by name, and what only looks like them is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from ridgeline_export.errors import UnsupportedModelError, UsageError
from ridgeline_export.packed.lower import lower, prepared
from ridgeline_export.quiet import quiet
from tests.packed_models import make_feed, make_model, torch_answers


def refusal(model, task="feature-extraction", **options):
    with pytest.raises(UnsupportedModelError) as caught:
        lower(model, task, **options)
    return str(caught.value)


def tiny(prefix, head="Model", **fields):
    sizes = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64, "pad_token_id": 0}
    config = getattr(transformers, f"{prefix}Config")(**sizes | fields)
    return getattr(transformers, prefix + head)(config).eval()


def test_a_convolution_over_tokens_is_refused_by_name():
    model = make_model("deberta-v2", conv_kernel_size=3, conv_act="gelu")
    assert "DebertaV2Model cannot be packed: encoder.conv" in refusal(model)


def test_attention_in_code_of_its_own_is_refused_by_name():
    message = refusal(tiny("MegatronBert"))
    assert "encoder.layer.0.attention.self gives a sequence other values" in message
    assert "code of its own" in message


def test_local_attention_longer_than_the_sequences_tried_is_refused_by_name():
    model = tiny("LongT5", "EncoderModel", d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    assert "block.0.layer.0.LocalSelfAttention.o gives a sequence other values" in refusal(model)


def test_embeddings_scaled_by_a_rows_share_of_masks_are_refused_by_name():
    fields = {"mask_token_id": 5, "position_embedding_type": "rotary", "pad_token_id": 1}
    assert "EsmForMaskedLM cannot be packed: esm.embeddings gives a sequence other values" in refusal(
        tiny("Esm", "ForMaskedLM", token_dropout=True, **fields), "fill-mask"
    )
    with torch.no_grad(), quiet(), prepared(tiny("Esm", "ForMaskedLM", **fields), "fill-mask"):
        pass


def test_the_encoder_of_an_encoder_decoder_packs():
    model = tiny("UMT5", "EncoderModel", d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    assert model.config.is_encoder_decoder
    lower(model, "feature-extraction")
    feed = make_feed((5, 1, 9), names=["input_ids", "cu_seqlens"])
    with torch.no_grad(), quiet(), prepared(model, "feature-extraction") as packed:
        got = packed(**{name: torch.from_numpy(value) for name, value in feed.items()})
    want = torch_answers(model, "feature-extraction", feed)
    np.testing.assert_allclose(got["last_hidden_state"], want["last_hidden_state"], atol=1e-4)


def test_an_encoder_decoder_is_refused():
    config = transformers.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    assert "T5Model is an encoder with a decoder" in refusal(transformers.T5Model(config).eval())


def test_angles_that_change_with_length_are_refused():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert "rotary_emb has rotary angles of the kind 'dynamic'" in refusal(make_model("llama", rope_parameters=rope))


def test_attention_in_chunks_is_refused():
    model = tiny(
        "Llama4Text", head_dim=8, num_key_value_heads=2, attention_chunk_size=8, moe_layers=[], num_local_experts=1
    )
    assert "mask or bias that is more than a function of the distance" in refusal(model)


def test_a_bias_without_an_end_is_refused():
    assert "a bias by position that ends only at 9000 tokens" in refusal(
        make_model("t5", relative_attention_max_distance=9000)
    )


def test_an_output_that_the_task_needs_is_missing():
    assert "needs logits" in refusal(make_model("bert"), "fill-mask")


@pytest.mark.parametrize(
    ("task", "options", "told"),
    [
        ("translation", {}, "no packed graph is for the task 'translation'"),
        ("feature-extraction", {"pooling": "median"}, "pooling 'median'"),
        ("fill-mask", {"pooling": "mean"}, "pooling 'mean' for fill-mask"),
        ("feature-extraction", {"normalize": True}, "need a pooling"),
    ],
)
def test_wrong_arguments(task, options, told):
    with pytest.raises(UsageError, match=told):
        lower(make_model("bert"), task, **options)


def test_half_precision_and_training_are_refused():
    for model in (make_model("bert").half(), make_model("bert").train()):
        with pytest.raises(UsageError, match="float32 and in evaluation mode"):
            lower(model, "feature-extraction")

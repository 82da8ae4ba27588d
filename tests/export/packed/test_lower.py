"""Raw packed graphs answer as the PyTorch model does to each sequence alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
import transformers

from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.dialect import dialect
from ridgeline_export.packed.lower import prepared
from ridgeline_export.quiet import quiet
from tests.packed_models import HEADS, lowered, make_feed, make_model, torch_answers

__all__ = ["lowered"]

MIXES = ([5, 1, 9, 3], [1], [30, 2, 1, 1, 17], [1, 1])


def packed_answers(model, task, feed, **options):
    """The module that is exported, on real tensors: the graph's meaning without the seconds of an export."""
    with torch.no_grad(), quiet(), prepared(model, task, **options) as packed:
        inputs = {name: torch.from_numpy(value) for name, value in feed.items()}
        return {name: value.numpy() for name, value in packed(**inputs).items()}


def names_of(kind, model):
    names = ["input_ids", "cu_seqlens"]
    if kind not in ("t5", "deberta-v2"):
        names.append("position_ids")
    if getattr(model.config, "type_vocab_size", 0) > 1 and kind not in ("t5", "distilbert", "mpnet", "modernbert"):
        names.append("token_type_ids")
    return names


def check(kind, task, *, lengths=(5, 1, 9, 3), seed=0, **config):
    model = make_model(kind, task, seed=seed, **config)
    feed = make_feed(lengths, names=names_of(kind, model), seed=seed)
    got, want = packed_answers(model, task, feed), torch_answers(model, task, feed)
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=2e-5 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "albert", "electra", "modernbert", "mpnet"])
@pytest.mark.parametrize("task", [task for task in HEADS if task != "feature-extraction"])
def test_heads(kind, task):
    check(kind, task)


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("xlm-roberta", "text-classification"),
        ("camembert", "text-classification"),
        ("nomic-bert", "text-classification"),
        ("deberta-v2", "text-classification"),
        ("deberta-v2", "fill-mask"),
        ("t5", "token-classification"),
        ("gpt2", "text-classification"),
        ("qwen3", "text-classification"),
        ("mistral", "text-generation"),
        ("qwen2", "text-generation"),
        ("gemma2", "text-generation"),
    ],
)
def test_other_kinds_and_heads(kind, task):
    check(kind, task, lengths=(5, 1, 19, 3))


@pytest.mark.parametrize(
    ("kind", "task", "config"),
    [
        ("modernbert", "text-classification", {"classifier_pooling": "mean"}),
        ("modernbert", "feature-extraction", {"local_attention": 2}),
        # Windows longer than the sequences that lowering tries.
        ("modernbert", "feature-extraction", {"local_attention": 64}),
        ("mistral", "text-generation", {"sliding_window": 64}),
        ("gemma2", "text-generation", {"sliding_window": 64}),
        ("deberta-v2", "feature-extraction", {"share_att_key": False, "pos_att_type": ["c2p"]}),
        ("deberta-v2", "feature-extraction", {"share_att_key": False, "pos_att_type": ["p2c"]}),
        ("deberta-v2", "feature-extraction", {"position_buckets": -1, "max_relative_positions": 6}),
        ("deberta-v2", "feature-extraction", {"relative_attention": False, "position_biased_input": True}),
        ("t5", "feature-extraction", {"relative_attention_max_distance": 128, "relative_attention_num_buckets": 32}),
        ("bert", "feature-extraction", {"is_decoder": True}),
        ("llama", "feature-extraction", {"num_key_value_heads": 1}),
        ("mpnet", "feature-extraction", {"output_attentions": True, "output_hidden_states": True}),
        ("gpt2", "text-classification", {"pad_token_id": 2}),
    ],
)
def test_variations_of_an_architecture(kind, task, config):
    names = ["position_ids"] if config.get("position_biased_input") else []
    model = make_model(kind, task, **config)
    # Longer than T5's bias and DeBERTa's buckets reach.
    feed = make_feed((1, 90, 7), names=[*names_of(kind, model), *names])
    got, want = packed_answers(model, task, feed), torch_answers(model, task, feed)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=2e-5 * np.abs(value).max(), err_msg=name)


def test_feed_forwards_in_chunks_take_all_tokens_at_once():
    # Chunks of 4 tokens refuse sequences of any other number, such as lowering tries.
    check("bert", "feature-extraction", lengths=(4, 8), chunk_size_feed_forward=4)


@pytest.mark.parametrize(
    ("kind", "task", "pooling", "ops"),
    [
        ("bert", "feature-extraction", "mean", {"PackedAttention": 2, "Pool": 2}),
        ("roberta", "text-classification", None, {"PackedAttention": 2, "Pool": 1}),
        ("modernbert", "feature-extraction", "mean", {"PackedAttention": 3, "Pool": 2}),
        ("mpnet", "feature-extraction", "mean", {"PackedAttention": 2, "Pool": 2}),
        ("deberta-v2", "feature-extraction", "mean", {"DisentangledAttention": 2, "Pool": 2}),
        ("gemma2", "text-generation", None, {"PackedAttention": 2}),
    ],
)
def test_raw_graph_on_onnx_runtime(kind, task, pooling, ops, lowered):
    options = {"pooling": pooling, "normalize": pooling is not None}
    model, program = lowered(kind, task, **options)
    law = dialect()
    assert program.ir_version == law.ir_version
    # The first version that has all of its ops.
    assert program.opset_imports == {"": law.opset, law.domain: 1}
    assert Counter(node.op_type for node in program.graph if node.domain == law.domain) == ops
    attach_bodies(program)
    proto = onnx_ir.serde.serialize_model(program)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    assert sorted(names) == sorted(names_of(kind, model))
    for seed, lengths in enumerate(MIXES):
        feed = make_feed(lengths, names=names, seed=seed)
        got = dict(zip((value.name for value in session.get_outputs()), session.run(None, feed), strict=True))
        want = torch_answers(model, task, feed, **options)
        assert got.keys() == want.keys()
        for name, value in want.items():
            assert got[name].dtype == np.float32
            np.testing.assert_allclose(got[name], value, atol=2e-5 * np.abs(value).max(), err_msg=name)


def test_axes_and_weights_have_names(lowered):
    _, program = lowered("bert", "feature-extraction", "mean", True)
    shapes = {
        value.name: [str(axis) for axis in value.shape] for value in (*program.graph.inputs, *program.graph.outputs)
    }
    assert shapes == {
        "input_ids": ["1", "tokens"],
        "token_type_ids": ["1", "tokens"],
        "position_ids": ["1", "tokens"],
        "cu_seqlens": ["bounds"],
        "pooled": ["sequences", "32"],
        "sentence_embedding": ["sequences", "32"],
        "last_hidden_state": ["1", "tokens", "32"],
    }
    weights = {name: value.shape for name, value in program.graph.initializers.items() if len(value.shape) == 2}
    assert all(name.endswith((".weight", ".weight.T")) for name in weights)
    assert "encoder.layer.1.attention.self.query.weight.T" in weights


def test_windows_and_causality_are_as_the_masks_of_transformers_say(lowered):
    def bands(kind, task, *args):
        _, program = lowered(kind, task, *args)
        keys = ("causal", "window_left", "window_right", "softcap")
        nodes = [node for node in program.graph if node.op_type == "PackedAttention"]
        return [{key: node.attributes[key].value for key in keys if key in node.attributes} for node in nodes]

    # local_attention 8: 4 tokens on each side. sliding_window 6: the token itself and 5 before it.
    local = {"window_left": 4, "window_right": 4}
    assert bands("modernbert", "feature-extraction", "mean", True) == [{}, local, local]
    capped = {"causal": 1, "softcap": 5.0}
    assert bands("gemma2", "text-generation") == [capped | {"window_left": 5}, capped]


def test_roberta_counts_positions_from_zero_in_a_table_of_its_own(lowered):
    model, program = lowered("roberta", "text-classification")
    gathers = [node for node in program.graph if node.op_type == "Gather" and node.inputs[1].name == "position_ids"]
    embeddings = model.roberta.embeddings
    rows = embeddings.position_embeddings.weight[2:] + embeddings.token_type_embeddings.weight
    np.testing.assert_allclose(gathers[0].inputs[0].const_value.numpy(), rows.detach().numpy(), rtol=1e-6)
    assert len(gathers) == 1


def test_the_model_is_left_as_it_was():
    model = make_model("deberta-v2", "text-classification")
    with torch.no_grad():
        before = model(input_ids=torch.arange(10, 20)[None]).logits
    state = _state(model)
    with torch.no_grad(), pytest.raises(ZeroDivisionError), prepared(model, "text-classification"):
        1 / 0  # noqa: B018
    assert _state(model) == state
    with torch.no_grad():
        assert torch.equal(model(input_ids=torch.arange(10, 20)[None]).logits, before)
    assert "ridgeline_packed" not in transformers.AttentionInterface._global_mapping
    assert "ridgeline_packed" not in transformers.AttentionMaskInterface._global_mapping


def _state(model):
    modules = {
        name: (
            sorted(vars(module)),
            sorted(module._buffers),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
        )
        for name, module in model.named_modules()
    }
    return modules, repr(model.config), model.config._attn_implementation

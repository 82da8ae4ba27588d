"""Every architecture that lowers is fused whole, and answers as before."""

from __future__ import annotations

import numpy as np
import pytest

from ridgeline_export.packed.check import check_packed
from tests.export.packed.fuse.graphs import answers, fused
from tests.packed_models import DECODERS, lowered, make_feed, torch_answers

__all__ = ["lowered"]

LENGTHS = (5, 1, 9, 3)
# Per layer of a post-norm encoder: QKV, attention, its output, norm, up, down, norm.
POST_NORM = {"Linear": 4, "AddNorm": 2, "PackedAttention": 1}
GATED = {"Linear": 4, "AddNorm": 2, "PackedAttention": 1, "Rotary": 1, "GatedActivation": 1}
ANGLES = {"Cast": 1, "Mul": 1, "Cos": 1, "Sin": 1}


def ops(layers: int, layer: dict[str, int], **more: int) -> dict[str, int]:
    counts = {name: layers * count for name, count in layer.items()}
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count
    return counts


ENCODERS = {
    "bert": (ops(2, POST_NORM, EmbeddingLayerNorm=1, Pool=2), {}),
    "roberta": (ops(2, POST_NORM, EmbeddingLayerNorm=1, Pool=2), {}),
    "distilbert": (ops(2, POST_NORM, EmbeddingLayerNorm=1, Pool=2), {}),
    "albert": (ops(2, POST_NORM, EmbeddingLayerNorm=1, Linear=1, Pool=2), {}),
    "electra": (ops(2, POST_NORM, EmbeddingLayerNorm=1, Linear=1, Pool=2), {}),
    "mpnet": (ops(2, POST_NORM, EmbeddingLayerNorm=1, Pool=2), {}),
    "t5": (ops(2, POST_NORM, EmbeddingLayerNorm=1, AddNorm=1, Pool=2), {}),
    # Two more Cos, Sin and Mul: local layers turn by other angles than global ones.
    "modernbert": (ops(3, GATED, EmbeddingLayerNorm=1, Pool=2), {"Cast": 1, "Mul": 2, "Cos": 2, "Sin": 2}),
    "nomic-bert": (ops(2, GATED, EmbeddingLayerNorm=1, Pool=2), ANGLES),
    # Content times positions is a product by head, which the dialect has no op for.
    "deberta-v2": (
        ops(2, POST_NORM | {"DisentangledAttention": 1}, EmbeddingLayerNorm=1, Pool=2, PackedAttention=-2),
        {"Transpose": 8, "MatMul": 4},
    ),
}
GENERATORS = {
    "gpt2": (ops(2, POST_NORM, EmbeddingLayerNorm=1, AddNorm=1, Linear=1), {}),
    "llama": (ops(2, GATED, EmbeddingLayerNorm=1, AddNorm=1, Linear=1), ANGLES),
    # Query and key have norms of their own.
    "qwen3": (ops(2, GATED | {"AddNorm": 4}, EmbeddingLayerNorm=1, AddNorm=1, Linear=1), ANGLES),
    # Embeddings are scaled, logits are capped.
    "gemma2": (
        ops(2, GATED | {"AddNorm": 4}, EmbeddingLayerNorm=1, AddNorm=1, Linear=1),
        ANGLES | {"Mul": 3, "Div": 1, "Tanh": 1},
    ),
}


@pytest.mark.parametrize("kind", [*ENCODERS, *GENERATORS])
def test_fused_whole(kind, lowered):
    is_decoder = kind in DECODERS
    task = "text-generation" if is_decoder else "feature-extraction"
    options = {} if is_decoder else {"pooling": "mean", "normalize": True}
    model, program = lowered(kind, task, **options)
    feed = make_feed(LENGTHS, names=[value.name for value in program.graph.inputs])
    report = fused(program, feed)
    check_packed(program)
    want_fused, want_unfused = (ENCODERS | GENERATORS)[kind]
    assert report.fused == {name: count for name, count in want_fused.items() if count}
    assert report.unfused == want_unfused
    got = answers(program, feed)
    for name, want in torch_answers(model, task, feed, **options).items():
        np.testing.assert_allclose(got[name], want, atol=2e-5 * np.abs(want).max(), err_msg=name)


def test_weights_keep_their_names(lowered):
    _, program = lowered("llama", "text-generation")
    fused(program, make_feed(LENGTHS, names=[value.name for value in program.graph.inputs]))
    matrices = {name for name, value in program.graph.initializers.items() if len(value.shape) == 2}
    layer = "model.layers.0."
    assert {name for name in matrices if name.startswith(layer)} == {
        layer + "self_attn.q_proj+k_proj+v_proj.weight",
        layer + "self_attn.o_proj.weight",
        layer + "mlp.gate_proj+up_proj.weight",
        layer + "mlp.down_proj.weight",
    }
    assert {name for name in matrices if "layers" not in name} == {"lm_head.weight", "model.embed_tokens.weight"}

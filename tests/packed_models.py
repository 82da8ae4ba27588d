"""Tiny random models of the architectures that lower, inputs for their packed graphs, and what PyTorch answers.

    model = make_model("bert", "text-classification")
    program = lower(model, "text-classification")
    feed = make_feed([5, 1, 9], names=[value.name for value in program.graph.inputs])
    want = torch_answers(model, "text-classification", feed)          # one sequence at a time, without padding

Every parameter is random, biases and norms too: transformers starts those at zeros and ones, which hide mistakes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers

VOCABULARY = 120
# Ids below are kept for pad, bos, eos, …: feeds have none of them.
FIRST_ID = 10
LABELS = 3

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
_ENDS = {"bos_token_id": 1, "eos_token_id": 2}
_DECODER = {"num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": False} | _ENDS
_T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
# kind: (prefix of the transformers classes, fields of the config beside _SIZES)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", {"pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": 130}),
    "xlm-roberta": ("XLMRoberta", {"pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": 130}),
    "camembert": ("Camembert", {"pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": 130}),
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "albert": ("Albert", {"embedding_size": 16}),
    "electra": ("Electra", {"embedding_size": 16}),
    "mpnet": ("MPNet", {"pad_token_id": 1, "max_position_embeddings": 130}),
    "modernbert": (
        "ModernBert",
        {"num_hidden_layers": 3, "local_attention": 8, "global_attn_every_n_layers": 3, "pad_token_id": 1}
        | dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2),
    ),
    "nomic-bert": ("NomicBert", {"pad_token_id": 1}),
    "deberta-v2": (
        "DebertaV2",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "max_relative_positions": 64,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "t5": ("T5", _T5 | {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 128} | _ENDS),
    "llama": ("Llama", _DECODER),
    "mistral": ("Mistral", _DECODER | {"sliding_window": 6}),
    "qwen2": ("Qwen2", _DECODER | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen3": ("Qwen3", _DECODER),
    "gemma2": ("Gemma2", _DECODER | {"sliding_window": 6, "attn_logit_softcapping": 5.0}),
}
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2")
HEADS = {
    "feature-extraction": "Model",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "fill-mask": "ForMaskedLM",
}


def make_model(kind: str, task: str = "feature-extraction", *, seed: int = 0, **config: Any) -> Any:
    """A tiny model of one of KINDS with the head of a task, fp32, in evaluation mode.

    task: a key of HEADS, or "text-generation" for one of DECODERS
    config: fields of the config that differ from the tiny defaults
    """
    prefix, fields = KINDS[kind]
    sizes = {} if kind == "t5" else _SIZES
    labels = {"num_labels": 2 if task == "question-answering" else LABELS}
    settings = getattr(transformers, f"{prefix}Config")(**sizes | fields | labels | config)
    if task == "text-generation":
        head = "LMHeadModel" if kind == "gpt2" else "ForCausalLM"
    else:
        head = "EncoderModel" if (kind, task) == ("t5", "feature-extraction") else HEADS[task]
    model = getattr(transformers, prefix + head)(settings).eval()
    randomize(model, seed)
    return model


def randomize(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter random values of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator) * 0.2
            is_scale = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(values + 1 if is_scale else values)


def make_feed(lengths: Sequence[int], *, names: Sequence[str], seed: int = 0, types: int = 2) -> dict[str, np.ndarray]:
    """Inputs of a packed graph for sequences of these lengths, laid end to end; only those in `names`.

    input_ids, token_type_ids (below `types`), position_ids: int64 [1, tokens]; cu_seqlens: int32 [bounds]
    """
    rng = np.random.default_rng(seed)
    tokens = sum(lengths)
    feed = {
        "input_ids": rng.integers(FIRST_ID, VOCABULARY, (1, tokens)),
        "token_type_ids": rng.integers(0, types, (1, tokens)),
        "position_ids": np.concatenate([np.arange(length) for length in lengths] or [np.arange(0)])[None],
        "cu_seqlens": np.cumsum([0, *lengths]).astype(np.int32),
    }
    return {name: feed[name] for name in names}


def torch_answers(
    model: Any, task: str, feed: dict[str, np.ndarray], *, pooling: str | None = None, normalize: bool = False
) -> dict[str, np.ndarray]:
    """What the PyTorch model answers to each sequence of a feed alone, laid end to end as the packed graph does."""
    bounds = feed["cu_seqlens"]
    parts: dict[str, list[np.ndarray]] = {}
    for start, end in itertools.pairwise(bounds):
        if start == end:
            continue
        names = [name for name in ("input_ids", "token_type_ids") if name in feed]
        inputs = {name: torch.from_numpy(feed[name][:, start:end].astype(np.int64)) for name in names}
        with torch.no_grad():
            output = model(**inputs)
        for name, value in _answers(output, task, pooling, normalize).items():
            parts.setdefault(name, []).append(value)
    is_row = {"pooled", "sentence_embedding"} | ({"logits"} if task == "text-classification" else set())
    return {name: np.concatenate(values, axis=0 if name in is_row else 1) for name, values in parts.items()}


def _answers(output: Any, task: str, pooling: str | None, normalize: bool) -> dict[str, np.ndarray]:
    if task == "question-answering":
        return {"start_logits": output.start_logits.numpy(), "end_logits": output.end_logits.numpy()}
    if task != "feature-extraction":
        return {"logits": output.logits.numpy()}
    hidden = output.last_hidden_state
    answers = {"last_hidden_state": hidden.numpy()}
    if pooling is not None:
        pooled = {
            "mean": lambda: hidden.mean(1),
            "cls": lambda: hidden[:, 0],
            "max": lambda: hidden.amax(1),
            "last": lambda: hidden[:, -1],
        }[pooling]()
        answers["pooled"] = pooled.numpy()
        if normalize:
            answers["sentence_embedding"] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    return answers


# A fixture is another one in each module that imports it; what is lowered here is so for all of them.
_LOWERED: dict[tuple[Any, ...], tuple[Any, Any]] = {}


@pytest.fixture(scope="session")
def lowered() -> Callable[..., tuple[Any, Any]]:
    """A function that gives the model and its raw packed graph by kind, task, pooling and normalize, made once.

    The graph is a copy of its own for every caller. Use it with `from tests.packed_models import lowered`.
    """
    from ridgeline_export.packed.lower import lower

    def pair(
        kind: str, task: str = "feature-extraction", pooling: str | None = None, normalize: bool = False
    ) -> tuple[Any, Any]:
        key = (kind, task, pooling, normalize)
        if key not in _LOWERED:
            model = make_model(kind, task)
            _LOWERED[key] = model, lower(model, task, pooling=pooling, normalize=normalize)
        model, program = _LOWERED[key]
        return model, program.clone()

    return pair

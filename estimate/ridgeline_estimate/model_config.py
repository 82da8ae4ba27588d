"""A Hugging Face config.json read into the fields of ModelShape.

Names of attributes differ between architectures (`hidden_size`, `dim`, `d_model` …): the table below holds those that
transformers 5 uses for encoders. What differs beyond names (gated feed-forward, rotary positions, disentangled
attention …) follows the modeling files of transformers 5.23, which the tests count against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline_estimate.errors import ShapeError

NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layers", "num_layers", "n_layer", "encoder_layers"),
    "hidden": ("hidden_size", "dim", "d_model", "n_embd", "emb_dim"),
    "heads": ("num_attention_heads", "n_heads", "num_heads", "n_head", "encoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim", "attention_head_size"),
    "ffn": ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff", "n_inner", "encoder_ffn_dim"),
    "vocab": ("vocab_size", "n_vocab"),
    "positions": ("max_position_embeddings", "n_positions", "max_seq_len"),
    "activation": ("hidden_act", "hidden_activation", "activation", "activation_function", "dense_act_fn"),
}

TASKS = ("feature-extraction", "text-classification", "token-classification", "question-answering", "fill-mask")

_TASK_OF_SUFFIX: Mapping[str, str] = {
    "Model": "feature-extraction",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
}

_GATED = frozenset({"modernbert", "nomic_bert", "neobert", "eurobert", "jina_bert", "gte", "new"})
_ROTARY = frozenset({"modernbert", "nomic_bert", "neobert", "eurobert", "roformer", "gte", "new"})
_WITH_POOLER = frozenset({"bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "albert", "mpnet"})
_FACTORIZED = frozenset({"albert", "electra", "deberta-v2"})
_WITHOUT_TYPES = frozenset({"distilbert", "mpnet", "modernbert"})
_DEFAULT_EMBEDDING_SIZE = 128
_DEFAULT_LABELS = 2


def shape_fields(config: Mapping[str, Any], task: str | None) -> dict[str, Any]:
    """The fields of ModelShape, by name, that a config.json describes.

    task: optimum's name of the task that the graph runs; None = what the class in `architectures` does
    Raises ShapeError.
    """
    _refuse_what_is_no_encoder(config)
    architecture = _architecture(config)
    fields: dict[str, Any] = {
        "model_type": str(config.get("model_type") or "unknown"),
        "architecture": architecture,
        "task": _task(architecture, task),
        "labels": _labels(config),
        **_dimensions(config),
    }
    fields |= _embeddings(config, fields)
    fields |= _positions(config, fields)
    fields |= _windows(config, fields)
    fields |= _head(fields, config)
    return fields


def _refuse_what_is_no_encoder(config: Mapping[str, Any]) -> None:
    if config.get("is_encoder_decoder"):
        raise ShapeError("the config is of an encoder-decoder; encoders such as BERT can be counted")
    if not _present(config, "hidden") and isinstance(config.get("text_config"), Mapping):
        raise ShapeError("the config is of a model of several parts (it holds a text_config); pass that part alone")


def _architecture(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    if names is None or names == []:
        return None
    if not isinstance(names, (list, tuple)) or not isinstance(names[0], str):
        raise ShapeError(f"`architectures` is {names!r}; it should be a list of class names")
    return names[0]


def _task(architecture: str | None, task: str | None) -> str:
    if task in ("sentence-similarity", "sentence-embeddings"):
        return "feature-extraction"
    if task is not None:
        if task not in TASKS:
            raise ShapeError(f"task '{task}' cannot be counted; known tasks: {', '.join(TASKS)}")
        return task
    if architecture is None:
        return "feature-extraction"
    for suffix, found in _TASK_OF_SUFFIX.items():
        if architecture.endswith(suffix):
            return found
    raise ShapeError(f"cannot tell what the head of {architecture} computes; name the task: {', '.join(TASKS)}")


def _dimensions(config: Mapping[str, Any]) -> dict[str, Any]:
    hidden, heads = _integer(config, "hidden"), _integer(config, "heads")
    head_dim = _integer(config, "head_dim", default=0)
    if not head_dim:
        if hidden % heads:
            raise ShapeError(f"hidden size {hidden} is no multiple of {heads} attention heads and there is no head_dim")
        head_dim = hidden // heads
    activation = str(_first(config, NAMES["activation"]) or "gelu")
    model_type = config.get("model_type")
    inner_groups = _plain_integer(config, "inner_group_num", 1) if model_type == "albert" else 1
    return {
        "layers": _integer(config, "layers") * inner_groups,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": _integer(config, "kv_heads", default=heads),
        "head_dim": head_dim,
        "ffn": _integer(config, "ffn"),
        "gated": bool(config.get("is_gated_act")) or model_type in _GATED or "glu" in activation.lower(),
        "linear_bias": bool(config.get("mlp_bias", model_type != "modernbert")),
        "activation": activation,
        "vocab": _integer(config, "vocab"),
        "positions": _integer(config, "positions", default=0),
    }


def _embeddings(config: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    kind = fields["model_type"]
    default = _DEFAULT_EMBEDDING_SIZE if kind in ("albert", "electra") else fields["hidden"]
    width = _plain_integer(config, "embedding_size", default) if kind in _FACTORIZED else fields["hidden"]
    types = 0 if kind in _WITHOUT_TYPES else _plain_integer(config, "type_vocab_size", 0)
    return {
        "embedding_size": width,
        # AlbertTransformer maps embeddings to the hidden size even when both are equal.
        "embedding_projection": kind == "albert" or width != fields["hidden"],
        "type_vocab": types,
        "has_pooler": kind in _WITH_POOLER,
    }


def _positions(config: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    kind = fields["model_type"]
    is_rotary = kind in _ROTARY or config.get("position_embedding_type") == "rotary"
    result: dict[str, Any] = {
        "rotary": is_rotary,
        "absolute_positions": not is_rotary and bool(config.get("position_biased_input", True)),
        "position_bias": kind == "mpnet",
    }
    if kind != "deberta-v2":
        return result
    result["conv_kernel_size"] = _plain_integer(config, "conv_kernel_size", 0)
    result["conv_groups"] = _plain_integer(config, "conv_groups", 1)
    if not config.get("relative_attention"):
        return result
    terms = config.get("pos_att_type") or ()
    names = terms.lower().split("|") if isinstance(terms, str) else terms
    buckets = _plain_integer(config, "position_buckets", -1)
    reach = _plain_integer(config, "max_relative_positions", -1)
    reach = reach if reach > 0 else fields["positions"]
    shared = bool(config.get("share_att_key", False))
    found = tuple(term for term in ("c2p", "p2c") if term in [str(name).strip() for name in names])
    return result | {
        "disentangled": found,
        "relative_positions": 2 * (buckets if buckets > 0 else reach),
        "relative_projections": 2 if shared else len(found),
    }


def _windows(config: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    if fields["model_type"] != "modernbert":
        return {}
    window = _plain_integer(config, "local_attention", 128)
    kinds = config.get("layer_types")
    if isinstance(kinds, (list, tuple)):
        local = sum(kind == "sliding_attention" for kind in kinds)
    else:
        every = max(1, _plain_integer(config, "global_attn_every_n_layers", 3))
        local = sum(bool(layer % every) for layer in range(fields["layers"]))
    return {"window_tokens": window, "window_layers": local}


def _head(fields: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Rows, widths and LayerNorm of the task head: [rows, hidden] → transform (0 = none) → outputs."""
    task, kind, hidden, labels = (fields[key] for key in ("task", "model_type", "hidden", "labels"))
    is_modernbert = kind == "modernbert"
    if task == "feature-extraction":
        return {"head_rows": "none", "head_transform": 0, "head_outputs": 0, "head_norm": False}
    if task == "text-classification":
        return {"head_rows": "sequence", "head_transform": hidden, "head_outputs": labels, "head_norm": is_modernbert}
    if task == "fill-mask":
        in_embedding_width = kind in ("albert", "electra") or (kind == "deberta-v2" and config.get("legacy", True))
        width = fields["embedding_size"] if in_embedding_width else hidden
        return {"head_rows": "token", "head_transform": width, "head_outputs": fields["vocab"], "head_norm": True}
    transform = hidden if is_modernbert else 0
    return {"head_rows": "token", "head_transform": transform, "head_outputs": labels, "head_norm": is_modernbert}


def _labels(config: Mapping[str, Any]) -> int:
    names = config.get("id2label")
    if isinstance(names, Mapping) and names:
        return len(names)
    return _plain_integer(config, "num_labels", _DEFAULT_LABELS)


def _present(config: Mapping[str, Any], field: str) -> bool:
    return any(config.get(name) is not None for name in NAMES[field])


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _integer(config: Mapping[str, Any], field: str, default: int | None = None) -> int:
    value = _first(config, NAMES[field])
    if value is None:
        if default is None:
            raise ShapeError(f"the config does not say its {field}; looked for {', '.join(NAMES[field])}")
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ShapeError(f"the config's {field} is {value!r}; it should be a whole number above 0")
    return value


def _plain_integer(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ShapeError(f"the config's {name} is {value!r}; it should be a whole number")
    return value

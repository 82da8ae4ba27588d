"""A model directory → torch model, tokenizer, task and shape."""

from __future__ import annotations

import dataclasses
import inspect
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline_export.errors import ModelError, UnsupportedModelError, summary
from ridgeline_export.form.form import KEY, read_form
from ridgeline_export.form.restore import restore
from ridgeline_export.prompts import Prompts, read_prompts
from ridgeline_export.sentence_modules import SentenceModules, read_sentence_modules
from ridgeline_export.source import Source
from ridgeline_export.task import choose_task, model_class
from ridgeline_export.tokenizer import TextEncoder, load_pretrained_tokenizer, make_encoder

_SANE_TOKENS = 1_000_000
_FALLBACK_TOKENS = 512
_PROMPTED = ("feature-extraction", "fill-mask")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything about a model that the export needs.

    model:    PyTorch module in fp32, in evaluation mode, with eager attention; a compressed one without what it lacks
    transformer: directory of the Transformer's own files: config.json, weights, tokenizer
    tokenizer: transformers' fast tokenizer that `encoder` was made from
    new_weights: names of those of a head that the files do not have, or that nothing was trained with, as an embedding
        model's pooler; whoever asked for the head gives them their values
    modules:  pooling and normalization; None for a model that does not embed
    labels:   names of the classes by index; None for a model without classes
    shape:    fields of ridgeline_estimate's ModelShape
    prompts:  texts that go before inputs; none for a model that does not embed
    is_sparse: declared as a SPLADE model, and loaded as the masked language model that it is
    """

    model: Any
    encoder: TextEncoder
    source: Source
    task: str
    architecture: str
    modules: SentenceModules | None
    labels: tuple[str, ...] | None
    max_tokens: int
    shape: dict[str, Any]
    transformer: Path
    tokenizer: Any
    new_weights: tuple[str, ...] = ()
    prompts: Prompts = field(default_factory=Prompts)
    is_sparse: bool = False


def load_model(
    source: Source, task: str | None = None, *, new_labels: tuple[str, ...] | None = None, keeps_others: bool = False
) -> LoadedModel:
    """Read the model in a directory.

    new_labels: classes that the model is to be trained for: a head for text-classification is made where the model has
        none for just these, in whatever order; None takes the model as it is
    keeps_others: a head that knows more classes than these stays, too
    Raises ModelError when it is damaged or incomplete, UnsupportedModelError when Ridgeline does not export its kind,
    UsageError when the task does not exist.
    """
    declared = read_sentence_modules(source.directory)
    directory = declared.transformer if declared else source.directory
    raw = _read_config(directory)
    was_pooled = declared is not None and not declared.is_sparse
    task = choose_task(raw, task, embeds=was_pooled)
    modules: SentenceModules | None = None
    if task == "feature-extraction":
        modules = declared if was_pooled else SentenceModules(directory, declared=False)
    # How a SPLADE model reads texts is declared beside its pooling too.
    inputs = declared if declared is not None and declared.is_sparse else modules
    prompts = read_prompts(source.directory) if task in _PROMPTED else Prompts()
    config = _load_config(directory, raw)
    read_form(config)
    has_new_head = False
    if new_labels is not None and task == "text-classification" and not _knows(config, new_labels, keeps_others):
        _set_labels(config, new_labels)
        has_new_head = True
    # The shape also refuses models that are no encoder, before their weights are read.
    shape = _shape(config, task)
    tokenizer = load_pretrained_tokenizer(directory)
    model, new_weights = _load_weights(directory, config, task, has_new_head=has_new_head)
    if has_new_head and was_pooled:
        new_weights += tuple(name for name in _pooler_keys(model) if name not in new_weights)
    restore(model, directory)
    max_tokens = _max_tokens(model, tokenizer, inputs)
    encoder = make_encoder(tokenizer, _input_names(model, tokenizer), max_tokens, bool(inputs and inputs.lowercase))
    _check_vocabulary(model, encoder)
    return LoadedModel(
        model=model,
        encoder=encoder,
        source=source,
        task=task,
        architecture=type(model).__name__,
        modules=modules,
        labels=_labels(config, task),
        max_tokens=max_tokens,
        shape=shape,
        transformer=directory,
        tokenizer=tokenizer,
        new_weights=new_weights,
        prompts=prompts,
        is_sparse=declared is not None and declared.is_sparse and task == "fill-mask",
    )


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(f"{directory} is not a model: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {summary(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path} names no model_type; this is not a transformers model")
    return config


def _load_config(directory: Path, raw: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    if "AutoConfig" in raw.get("auto_map", {}) and not _is_known(raw["model_type"]):
        raise UnsupportedModelError(
            f"'{raw['model_type']}' models bring their own Python code, which Ridgeline does not run; "
            "supported are the encoders that transformers itself has"
        )
    if not _is_known(raw["model_type"]):
        raise UnsupportedModelError(f"transformers has no '{raw['model_type']}' models; check config.json's model_type")
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # config classes validate their fields with errors of many types
        raise ModelError(f"{directory / 'config.json'} is not valid: {summary(error)}") from error


def _is_known(model_type: str) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _knows(config: Any, labels: tuple[str, ...], keeps_others: bool) -> bool:
    """Whether the model has a head for these labels. A single one is a number, whatever its name."""
    if config.architectures and not any("ForSequenceClassification" in str(name) for name in config.architectures):
        return False  # its config names labels all the same: LABEL_0 and LABEL_1
    own = {str(name) for name in config.id2label.values()}
    if len(labels) == 1 == len(own):
        return True
    return set(labels) <= own if keeps_others else set(labels) == own


def _set_labels(config: Any, labels: tuple[str, ...]) -> None:
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "regression" if len(labels) == 1 else "single_label_classification"


def _load_weights(
    directory: Path, config: Any, task: str, *, has_new_head: bool = False
) -> tuple[Any, tuple[str, ...]]:
    """The model, and the names of the weights of its new head."""
    import torch

    loader = model_class(config, task)
    try:
        model, info = loader.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # safetensors, torch and transformers each have errors of their own
        raise ModelError(f"the weights of {directory} cannot be loaded: {summary(error)}") from error
    new_weights: tuple[str, ...] = ()
    if has_new_head:
        heads = _head_keys(model)
        absent = {_key_of(key) for name in ("missing_keys", "mismatched_keys") for key in info[name]}
        new_weights = tuple(sorted(absent & heads))
        info = {name: [key for key in info[name] if _key_of(key) not in heads] for name in info}
    _check_loaded(directory, config, task, info)
    return model.eval(), new_weights


def _head_keys(model: Any) -> set[str]:
    """Weights of the head, and of a pooler under it: everything that the model alone without a task does not have."""
    prefix = f"{model.base_model_prefix}."
    return {name for name in model.state_dict() if not name.startswith(prefix)} | set(_pooler_keys(model))


def _pooler_keys(model: Any) -> list[str]:
    return [name for name in model.state_dict() if ".pooler." in name]


def _key_of(entry: Any) -> str:
    return str(entry if isinstance(entry, str) else entry[0])


def _check_loaded(directory: Path, config: Any, task: str, info: dict[str, Any]) -> None:
    """Refuse a model that transformers completed with random weights."""
    mismatched = sorted(str(entry[0]) for entry in info["mismatched_keys"])
    if mismatched:
        raise ModelError(f"{directory} has weights of other sizes than its config.json says: {_shown(mismatched)}")
    missing = sorted(key for key in info["missing_keys"] if not _is_dropped(key, task))
    if missing:
        trained_for = ", ".join(config.architectures or ["an unknown architecture"])
        raise ModelError(
            f"{directory} lacks weights that the task '{task}' needs ({_shown(missing)}); "
            f"it was saved as {trained_for}: give the --task that it was trained for"
        )


def _shown(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


def _is_dropped(key: str, task: str) -> bool:
    """True for weights that the exported graph does not compute with."""
    return task == "feature-extraction" and key.startswith("pooler.")


def _input_names(model: Any, tokenizer: Any) -> tuple[str, ...]:
    names = ["input_ids", "attention_mask"]
    accepted = inspect.signature(model.forward).parameters
    if (
        "token_type_ids" in accepted
        and "token_type_ids" in tokenizer.model_input_names
        and getattr(model.config, "type_vocab_size", 0) > 1
    ):
        names.append("token_type_ids")
    return tuple(names)


def _max_tokens(model: Any, tokenizer: Any, modules: SentenceModules | None) -> int:
    """sentence-transformers' max_seq_length, else the tokenizer's, else the model's; never past the last position."""
    positions = _positions(model)
    declared = [modules.max_seq_length if modules else None, tokenizer.model_max_length]
    limit = next((int(value) for value in declared if value and 0 < value < _SANE_TOKENS), None)
    if limit is None:
        configured = getattr(model.config, "max_position_embeddings", None)
        limit = positions or (configured if configured and configured > 0 else _FALLBACK_TOKENS)
    return min(limit, positions) if positions else limit


def _positions(model: Any) -> int | None:
    """How many tokens the learned position table holds; None for models without one.

    RoBERTa and MPNet number positions from padding_idx + 1 on, so their table holds fewer than its rows.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
            offset = 0 if module.padding_idx is None else int(module.padding_idx) + 1
            return int(module.num_embeddings) - offset
    return None


def _labels(config: Any, task: str) -> tuple[str, ...] | None:
    if task not in ("text-classification", "token-classification"):
        return None
    names = config.id2label
    return tuple(str(names[index]) for index in sorted(names))


def _check_vocabulary(model: Any, encoder: TextEncoder) -> None:
    size = int(model.get_input_embeddings().num_embeddings)
    largest = max(encoder.backend.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest < 0:
        raise ModelError("the tokenizer has an empty vocabulary; is it complete?")
    if largest >= size:
        raise ModelError(
            f"the tokenizer knows token ids up to {largest}, but the model has embeddings for {size}; "
            "they do not belong together"
        )


def _shape(config: Any, task: str) -> dict[str, Any]:
    from ridgeline_estimate.errors import ShapeError
    from ridgeline_estimate.shape import ModelShape

    def shape(fields: dict[str, Any]) -> dict[str, Any]:
        return dataclasses.asdict(ModelShape.from_config(fields, task, is_complete=True))

    fields = config.to_dict()
    try:
        return shape(fields)
    except ShapeError as error:
        if fields.pop(KEY, None) is not None:
            with suppress(ShapeError):
                shape(fields)
                raise ModelError(
                    f"config.json's '{KEY}' does not belong to this model: {summary(error)}; compress the model again"
                ) from error
        raise UnsupportedModelError(f"'{config.model_type}' is no text encoder: {summary(error)}") from error

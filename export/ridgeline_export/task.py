"""Which task a model is for, and the class that loads it."""

from __future__ import annotations

from typing import Any

from ridgeline_export.errors import ModelError, UnsupportedModelError, UsageError

TASKS = ("feature-extraction", "text-classification", "token-classification", "question-answering", "fill-mask")
_SHORT_NAMES = {"ner": "token-classification", "embeddings": "feature-extraction"}


def choose_task(config: dict[str, Any], task: str | None, *, embeds: bool) -> str:
    """The task given, else the one that the model was trained for.

    config: content of config.json
    embeds: True when the directory declares pooling, as sentence-transformers models do
    Raises UsageError for an unknown task, UnsupportedModelError when the model's own task is none of TASKS.
    """
    from optimum.exporters.tasks import TasksManager

    _refuse_decoders(config)
    if task is not None:
        name = str(TasksManager.map_from_synonym(_SHORT_NAMES.get(task, task)))
        if name not in TASKS:
            raise UsageError(f"--task '{task}' is not supported; supported are: {', '.join(TASKS)}")
        return name
    return "feature-extraction" if embeds else _trained_for(config)


def model_class(config: Any, task: str) -> Any:
    """The transformers class that loads the model with the head of a task.

    Raises UnsupportedModelError when transformers has no such head for this model type.
    """
    from optimum.exporters.tasks import TasksManager

    if task == "feature-extraction" and config.model_type in _half_encoders():
        from transformers import AutoModelForTextEncoding

        return AutoModelForTextEncoding
    automatic = TasksManager.get_model_class_for_task(task, model_type=config.model_type)
    mapping = getattr(automatic, "_model_mapping", None)
    if mapping is not None and type(config) not in mapping:
        raise UnsupportedModelError(f"'{config.model_type}' models cannot do the task '{task}'; choose another --task")
    return automatic


def task_of(architecture: str) -> str | None:
    """The task that a class of transformers is made for; None when there is no such class, or none such task."""
    import transformers
    from optimum.exporters.tasks import TasksManager

    found = getattr(transformers, architecture, None)
    try:
        return str(TasksManager.infer_task_from_model(found)) if isinstance(found, type) else None
    except ValueError:
        return None


def _trained_for(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ModelError(
            f"config.json names no architecture; say what the model is for with --task: {', '.join(TASKS)}"
        )
    task = "feature-extraction" if names[0] in _half_encoders().values() else task_of(names[0])
    if task is None:
        raise UnsupportedModelError(
            f"the architecture {names[0]} names no task; say what the model is for with --task: {', '.join(TASKS)}"
        )
    if task not in TASKS:
        raise UnsupportedModelError(
            f"{names[0]} is made for '{task}', which is not supported; supported are: {', '.join(TASKS)}"
        )
    return task


def is_decoder(model_type: str, says_so: bool) -> bool:
    """Whether models of a type generate text. says_so: `is_decoder` of their config, which encoders can have too"""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    return says_so or (model_type in CAUSAL and model_type not in MASKED)


def _refuse_decoders(config: dict[str, Any]) -> None:
    model_type = config["model_type"]
    if model_type in _half_encoders():
        if _half_encoders()[model_type] in (config.get("architectures") or []) or not config.get("is_encoder_decoder"):
            return
        raise UnsupportedModelError(
            f"'{model_type}' is an encoder-decoder; supported are encoders such as BERT, or its encoder saved alone as "
            f"{_half_encoders()[model_type]}"
        )
    if config.get("is_encoder_decoder"):
        raise UnsupportedModelError(f"'{model_type}' is an encoder-decoder; supported are encoders such as BERT")
    if is_decoder(model_type, bool(config.get("is_decoder"))):
        raise UnsupportedModelError(f"'{model_type}' is a decoder; supported are encoders such as BERT")


def _half_encoders() -> dict[str, str]:
    """Classes that are the encoder of an encoder-decoder alone, such as T5EncoderModel, by model type."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as BOTH
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES as ENCODERS

    return {name: encoder for name, encoder in ENCODERS.items() if name in BOTH and isinstance(encoder, str)}

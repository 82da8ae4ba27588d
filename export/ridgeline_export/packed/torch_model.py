"""A model directory → the torch model to lower: encoders as bundles have them, encoders of T5's kind, decoders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline_export.errors import ModelError, UnsupportedModelError, UsageError, summary
from ridgeline_export.load import load_model
from ridgeline_export.sentence_modules import SentenceModules, read_sentence_modules
from ridgeline_export.source import Source
from ridgeline_export.task import choose_task, is_decoder, model_class, task_of

_HEADS = ("text-classification", "token-classification", "question-answering")
# What is not an encoder can do, the first when its config names no architecture.
_TASKS = {"decoder": ("text-generation", "feature-extraction", *_HEADS), "half": ("feature-extraction", _HEADS[1])}


@dataclass(frozen=True, slots=True)
class TorchModel:
    """What `lower` needs: a transformers module in fp32 and evaluation mode, its task and its pooling.

    pooling: None for other tasks than feature-extraction, and for models that declare none
    """

    model: Any
    task: str
    pooling: str | None
    normalize: bool


def load_torch_model(source: Source, task: str | None, *, with_weights: bool = True) -> TorchModel:
    """Load the model of a directory, or only its shape.

    task: None takes what config.json says that the model was trained for
    with_weights: False reads config.json alone and fills the model with random numbers
    Raises ModelError, UnsupportedModelError or UsageError.
    """
    modules = read_sentence_modules(source.directory)
    directory = modules.transformer if modules else source.directory
    config = _read_config(directory)
    kind = _kind(config)
    if kind == "encoder" and with_weights:
        loaded = load_model(source, task)
        return _made(loaded.model, loaded.task, loaded.modules)
    if modules is not None and modules.is_sparse:
        modules = None
    task = _task(config, kind, task, embeds=modules is not None)
    loader = _loader(config, kind, task)
    model = _load(loader, directory, config) if with_weights else _random(loader, config)
    if task != "feature-extraction":
        modules = None
    elif modules is None and kind == "encoder":
        modules = SentenceModules(directory, declared=False)
    return _made(model, task, modules)


def _made(model: Any, task: str, modules: SentenceModules | None) -> TorchModel:
    if modules is None:
        return TorchModel(model, task, None, False)
    return TorchModel(model, task, modules.pooling, modules.normalize)


def _read_config(directory: Path) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    path = directory / "config.json"
    try:
        model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{directory} is not a model: its config.json cannot be read ({summary(error)})") from error
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedModelError(f"transformers has no '{model_type}' models; check config.json's model_type")
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # config classes validate their fields with errors of many types
        raise ModelError(f"{path} is not valid: {summary(error)}") from error


def _kind(config: Any) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as BOTH
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    # An encoder that was saved alone no longer says that it has a decoder.
    if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING and (config.is_encoder_decoder or config.model_type in BOTH):
        return "half"
    if config.is_encoder_decoder:
        raise UnsupportedModelError(f"'{config.model_type}' is an encoder-decoder whose encoder cannot be had alone")
    return "decoder" if is_decoder(config.model_type, getattr(config, "is_decoder", False)) else "encoder"


def _task(config: Any, kind: str, task: str | None, *, embeds: bool) -> str:
    if kind == "encoder":
        return choose_task(config.to_dict(), task, embeds=embeds)
    allowed = _TASKS[kind]
    chosen = task or ("feature-extraction" if embeds else _made_for(config, kind))
    if chosen not in allowed:
        raise UsageError(
            f"--task '{task}' is not supported for '{config.model_type}'; supported are: {', '.join(allowed)}"
        )
    return chosen


def _made_for(config: Any, kind: str) -> str:
    """The task of the architecture that config.json names; of an encoder-decoder the encoder is taken."""
    allowed = _TASKS[kind]
    name = next(iter(config.architectures or ()), None)
    found = allowed[0] if name is None else task_of(name)
    if kind == "half" and found not in _HEADS:
        return allowed[0]
    if found not in allowed:
        purpose = f"for '{found}'" if found else "for no known task"
        raise UnsupportedModelError(
            f"{name} is made {purpose}; packed graphs of '{config.model_type}' models are for other tasks: "
            f"say what to take the model for with --task: {', '.join(allowed)}"
        )
    return found


def _loader(config: Any, kind: str, task: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForTextEncoding

    if kind == "half" and task == "feature-extraction":
        return AutoModelForTextEncoding
    return AutoModelForCausalLM if task == "text-generation" else model_class(config, task)


def _load(loader: Any, directory: Path, config: Any) -> Any:
    import torch

    try:
        model, info = loader.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors, torch and transformers each have errors of their own
        raise ModelError(f"the weights of {directory} cannot be loaded: {summary(error)}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:4])
        raise ModelError(f"{directory} lacks weights that its config.json asks for ({missing}); is it complete?")
    return model.eval()


def _random(loader: Any, config: Any) -> Any:
    """Biases and norms too: at transformers' zeros and ones an exporter takes many weights for one."""
    import torch

    try:
        model = loader.from_config(config, dtype=torch.float32)
    except Exception as error:  # every architecture has checks of its own
        raise ModelError(f"no '{config.model_type}' model can be made of this config.json: {summary(error)}") from error
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(index))
    return model.eval()

"""From a config.json to an Architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline_estimate.architecture import Architecture, Stack
from ridgeline_estimate.configs.decoders import DECODERS
from ridgeline_estimate.configs.encoders import ENCODERS
from ridgeline_estimate.configs.heads import Role, masked_lm_head, read_head
from ridgeline_estimate.configs.kind import Kind
from ridgeline_estimate.configs.stacks import read_stack
from ridgeline_estimate.configs.tasks import class_name, task_of
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError


def read_architecture(config: Mapping[str, Any], task: str | None = None) -> Architecture:
    """What a model is made of, from its config.json.

    task: optimum's name of what runs; then only what that task needs is counted, so that feature-extraction has no
          pooler. None = the class in `architectures`, whole.
    Raises ShapeError when the config describes no text Transformer that can be counted.
    """
    if not isinstance(config, Mapping):
        raise ShapeError(f"a model's config is a JSON object, not {type(config).__name__}")
    values = Values(config)
    name = class_name(config)
    found = task_of(name, task)
    kind, role = _kind(values, found)
    stack = read_stack(values, kind, is_causal=role == "decoder")
    vocab = values.integer("vocab")
    if role == "decoder" and values.model_type in ENCODERS and found == "text-generation":
        head = masked_lm_head(values, kind, stack, vocab)
    else:
        head = read_head(values, kind, stack, vocab, role, found, is_base=task is None)
    return Architecture(
        model_type=values.model_type,
        name=name,
        task=found,
        vocab=vocab,
        encoder=stack if role == "encoder" else None,
        decoder=stack if role == "decoder" else None,
        head=head,
        max_positions=_max_positions(stack, kind),
    )


def _kind(values: Values, task: str) -> tuple[Kind, Role]:
    if values.model_type in DECODERS:
        return DECODERS[values.model_type], "decoder"
    if values.model_type in ENCODERS:
        is_decoder = task == "text-generation" or values.flag("is_decoder")
        return ENCODERS[values.model_type], "decoder" if is_decoder else "encoder"
    raise ShapeError(f"model type '{values.model_type}' cannot be counted")


def _max_positions(stack: Stack, kind: Kind) -> int | None:
    return stack.positions - kind.position_offset if stack.positions else None

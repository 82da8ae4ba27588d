"""From a config.json to an Architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ridgeline_estimate.architecture import Architecture, Head, Stack
from ridgeline_estimate.configs.compressed import compressed
from ridgeline_estimate.configs.decoders import DECODERS
from ridgeline_estimate.configs.dropouts import read_dropout
from ridgeline_estimate.configs.encoder_decoders import (
    ENCODER_DECODERS,
    Pair,
    add_cross_attention,
    read_pair,
    read_side,
)
from ridgeline_estimate.configs.encoders import ENCODERS
from ridgeline_estimate.configs.heads import Role, masked_lm_head, read_head
from ridgeline_estimate.configs.kind import Kind
from ridgeline_estimate.configs.stacks import read_stack
from ridgeline_estimate.configs.tasks import class_name, task_of
from ridgeline_estimate.configs.unknown import guess_kind
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError

_ENCODER_ALONE = ("EncoderModel", "ForTokenClassification")


def read_architecture(
    config: Mapping[str, Any], task: str | None = None, *, is_complete: bool = False, guesses: bool = False
) -> Architecture:
    """What a model is made of, from its config.json; a compressed one without what it lacks.

    task:        optimum's name of what runs; then only what that task needs is counted, so that feature-extraction has
                 no pooler. None = the class in `architectures`, whole.
    is_complete: the config holds all attributes, as a bundle's does. Else transformers and optimum are loaded, where
                 they are installed, to fill in what the config of a type that is unknown here leaves out.
    guesses:     types whose layers are known to differ from the usual ones are read as if they did not: the costs of a
                 bundle may be rough, but it is served
    Raises ShapeError when the config describes no text Transformer that can be counted.
    """
    if not isinstance(config, Mapping):
        raise ShapeError(f"a model's config is a JSON object, not {type(config).__name__}")
    values = Values(config, is_complete=is_complete)
    values.check_layers()
    _refuse_several_parts(values)
    name = class_name(config)
    found = task_of(name, task)
    pair = ENCODER_DECODERS.get(values.model_type)
    if pair is not None:
        encoder, decoder = _pair_stacks(values, pair, name, found)
        return compressed(config, _architecture(values, name, found, pair.kind, encoder, decoder, is_base=task is None))
    kind, is_decoder, is_known = _single_kind(values, found, guesses)
    stack = read_stack(values, kind, is_causal=is_decoder)
    encoder, decoder = (None, stack) if is_decoder else (stack, None)
    architecture = _architecture(values, name, found, kind, encoder, decoder, is_base=task is None)
    return compressed(config, replace(architecture, is_known=is_known))


def _refuse_several_parts(values: Values) -> None:
    parts = [name for name in ("text_config", "encoder", "decoder") if isinstance(values.config.get(name), Mapping)]
    if parts and values.find("hidden") is None:
        raise ShapeError(
            f"the config is of a model of several parts (it holds a {parts[0]}); pass that part alone as a config.json"
        )


def _single_kind(values: Values, task: str, guesses: bool) -> tuple[Kind, bool, bool]:
    """Its kind, whether it is a decoder, and whether the kind is its own or guessed."""
    if values.config.get("is_encoder_decoder"):
        raise ShapeError(
            f"the config is of an encoder-decoder, of which '{values.model_type}' cannot be counted; "
            f"known are {', '.join(sorted(ENCODER_DECODERS))}"
        )
    if values.model_type in DECODERS:
        return DECODERS[values.model_type], True, True
    if values.model_type in ENCODERS:
        return ENCODERS[values.model_type], task == "text-generation" or values.flag("is_decoder"), True
    kind, is_decoder = guess_kind(values, task, guesses=guesses)
    return kind, is_decoder, False


def _pair_stacks(values: Values, pair: Pair, name: str | None, task: str) -> tuple[Stack | None, Stack | None]:
    """Some classes of encoder-decoders have the encoder alone, or the decoder."""
    if name is not None and name.endswith(_ENCODER_ALONE):
        return read_side(values, pair, "encoder"), None
    if task == "text-generation":
        return None, add_cross_attention(read_side(values, pair, "decoder"))
    return read_pair(values, pair)


def _architecture(
    values: Values,
    name: str | None,
    task: str,
    kind: Kind,
    encoder: Stack | None,
    decoder: Stack | None,
    *,
    is_base: bool,
) -> Architecture:
    vocab = values.integer("vocab")
    return Architecture(
        model_type=values.model_type,
        name=name,
        task=task,
        vocab=vocab,
        encoder=encoder,
        decoder=decoder,
        head=_head(values, kind, encoder, decoder, vocab, task, is_base),
        max_positions=_max_positions(kind, encoder, decoder),
        dropout=read_dropout(values),
    )


def _head(
    values: Values, kind: Kind, encoder: Stack | None, decoder: Stack | None, vocab: int, task: str, is_base: bool
) -> Head:
    stack = decoder or encoder
    assert stack is not None
    if encoder is None and values.model_type in ENCODERS and task == "text-generation":
        return masked_lm_head(values, kind, stack, vocab)
    role: Role = "encoder-decoder" if encoder and decoder else "decoder" if decoder else "encoder"
    return read_head(values, kind, stack, vocab, role, task, is_base=is_base)


def _max_positions(kind: Kind, *stacks: Stack | None) -> int | None:
    """How long an input the tables of positions allow; fixed positions are computed as far as needed."""
    rows = [stack.positions for stack in stacks if stack is not None and stack.positions]
    if not rows or kind.positions == "fixed":
        return None
    return min(rows) - kind.position_offset

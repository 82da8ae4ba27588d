"""Sizes of a graph's inputs on a workload, by their names, their places and the names of their axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ridgeline_estimate.errors import GraphError
from ridgeline_estimate.graph.model import Array, Axis, Declared, Shape, Value
from ridgeline_estimate.workload import Mode, Workload

_CACHE = re.compile(r"past|cache|key_values")
_CACHE_POSITION = re.compile(r"cache_position|past_(sequence|seq)_len|past_length")
_ENCODER = re.compile(r"encoder_(hidden_states|outputs|attention_mask|last_hidden)|(^|\.)encoder\.|cross")
_BOUNDS = re.compile(r"^cu_seqlens$|^cu_seq_lens")
_PREFIX = re.compile(r"^(inputs?|kwargs|args)\.")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a graph's inputs: new ones, those in the cache, and those of an encoder.

    bounds: of the sequences in a packed graph, whose batch is one row of all new tokens; None in other graphs
    """

    batch: int
    new: int
    past: int
    source: int
    bounds: tuple[int, ...] | None = None

    @property
    def total(self) -> int:
        """Keys that a new token may attend to."""
        return self.past + self.new


def bind_inputs(
    inputs: Sequence[Declared], used: frozenset[str], workload: Workload
) -> tuple[dict[str, Value], dict[str, int], list[str]]:
    """The graph's inputs on a workload, the sizes that symbols stand for, and warnings about what was assumed.

    used: names of the inputs that nodes read; of the others nothing is assumed
    Raises GraphError when the graph cannot run the workload: no KV cache, other sizes fixed in the file, training.
    """
    names = [_PREFIX.sub("", value.name) for value in inputs]
    lengths = _lengths(names, inputs, workload)
    symbols: dict[str, int] = {} if lengths.bounds is None else {"sequences": len(lengths.bounds) - 1}
    warnings: list[str] = []
    values: dict[str, Value] = {}
    has_decoder_ids = any(name.startswith("decoder_input") for name in names)
    # Inputs whose roles are plain go first, so that their symbols say what the others' mean.
    for name, value in sorted(zip(names, inputs, strict=True), key=lambda pair: pair[0] not in _PLAIN):
        here = lengths
        if has_decoder_ids and not name.startswith("decoder_") and not _is_cache(name, value):
            here = Lengths(lengths.batch, lengths.source, 0, lengths.source)
        shape = _shape(name, value, here, symbols, warnings if value.name in used else [])
        values[value.name] = Value(value.name, value.element_type, shape, constant=_constant(name, shape, here))
    return values, symbols, warnings


_PLAIN = frozenset({"input_ids", "decoder_input_ids", "inputs_embeds", "attention_mask"})


def _lengths(names: Sequence[str], inputs: Sequence[Declared], workload: Workload) -> Lengths:
    if workload.mode is Mode.TRAIN:
        raise GraphError(
            "an ONNX graph for inference has no backward pass; estimate training from the model's config, "
            "or choose mode forward"
        )
    has_cache = any(_is_cache(name, value) for name, value in zip(names, inputs, strict=True))
    if not has_cache and (workload.past or (workload.mode is Mode.DECODE and not _is_seq2seq(names))):
        raise GraphError(
            "the graph has no inputs for a KV cache (past_key_values), so that it can neither decode token by token "
            "nor take past tokens; choose mode forward and past 0, or a graph that was exported with its cache"
        )
    if is_packed(inputs):
        return Lengths(1, workload.new_tokens, 0, workload.new_tokens, workload.bounds)
    new = workload.seq
    if _is_seq2seq(names):
        new = workload.target or workload.seq
    if workload.mode is Mode.DECODE and (has_cache or _is_seq2seq(names)):
        new = 1
    return Lengths(workload.batch, new, workload.past, workload.seq)


def is_packed(inputs: Sequence[Declared]) -> bool:
    """Whether sequences lie end to end in one row, with their bounds beside them."""
    names = [_PREFIX.sub("", value.name) for value in inputs]
    has_bounds = any(_BOUNDS.search(name) for name in names)
    ids = [value for name, value in zip(names, inputs, strict=True) if name in _PLAIN and len(value.shape or ()) > 1]
    return has_bounds and all(value.shape is not None and value.shape[0] == 1 for value in ids)


def _is_seq2seq(names: Sequence[str]) -> bool:
    """A decoder that attends to an encoder's states: alone, or with its encoder in the same graph."""
    return any(_ENCODER.search(name) or name.startswith("decoder_input") for name in names)


def _is_cache(name: str, value: Declared) -> bool:
    return bool(_CACHE.search(name)) and not _CACHE_POSITION.search(name) and len(value.shape or ()) >= 3


def _shape(name: str, value: Declared, lengths: Lengths, symbols: dict[str, int], warnings: list[str]) -> Shape | None:
    if value.shape is None:
        warnings.append(f"input '{value.name}' has no shape in the file; what follows from it is not counted")
        return None
    roles = _roles(name, value, lengths)
    shape = []
    for axis, (size, role) in enumerate(zip(value.shape, roles, strict=True)):
        if isinstance(size, int):
            _check_fixed(value.name, axis, size, role, name in _PLAIN)
            if role is not None and role != size and name not in _PLAIN and _is_known(name, value):
                kind = "of the KV cache" if _is_cache(name, value) else f"of input '{value.name}'"
                note = f"the file fixes axis {axis} {kind} to {size}, {role} was asked for; it is counted as {size}"
                if note not in warnings:
                    warnings.append(note)
            shape.append(size)
            continue
        found = _by_symbol(size, role, lengths, symbols)
        if found is None:
            warnings.append(
                f"axis {axis} ({size or 'unnamed'}) of input '{value.name}' is neither batch nor tokens; it counts as 1"
            )
            found = 1
        if size:
            symbols.setdefault(size, found)
        shape.append(found)
    return tuple(shape)


def _roles(name: str, value: Declared, lengths: Lengths) -> Sequence[int | None]:
    """What each axis of an input should be by the input's name, None where the name does not say."""
    rank = len(value.shape or ())
    roles: list[int | None] = [None] * rank
    if _is_cache(name, value):
        tokens = lengths.source if _ENCODER.search(name) else lengths.past
        if rank >= 4:
            # [batch, heads, tokens, head_dim], or keys and values in one: [2, batch, heads, tokens, head_dim]
            roles[-4], roles[-2] = lengths.batch, tokens
            return roles
        free = [axis for axis, size in enumerate(value.shape or ()) if not isinstance(size, int)]
        for axis, size in zip(free, (lengths.batch, tokens), strict=False):
            roles[axis] = size
        return roles
    if name == "cache_position":
        return [lengths.new][:rank]
    if _BOUNDS.search(name):
        return [lengths.batch + 1 if lengths.bounds is None else len(lengths.bounds)][:rank]
    if rank == 0:
        return []
    tokens = lengths.new
    if _ENCODER.search(name):
        tokens = lengths.source
    elif name.endswith("attention_mask"):
        tokens = lengths.total
    if name.endswith("mask") and rank in (3, 4):
        roles[0], roles[-2], roles[-1] = lengths.batch, lengths.new, tokens
    else:
        # Rotary positions of some models are [3, batch, tokens].
        first = 1 if rank == 3 and name.endswith("position_ids") else 0
        roles[first] = lengths.batch
        if rank > first + 1:
            roles[first + 1] = tokens
    return roles


def _by_symbol(symbol: Axis, role: int | None, lengths: Lengths, symbols: dict[str, int]) -> int | None:
    if not isinstance(symbol, str):
        return role
    if symbol in symbols and (role is None or not _is_telling(symbol)):
        return symbols[symbol]
    if role is not None:
        return role
    name = symbol.lower()
    if "batch" in name:
        return lengths.batch
    if "encoder" in name and "decoder" not in name:
        return lengths.source
    if "total" in name or ("past" in name and "+" in name):
        return lengths.total
    if "past" in name:
        return lengths.past
    if "seq" in name or "length" in name or "tokens" in name:
        return lengths.new
    return None


def _is_telling(symbol: str) -> bool:
    return bool(re.search(r"batch|seq|length|tokens|past|total", symbol.lower()))


def _is_known(name: str, value: Declared) -> bool:
    """Whether an input's name says what its axes are."""
    return _is_cache(name, value) or bool(re.search(r"_ids$|_mask$|_embeds$|hidden_state|cache_position", name))


def _check_fixed(name: str, axis: int, size: int, role: int | None, is_plain: bool) -> None:
    if is_plain and role is not None and size != role and axis < 2:
        wanted, option = ("sequences", "batch") if axis == 0 else ("tokens", "seq")
        if option == "seq" and name.startswith("decoder_"):
            option = "target"
        raise GraphError(
            f"the file fixes axis {axis} of input '{name}' to {size} {wanted}, {role} were asked for; "
            f"choose {option} {size}, or export the graph with dynamic axes"
        )


def _constant(name: str, shape: Shape | None, lengths: Lengths) -> Array | None:
    """Elements of inputs that steer the graph."""
    if shape is None:
        return None
    if _BOUNDS.search(name) and lengths.bounds is not None and shape == (len(lengths.bounds),):
        return np.asarray(lengths.bounds, np.int32)
    if name == "use_cache_branch":
        return np.full(shape, lengths.past > 0)
    if name in ("total_sequence_length", "total_seq_len"):
        return np.full(shape, lengths.total, np.int32)
    if name in ("past_sequence_length", "past_seq_len"):
        return np.full(shape, lengths.past, np.int32)
    return None

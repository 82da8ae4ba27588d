"""Input tensors to what tasks and the engine take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.oip.signature import CONTEXT, IDS, MASK, QUESTION, TEXT, TEXT_PAIR, TYPES, inputs_of
from ridgeline_server.http.oip.tensors import Tensor, texts_of
from ridgeline_server.request import ModelInfo
from ridgeline_server.sequences import Input, TokenIds
from ridgeline_server.tasks.inputs import Question


@dataclass(frozen=True, slots=True)
class Given:
    """Inputs of a request.

    values:    as the model's own task takes them, see InputKind
    inputs:    as the engine takes them
    """

    values: Sequence[Any]
    inputs: Sequence[Input]
    has_texts: bool


def read_inputs(model: ModelInfo, tensors: Mapping[str, Tensor]) -> Given:
    """The inputs that the tensors hold. Raises InvalidInputError for tensors that the model does not take."""
    known = {spec.name: spec for spec in inputs_of(model)}
    for name, tensor in tensors.items():
        if name not in known:
            raise InvalidInputError(
                f"model '{model.name}' takes no input {name[:60]!r}; it takes: {', '.join(known)}", name
            )
        _check_kind(tensor, is_text=known[name].datatype == "BYTES")
    needed = (QUESTION, CONTEXT) if model.task == "question-answering" else (TEXT,)
    if IDS in tensors:
        return _ids(model, tensors)
    missing = [name for name in needed if name not in tensors]
    if missing:
        other = f", or {IDS}" if IDS in known and len(missing) == len(needed) else ""
        raise InvalidInputError(f"the input {' and '.join(missing)} is missing; give it{other}", missing[0])
    unused = [name for name in (MASK, TYPES) if name in tensors]
    if unused:
        raise InvalidInputError(
            f"{unused[0]} goes with {IDS}, and texts were given; give texts or token ids", unused[0]
        )
    return _texts(model, tensors)


def _check_kind(tensor: Tensor, is_text: bool) -> None:
    if is_text and (tensor.datatype != "BYTES" or not _is_column(tensor.shape)):
        raise InvalidInputError(
            f"input '{tensor.name}' is of datatype {tensor.datatype} and shape {list(tensor.shape)}; give BYTES of "
            "shape [inputs] or [inputs, 1], a text each",
            tensor.name,
        )
    if not is_text and (tensor.datatype not in ("INT64", "INT32") or len(tensor.shape) != 2):
        raise InvalidInputError(
            f"input '{tensor.name}' is of datatype {tensor.datatype} and shape {list(tensor.shape)}; give INT64 or "
            "INT32 of shape [inputs, tokens]",
            tensor.name,
        )
    if not tensor.shape[0]:
        raise InvalidInputError(f"input '{tensor.name}' is empty; give at least one input", tensor.name)


def _is_column(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _texts(model: ModelInfo, tensors: Mapping[str, Tensor]) -> Given:
    columns = {name: texts_of(tensor) for name, tensor in tensors.items()}
    for name, texts in columns.items():
        for index, text in enumerate(texts):
            if "\0" in text:
                raise InvalidInputError(f"element {index} of input '{name}' holds a NUL character; remove it", name)
            if not text and name != TEXT_PAIR:
                raise InvalidInputError(
                    f"element {index} of input '{name}' is empty; give at least one character", name
                )
    first, *others = columns
    for name in others:
        if len(columns[name]) != len(columns[first]):
            raise InvalidInputError(
                f"input '{name}' holds {len(columns[name])} texts and '{first}' {len(columns[first])}; give as many",
                name,
            )
    if model.task == "question-answering":
        pairs = list(zip(columns[QUESTION], columns[CONTEXT], strict=True))
        return Given([Question(*pair) for pair in pairs], pairs, has_texts=True)
    inputs: list[Any] = columns[TEXT]
    if TEXT_PAIR in columns:
        inputs = list(zip(columns[TEXT], columns[TEXT_PAIR], strict=True))
    return Given(inputs, inputs, has_texts=True)


def _ids(model: ModelInfo, tensors: Mapping[str, Tensor]) -> Given:
    """Rows of token ids without their padding, which the mask marks."""
    texts = [name for name in tensors if name not in (IDS, MASK, TYPES)]
    if texts:
        raise InvalidInputError(f"both {IDS} and '{texts[0]}' were given; give texts or token ids", texts[0])
    ids = tensors[IDS].array
    for name in (MASK, TYPES):
        if name in tensors and tensors[name].shape != ids.shape:
            raise InvalidInputError(
                f"input '{name}' has the shape {list(tensors[name].shape)} and {IDS} {list(ids.shape)}; give the same",
                name,
            )
    if ids.size and (ids.min() < 0 or ids.max() >= model.vocab_size):
        misfit = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise InvalidInputError(f"{IDS} holds {misfit}; this model's ids are 0 to {model.vocab_size - 1}", IDS)
    lengths = _lengths(tensors[MASK].array) if MASK in tensors else np.full(len(ids), ids.shape[1])
    types = tensors[TYPES].array if TYPES in tensors else None
    if types is not None and types.size and not 0 <= types.min() <= types.max() <= 1:
        raise InvalidInputError(
            f"{TYPES} holds {int(types.max())}; types are 0 for the first text, 1 for the second", TYPES
        )
    inputs = [
        TokenIds(
            row[:length].astype(np.int32),
            None if types is None else types[index, :length].astype(np.int32),
        )
        for index, (row, length) in enumerate(zip(ids, lengths.tolist(), strict=True))
    ]
    return Given(inputs, inputs, has_texts=False)


def _lengths(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    lengths: npt.NDArray[Any] = (mask != 0).sum(axis=1)
    if not ((np.arange(mask.shape[1]) < lengths[:, None]) == (mask != 0)).all():
        raise InvalidInputError(f"{MASK} has zeros before ones; put padding after each row's tokens", MASK)
    if not lengths.all():
        raise InvalidInputError(f"row {int(lengths.argmin())} of {MASK} has no ones; give each input a token", MASK)
    return lengths

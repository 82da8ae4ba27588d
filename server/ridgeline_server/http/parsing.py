"""Bodies into checked values. Stops at the first mistake, and says it in one sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from ridgeline_server.errors import InvalidInputError, RequestTooLargeError
from ridgeline_server.http.errors import EmptyInputError, RefusedError, TooManyInputsError, quote, shorten

Inputs = list[str] | list[list[int]]


def require_json(content_type: bytes) -> None:
    """Raises: RefusedError 415 unless the content type is JSON's.

    A browser sends other types across origins without asking first; insisting on this one keeps foreign pages out.
    """
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type == b"application/json":
        return
    if not (media_type.startswith(b"application/") and media_type.endswith(b"+json")):
        given = quote(media_type.decode("latin-1")) if media_type else "missing"
        raise RefusedError(415, f"the content type is {given}; send the header `Content-Type: application/json`")


def json_object(body: bytes, keys: Sequence[bytes]) -> dict[str, Any]:
    """The body as an object in which each of the `keys` (quoted JSON) occurs at most once.

    Raises: InvalidInputError
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not _is_utf8(body):
            raise InvalidInputError("the body is not UTF-8; send JSON in UTF-8") from None
        raise InvalidInputError(f"the body is not valid JSON: {shorten(str(error), 200)}") from None
    if type(value) is not dict:
        raise InvalidInputError(f"the body is {quote(value)}; send a JSON object")
    for key in keys:
        # A text may end in a quoted key, so that only the slow way knows whether it is one.
        if body.count(key) > 1:
            _refuse_duplicates(body)
            break
    return value


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _refuse_duplicates(body: bytes) -> None:
    def check(pairs: list[tuple[str, object]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidInputError(f"the field {quote(key)} is given twice; give it once", shorten(key, 60))
            seen.add(key)

    try:
        json.loads(body, object_pairs_hook=check)
    except RecursionError:
        raise InvalidInputError("the body is nested too deeply; send a flat JSON object") from None


def inputs_of(value: object, param: str, max_inputs: int, has_nul: bool) -> Inputs:
    """Texts, or token ids, as a list with one entry per input.

    Accepts a text, a list of texts, a list of token ids, or a list of lists of token ids.

    has_nul: the body may hold a NUL character

    Raises: InvalidInputError
    """
    if type(value) is str:
        return checked_texts([value], param, has_nul)
    if type(value) is not list:
        raise _not_inputs(param, quote(value))
    entries: list[Any] = value
    kinds = set(map(type, entries))
    if kinds == {int}:
        return [entries]
    check_count(entries, param, max_inputs)
    if kinds == {str}:
        return checked_texts(entries, param, has_nul)
    if kinds != {list}:
        raise _not_inputs(param, _first_misfit(entries, param))
    for index, ids in enumerate(entries):
        check_ids(ids, f"{param}[{index}]", param)
    return entries


def check_count(entries: Sequence[object], name: str, most: int, param: str | None = None) -> None:
    """Raises: InvalidInputError for no inputs, or more than one request may hold.

    name: the array's, for messages; param: the field's, None = the same
    """
    if not entries:
        raise EmptyInputError(f"`{name}` is an empty array; give at least one input", param or name)
    if len(entries) > most:
        raise TooManyInputsError(
            f"`{name}` holds {len(entries)} inputs; one request may hold {most}: send several requests", param or name
        )


def check_ids(ids: list[Any], name: str, param: str) -> None:
    """Raises: InvalidInputError unless the array holds whole numbers alone, and one at least."""
    if not ids:
        raise EmptyInputError(f"`{name}` is an empty array; give at least one token id", param)
    if set(map(type, ids)) != {int}:
        misfit = next(item for item in ids if type(item) is not int)
        raise InvalidInputError(f"`{name}` holds {quote(misfit)}; token ids are whole numbers", param)


def array_of_texts(value: object, name: str, most: int, has_nul: bool) -> list[str]:
    """An array of one to `most` texts. Raises: InvalidInputError naming the first misfit"""
    if type(value) is not list:
        raise InvalidInputError(f"`{name}` is {quote(value)}; give an array of texts", name)
    check_count(value, name, most)
    if set(map(type, value)) != {str}:
        index, misfit = next((i, entry) for i, entry in enumerate(value) if type(entry) is not str)
        raise InvalidInputError(f"`{name}[{index}]` is {quote(misfit)}; give a text", name)
    return checked_texts(value, name, has_nul)


def checked_texts(texts: list[str], param: str, has_nul: bool) -> list[str]:
    """The texts. Raises: InvalidInputError for an empty one, or one with a NUL character."""
    if not all(texts):
        index = texts.index("")
        name = f"{param}[{index}]" if len(texts) > 1 else param
        raise EmptyInputError(f"`{name}` is an empty text; give at least one character", param)
    if has_nul:
        for index, text in enumerate(texts):
            if "\0" in text:
                raise InvalidInputError(f"`{param}` holds a NUL character in text {index}; remove it", param)
    return texts


def check_token_ids(inputs: list[list[int]], param: str, vocab_size: int, max_tokens: int) -> None:
    """Raises: RequestTooLargeError above `max_tokens`, InvalidInputError for an id outside the model's vocabulary."""
    tokens = sum(map(len, inputs))
    if tokens > max_tokens:
        raise RequestTooLargeError(
            f"`{param}` holds {tokens} token ids; one request may hold {max_tokens}: send several requests", param
        )
    for ids in inputs:
        if min(ids) < 0 or max(ids) >= vocab_size:
            misfit = next(item for item in ids if not 0 <= item < vocab_size)
            raise InvalidInputError(
                f"`{param}` holds the token id {misfit}; this model's ids are 0 to {vocab_size - 1}", param
            )


def optional_bool(fields: dict[str, Any], name: str) -> bool | None:
    """Raises: InvalidInputError unless the field is true, false, null or absent."""
    value = fields.get(name)
    if value is None or type(value) is bool:
        return value
    raise InvalidInputError(f"`{name}` is {quote(value)}; give true or false, or leave it out", name)


def optional_object(value: object, name: str) -> dict[str, Any]:
    """A field's object, empty where it is null or absent. Raises: InvalidInputError"""
    if value is None:
        return {}
    if type(value) is not dict:
        raise InvalidInputError(f"`{name}` is {quote(value)}; give an object, or leave it out", name)
    return value


def optional_choice(fields: dict[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    """Raises: InvalidInputError unless the field is one of the choices, null or absent."""
    value = fields.get(name)
    if value is None or (type(value) is str and value in choices):
        return value
    allowed = " or ".join(f'"{choice}"' for choice in choices)
    raise InvalidInputError(f"`{name}` is {quote(value)}; give {allowed}, or leave it out", name)


def optional_dimensions(fields: dict[str, Any]) -> int | None:
    """Raises: InvalidInputError unless `dimensions` is a positive whole number, null or absent."""
    value = fields.get("dimensions")
    if value is None or (type(value) is int and value > 0):
        return value
    raise InvalidInputError(
        f"`dimensions` is {quote(value)}; give a whole number above 0, or leave it out", "dimensions"
    )


def _first_misfit(values: list[object], param: str) -> str:
    first = type(values[0])
    if first not in (str, int, list):
        return f"an array that begins with {quote(values[0])}"
    index, misfit = next((i, value) for i, value in enumerate(values) if type(value) is not first)
    return f"an array in which {param}[{index}], {quote(misfit)}, is of another type than the first entry"


def _not_inputs(param: str, given: str) -> InvalidInputError:
    return InvalidInputError(
        f"`{param}` is {given}; give a text, an array of texts, an array of token ids, or an array of such arrays",
        param,
    )

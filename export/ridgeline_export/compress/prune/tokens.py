"""A tokenizer with fewer tokens: `tokenizer.json` of the kinds that the tokenizers library has, rewritten.

Texts whose tokens are all kept are tokenized as before. Characters, bytes and special tokens always stay, so that every
text that could be read still can.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ridgeline_export.errors import UnsupportedModelError

KINDS = ("WordPiece", "BPE", "Unigram", "WordLevel")
# Token types as post-processors spell them, with the id that follows.
_PAIRS = ("sep", "cls")


def needed_tokens(tokenizer: Mapping[str, Any], used: Iterable[int]) -> list[int]:
    """Ids that must stay so that the used ones keep their meaning, ascending.

    tokenizer: content of tokenizer.json
    Raises UnsupportedModelError for a kind of tokenizer that is not in KINDS.
    """
    model = tokenizer["model"]
    vocabulary = vocabulary_of(model)
    names = {number: token for token, number in vocabulary.items()}
    added = {int(entry["id"]) for entry in tokenizer.get("added_tokens") or []}
    kept = {number for number in used if number in names} | added | _named(tokenizer, vocabulary)
    prefix, suffix = (model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix"))
    kept |= {
        number for token, number in vocabulary.items() if len(token.removeprefix(prefix).removesuffix(suffix)) == 1
    }
    kept |= {number for token, number in vocabulary.items() if _is_byte(token)}
    if model["type"] == "BPE":
        merges = _merges(model)
        for number in list(kept & set(names)):
            parts = _parts(names[number], merges, model.get("end_of_word_suffix") or "")
            kept |= {vocabulary[part] for part in parts if part in vocabulary}
    return sorted(kept)


def vocabulary_of(model: Mapping[str, Any]) -> dict[str, int]:
    """Ids by token, without added tokens. Raises UnsupportedModelError for a kind that is not in KINDS."""
    kind = model.get("type")
    if kind not in KINDS:
        raise UnsupportedModelError(
            f"the tokenizer is of the kind '{kind}'; vocabularies of these can be pruned: {', '.join(KINDS)}"
        )
    if kind == "Unigram":
        return {str(token): number for number, (token, _) in enumerate(model["vocab"])}
    return {str(token): int(number) for token, number in model["vocab"].items()}


def with_tokens(tokenizer: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """tokenizer.json with these tokens alone, numbered by their places in `kept`."""
    new = copy.deepcopy(dict(tokenizer))
    numbers = {old: number for number, old in enumerate(kept)}
    model = new["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in numbers]
        if model.get("unk_id") is not None:
            model["unk_id"] = numbers[model["unk_id"]]
    else:
        old = vocabulary_of(model)
        model["vocab"] = {token: numbers[number] for token, number in old.items() if number in numbers}
    if model["type"] == "BPE":
        vocabulary = model["vocab"]
        model["merges"] = [
            merge
            for merge in model["merges"]
            if all(part in vocabulary for part in (*_pair(merge), "".join(_pair(merge))))
        ]
    for entry in new.get("added_tokens") or []:
        entry["id"] = numbers[entry["id"]]
    if isinstance(new.get("padding"), dict) and "pad_id" in new["padding"]:
        new["padding"]["pad_id"] = numbers[new["padding"]["pad_id"]]
    if new.get("post_processor"):
        _renumber(new["post_processor"], numbers)
    return new


def _renumber(processor: dict[str, Any], numbers: Mapping[int, int]) -> None:
    for each in processor.get("processors") or []:
        _renumber(each, numbers)
    for name in _PAIRS:
        if isinstance(processor.get(name), list):
            processor[name][1] = numbers[processor[name][1]]
    for entry in (processor.get("special_tokens") or {}).values():
        entry["ids"] = [numbers[number] for number in entry["ids"]]


def _named(tokenizer: Mapping[str, Any], vocabulary: Mapping[str, int]) -> set[int]:
    """Tokens that the tokenizer itself names: for what is unknown, and those that a post-processor adds."""
    model = tokenizer["model"]
    found = {vocabulary[token] for token in [model.get("unk_token")] if token in vocabulary}
    if model.get("unk_id") is not None:
        found.add(int(model["unk_id"]))
    waiting = [tokenizer.get("post_processor") or {}]
    while waiting:
        processor = waiting.pop()
        waiting += processor.get("processors") or []
        found |= {int(processor[name][1]) for name in _PAIRS if isinstance(processor.get(name), list)}
        for entry in (processor.get("special_tokens") or {}).values():
            found |= {int(number) for number in entry["ids"]}
    return found


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _pair(merge: Any) -> tuple[str, str]:
    """A merge as older files write it, in one string, or newer ones, as a list."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _merges(model: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    return {_pair(merge): rank for rank, merge in enumerate(model["merges"])}


def _parts(token: str, merges: Mapping[tuple[str, str], int], suffix: str) -> set[str]:
    """Every token that merging the characters of a token passes through. suffix: marks a word's last character"""
    has_suffix = bool(suffix) and token.endswith(suffix)
    pieces = list(token.removesuffix(suffix) if has_suffix else token)
    if has_suffix and pieces:
        pieces[-1] += suffix
    found = set(pieces)
    while True:
        ranked = [(merges[pair], place) for place, pair in enumerate(itertools.pairwise(pieces)) if pair in merges]
        if not ranked:
            return found
        place = min(ranked)[1]
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        found.add(pieces[place])

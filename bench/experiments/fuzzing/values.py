"""JSON that is nearly right: valid bodies with one to three things changed, and what JSON libraries cannot write."""

from __future__ import annotations

import copy
import json
import random
from typing import Any


class Raw(bytes):
    """Written as it is, whether that is JSON or not."""


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may stand there several times."""


_DEEP = (200, 1_000, 20_000)
_TOKENS = (
    b"NaN", b"-Infinity", b"1e999", b"-0", b"-0.0", b"1E400", b"0x10", b"01", b"1_000", b".5", b"+1",
    b"123456789012345678901234567890", b"18446744073709551616", b"-9223372036854775809", b"1e-400", b"2.5e0",
    b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\u0000"', b'"\\x41"', b"'a'", b'"a\x00b"', b'"\xff\xfe"',
    b'"\xed\xa0\x80"', b'"a\nb"', b'"unfinished', b"", b"nul", b"True", b"undefined", b"/* a */ 1", b"[1,]",
    b'{"a":1,}', b"{,}", b"\xef\xbb\xbf1",
)  # fmt: skip
_TEXTS = (
    "", " ", "\t\n\r", "\u200b", "\ufeff", "\u202eabc", "e\u0301" * 30, "👩‍👩‍👧‍👦" * 8, "日本語の文章です。",
    "שלום עולם", "नमस्ते दुनिया",
    "\x01\x02\x1b[31m", "\x7f", "ﬁ İ ß ǅ", "a\u0300\u0301\u0302\u0303" * 20, "\U0010ffff", "[MASK]",
    "[MASK] [MASK] <mask>", "[CLS] [SEP] [PAD]", "</s><s>", "../../etc/passwd", "http://127.0.0.1:1/", "{}",
    "{{}} {}", "%s%n", "' OR 1=1 --", "true", "null", "0", "base64", "float", "right", "left", "none", "int8",
    "ubinary", "query", "default",
)  # fmt: skip
_SCALARS = (
    None, True, False, 0, 1, -1, 2, 3, 7, 10, 100, 511, 512, 100_000, 2**31, 2**53, -(2**63), 2**64 - 1, 0.0, 0.5,
    -0.5, 1.0, 1e-300, 1e308, -1e308, 3.999999,
)  # fmt: skip
_KEYS = (
    "inputs",
    "input",
    "parameters",
    "model",
    "truncate",
    "normalize",
    "dimensions",
    "id",
    "",
    "\u0000",
    "__proto__",
)
_WORDS = ("server", "batch", "token", "Paris", "tower", "rain", "🗼", "naïve", "x" * 40, "1,000", "don't")
_MOST_CHARS = 60_000


def text(rng: random.Random) -> str:
    """A text that somebody's tokenizer has not seen; seldom a long one."""
    if rng.random() < 0.5:
        return rng.choice(_TEXTS)
    if rng.random() < 0.05:
        return " ".join(rng.choices(_WORDS, k=rng.choice((300, 3_000))))[:_MOST_CHARS]
    if rng.random() < 0.2:
        return "".join(_character(rng) for _ in range(rng.randint(1, 60)))
    return " ".join(rng.choices(_WORDS, k=rng.randint(1, 30)))


def value(rng: random.Random) -> Any:
    """What a field may hold, and should not."""
    choice = rng.random()
    if choice < 0.25:
        return rng.choice(_SCALARS)
    if choice < 0.55:
        return text(rng)
    if choice < 0.7:
        return Raw(rng.choice(_TOKENS))
    if choice < 0.75:
        depth = rng.choice(_DEEP)
        opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
        return Raw(opening * depth + b"1" + closing * rng.choice((depth, depth - 1)))
    if choice < 0.85:
        return [value(rng) for _ in range(rng.randint(0, 3))]
    if choice < 0.92:
        return [rng.choice(_SCALARS) for _ in range(rng.choice((1, 2, 8, 500)))]
    return {rng.choice(_KEYS): value(rng) for _ in range(rng.randint(0, 2))}


def mutate(rng: random.Random, body: Any) -> bytes:
    """A body like this one, changed in its structure, in its bytes, or in both; sometimes still a right one."""
    body = copy.deepcopy(body)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        body = _change(rng, body)
    written = write(body)
    return damage(rng, written) if rng.random() < 0.2 else written


def damage(rng: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at : at + rng.randint(1, 8)]
            case 2:
                changed[at:at] = changed[at : at + rng.randint(1, 16)]
            case 3:
                changed[at:at] = rng.randbytes(rng.randint(1, 4))
            case _:
                del changed[at:]
    return bytes(changed)


def write(node: Any) -> bytes:
    """JSON, but for what is raw."""
    if isinstance(node, Raw):
        return bytes(node)
    if isinstance(node, Pairs):
        return b"{" + b",".join(json.dumps(key).encode() + b":" + write(each) for key, each in node) + b"}"
    if isinstance(node, dict):
        return write(Pairs(node.items()))
    if isinstance(node, list):
        return b"[" + b",".join(map(write, node)) + b"]"
    return json.dumps(node, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _change(rng: random.Random, body: Any) -> Any:
    places = list(_places(body))
    if not places or rng.random() < 0.03:
        return value(rng)
    holder, key = rng.choice(places)
    match rng.randrange(8):
        case 0 | 1 | 2:
            holder[key] = value(rng)
        case 3:
            del holder[key]
        case 4 if isinstance(holder, dict):
            holder[rng.choice(_KEYS)] = value(rng)
        case 5 if type(holder[key]) is list:
            most = 3_000 if rng.random() < 0.02 else 40
            holder[key] = (holder[key] * most)[: rng.randint(0, most)]
        case 5 | 6 if isinstance(holder[key], str):
            holder[key] = text(rng)
        case 6:
            holder[key] = [holder[key]]
        case 7 if isinstance(holder[key], dict):
            pairs = Pairs(holder[key].items())
            holder[key] = Pairs([*pairs, *rng.choices(pairs, k=1)] if pairs else [("a", 1), ("a", 2)])
        case _:
            holder[key] = text(rng)
    return Pairs([*body.items(), *rng.choices(list(body.items()))]) if _doubles(rng, body) else body


def _doubles(rng: random.Random, body: Any) -> bool:
    return isinstance(body, dict) and bool(body) and rng.random() < 0.04


def _places(node: Any) -> Any:
    """Every holder and key in a body, the first fields more often than the single items of long lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node[:5]) if type(node) is list else ()
    for key, child in items:
        yield node, key
        yield from _places(child)


def _character(rng: random.Random) -> str:
    code = rng.choice((rng.randrange(0x20, 0x7F), rng.randrange(0x80, 0xD800), rng.randrange(0xE000, 0x110000)))
    return chr(code)

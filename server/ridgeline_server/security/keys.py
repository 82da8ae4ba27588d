"""API keys: what a file of them says. Keys themselves are nowhere, only their SHA-256.

A file is TOML, a table for each key, of which `sha256` alone is required:

    [search]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    admin = false                   # may use the routes that change the server
    requests_per_minute = 600
    tokens_per_minute = 1_000_000
    tokens_per_day = 100_000_000    # days of UTC

A key made here has 256 random bits, so that its plain SHA-256 can neither be inverted nor guessed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_KEYS = 1000
_PREFIX = "rk_"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_SHA256 = re.compile(r"[0-9a-fA-F]{64}").fullmatch
_LIMITS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day")
_FIELDS = ("sha256", "admin", *_LIMITS)
_MOST = 10**15


class KeyFileError(Exception):
    """A file of keys cannot be used; the message says why and what to do, and never holds a key."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use, None = as much as it likes. Tokens are the model's, special tokens included."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One key by its name. `digest`: SHA-256 of the key, 32 bytes."""

    name: str
    digest: bytes
    is_admin: bool = False
    limits: Limits = Limits()


def digest_of(secret: bytes) -> bytes:
    """What is kept of a key, 32 bytes."""
    return hashlib.sha256(secret).digest()


def new_secret() -> str:
    """A random key of 256 bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def check_name(name: str) -> str:
    """The name, if a key may have it. Raises: KeyFileError."""
    if not _NAME(name):
        raise KeyFileError(f"{name[:80]!r} is no name for a key; take up to 64 letters, digits, _ and -")
    return name


def parse_keys(text: str, may_be_empty: bool = False) -> list[Key]:
    """The keys of a file. Raises: KeyFileError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KeyFileError(f"it is not TOML: {error}; `ridgeline keys add NAME` writes one") from None
    if not tables and not may_be_empty:
        raise KeyFileError("it holds no key; add one with: ridgeline keys add NAME")
    if len(tables) > MOST_KEYS:
        raise KeyFileError(f"it holds {len(tables)} keys; at most {MOST_KEYS} are allowed")
    keys = [_key(name, table) for name, table in tables.items()]
    names: dict[bytes, str] = {}
    for key in keys:
        if key.digest in names:
            raise KeyFileError(f"'{names[key.digest]}' and '{key.name}' are one key; give each its own")
        names[key.digest] = key.name
    return keys


def _key(name: str, table: object) -> Key:
    if not isinstance(table, dict):
        raise KeyFileError(f"'{name[:80]}' stands outside of a table; begin each key with [NAME]")
    check_name(name)
    unknown = sorted(set(table) - set(_FIELDS))
    if unknown:
        raise KeyFileError(f"key '{name}' has the field '{unknown[0][:80]}'; there are: {', '.join(_FIELDS)}")
    digest = table.get("sha256")
    if not isinstance(digest, str) or not _SHA256(digest):
        raise KeyFileError(f"key '{name}' needs `sha256`, the 64 hexadecimal digits of the key's SHA-256")
    is_admin = table.get("admin", False)
    if not isinstance(is_admin, bool):
        raise KeyFileError(f"`admin` of key '{name}' must be true or false")
    limits = Limits(**{field: _count(name, field, table) for field in _LIMITS})
    return Key(name, bytes.fromhex(digest), is_admin, limits)


def _count(name: str, field: str, table: Mapping[str, Any]) -> int | None:
    value = table.get(field)
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= _MOST:
        raise KeyFileError(f"`{field}` of key '{name}' must be a whole number from 1 to {_MOST}")
    return value

"""Whose key a request brings, by the keys of the file and of the environment."""

from __future__ import annotations

import hmac
import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from ridgeline_server.security.allowance import Allowance
from ridgeline_server.security.key_file import read_key_file
from ridgeline_server.security.keys import Key, KeyFileError, digest_of

KEY_VARIABLE = "RIDGELINE_API_KEY"
ADMIN_VARIABLE = "RIDGELINE_ADMIN_KEY"
_FILE_VARIABLE = "RIDGELINE_API_KEYS"
_NAMES = {KEY_VARIABLE: "environment", ADMIN_VARIABLE: "environment-admin"}
_LEAST_CHARACTERS = 16
# Longer ones are no keys, and not worth a hash.
_MOST_BYTES = 1024


class Caller:
    """Who asks: a key by its name, and what it may still use."""

    __slots__ = ("allowance", "is_admin", "name")

    def __init__(self, key: Key) -> None:
        self.name = key.name
        self.is_admin = key.is_admin
        self.allowance = Allowance(key.limits)


class KeyRing:
    """All keys that open the door. `reload` takes up a changed file; what keys have used stays counted."""

    def __init__(self, fixed: Sequence[Key], file: Path | None = None) -> None:
        """fixed: keys that stay; file: holds the others. Raises: KeyFileError."""
        self._fixed = list(fixed)
        self._file = file
        self._callers: dict[str, Caller] = {}
        self._entries: list[tuple[bytes, Caller]] = []
        self.reload()

    def reload(self) -> int:
        """Read the file again and tell how many keys there are. Raises: KeyFileError, and the old keys stay."""
        keys = self._fixed + ([] if self._file is None else read_key_file(self._file))
        names = [key.name for key in keys]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise KeyFileError(f"the name '{twice}' stands for a key of the environment; rename the one in the file")
        fixed = {key.digest for key in self._fixed}
        shared = next((key.name for key in keys[len(self._fixed) :] if key.digest in fixed), None)
        if shared is not None:
            raise KeyFileError(
                f"the key '{shared}' is one of the environment too; delete its table, or set another one"
            )
        callers = {}
        for key in keys:
            caller = self._callers.get(key.name)
            if caller is None or caller.allowance.limits != key.limits:
                caller = Caller(key)
            caller.is_admin = key.is_admin
            callers[key.name] = caller
        self._callers = callers
        self._entries = [(key.digest, callers[key.name]) for key in keys]
        return len(keys)

    @property
    def has_admin(self) -> bool:
        """Whether a key is an admin's."""
        return any(caller.is_admin for caller in self._callers.values())

    def find(self, secret: bytes) -> Caller | None:
        """Whose key it is. All keys are compared, each in constant time: how long it takes tells nothing."""
        if len(secret) > _MOST_BYTES:
            return None
        digest = digest_of(secret)
        found = None
        for known, caller in self._entries:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def load_key_ring(file: Path | None, environment: MutableMapping[str, str] = os.environ) -> KeyRing | None:
    """The keys of a file and of the environment, None where there are none at all: the door is open.

    Keys are taken out of the environment, so that no other process inherits them.

    Raises: KeyFileError
    """
    if file is None and environment.get(_FILE_VARIABLE) is not None:
        raise KeyFileError(f"{_FILE_VARIABLE} is empty; unset it, or name a file of keys")
    fixed = []
    for variable, name in _NAMES.items():
        secret = environment.pop(variable, None)
        if secret is None:
            continue
        if len(secret) < _LEAST_CHARACTERS or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise KeyFileError(
                f"{variable} is empty, shorter than {_LEAST_CHARACTERS} characters, or has others than printable "
                "ASCII without spaces; unset it, or set a random key, as `openssl rand -hex 32` makes"
            )
        fixed.append(Key(name, digest_of(secret.encode()), is_admin=variable == ADMIN_VARIABLE))
    if len({key.digest for key in fixed}) < len(fixed):
        raise KeyFileError(f"{KEY_VARIABLE} and {ADMIN_VARIABLE} are the same; give each a key of its own")
    return KeyRing(fixed, file) if fixed or file is not None else None

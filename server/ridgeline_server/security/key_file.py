"""The file of keys on disk: read, and added to."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from ridgeline_server.security.keys import (
    MOST_KEYS,
    Key,
    KeyFileError,
    Limits,
    check_name,
    digest_of,
    new_secret,
    parse_keys,
)

_MOST_BYTES = 1 << 20

log = logging.getLogger(__name__)


def read_key_file(path: Path, may_be_empty: bool = False) -> list[Key]:
    """The keys of a file; warns when others than its owner and group may read or write it. Raises: KeyFileError."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise KeyFileError(f"it has more than {_MOST_BYTES} bytes")
        keys = parse_keys(content.decode("utf-8"), may_be_empty)
    except FileNotFoundError:
        # Without its name: somebody may have put a key there.
        raise KeyFileError(
            "the file of API keys is missing: --api-keys and RIDGELINE_API_KEYS name a file, which "
            "`ridgeline keys add NAME --file FILE` writes; one key itself goes into RIDGELINE_API_KEY"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"the file of API keys {path} cannot be read: {error}") from None
    except KeyFileError as error:
        raise KeyFileError(f"the file of API keys {path} cannot be used: {error}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        log.warning("others may read or write the file of API keys; run: chmod 640 %s", path)
    return keys


def add_key(path: Path, name: str, is_admin: bool = False, limits: Limits | None = None) -> str:
    """Make a key, add its hash to the file, which is made where it is missing, and return the key.

    Raises: KeyFileError
    """
    check_name(name)
    has_content = _has_content(path)
    there = read_key_file(path, may_be_empty=True) if has_content else []
    if any(key.name == name for key in there):
        raise KeyFileError(f"{path} has a key '{name}'; choose another name, or delete its table to replace it")
    if len(there) >= MOST_KEYS:
        raise KeyFileError(f"{path} has {len(there)} keys, as many as are allowed; delete the table of one first")
    secret = new_secret()
    lines = [f"[{name}]", f'sha256 = "{digest_of(secret.encode()).hex()}"']
    if is_admin:
        lines.append("admin = true")
    if limits is not None:
        given = {field: getattr(limits, field) for field in Limits.__slots__}
        lines += [f"{field} = {value}" for field, value in given.items() if value is not None]
    table = "\n".join(lines) + "\n"
    parse_keys(table)
    try:
        # Whole or not at all for a server that reads it meanwhile: one write, of less than a page.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (("\n" if has_content else "") + table).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error}") from None
    return secret


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error}") from None

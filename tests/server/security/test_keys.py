"""Keys in a file: what it may say, how keys are added, and whose key is whose."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ridgeline_server.cli import app
from ridgeline_server.security import key_ring
from ridgeline_server.security.key_file import add_key, read_key_file
from ridgeline_server.security.key_ring import KeyRing, load_key_ring
from ridgeline_server.security.keys import MOST_KEYS, Key, KeyFileError, Limits, digest_of, new_secret, parse_keys

DIGEST = hashlib.sha256(b"secret").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def test_a_file_says_who_may_do_how_much() -> None:
    keys = parse_keys(
        f"""
        # who asks
        [search]
        sha256 = "{DIGEST}"
        requests_per_minute = 600
        tokens_per_minute = 1_000_000
        tokens_per_day = 5_000_000

        [operator]
        sha256 = "{OTHER.upper()}"
        admin = true
        """
    )
    assert keys == [
        Key("search", digest_of(b"secret"), False, Limits(600, 1_000_000, 5_000_000)),
        Key("operator", digest_of(b"other"), True, Limits()),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no key"),
        ("# nothing", "holds no key"),
        ("search: abc", "not TOML"),
        (f'sha256 = "{DIGEST}"', "outside of a table"),
        ("[search]", "needs `sha256`"),
        ("[search]\nsha256 = 5", "needs `sha256`"),
        (f'[search]\nsha256 = "{DIGEST[1:]}"', "needs `sha256`"),
        (f'[search]\nsha256 = "{DIGEST}"\nkey = "secret"', "the field 'key'; there are: sha256, admin, requests"),
        (f'[search]\nsha256 = "{DIGEST}"\nadmin = "yes"', "true or false"),
        (f'[search]\nsha256 = "{DIGEST}"\ntokens_per_day = 0', "`tokens_per_day` of key 'search'"),
        (f'[search]\nsha256 = "{DIGEST}"\ntokens_per_day = true', "a whole number from 1"),
        (f'[search]\nsha256 = "{DIGEST}"\nrequests_per_minute = 1.5', "a whole number from 1"),
        (f'["two words"]\nsha256 = "{DIGEST}"', "no name for a key"),
        (f'[a]\nsha256 = "{DIGEST}"\n[b]\nsha256 = "{DIGEST}"', "'a' and 'b' are one key"),
        (f'[a]\nsha256 = "{DIGEST}"\n[a]\nsha256 = "{OTHER}"', "not TOML"),
        ("\n".join(f'[k{i}]\nsha256 = "{i:064x}"' for i in range(MOST_KEYS + 1)), "at most 1000"),
    ],
)
def test_what_a_file_must_not_say(text: str, says: str) -> None:
    with pytest.raises(KeyFileError, match=says):
        parse_keys(text)


def test_keys_are_random_and_their_hashes_alone_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    secrets = [add_key(file, f"k{index}", limits=Limits(tokens_per_day=7)) for index in range(3)]
    assert len(set(secrets)) == 3 and all(len(secret) >= 40 for secret in secrets)
    assert not any(secret in file.read_text() for secret in secrets)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [(key.name, key.digest, key.limits.tokens_per_day) for key in read_key_file(file)] == [
        (f"k{index}", digest_of(secret.encode()), 7) for index, secret in enumerate(secrets)
    ]
    assert new_secret() != new_secret()


def test_what_people_wrote_stays_when_a_key_is_added(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'# of the search team\n[search]\nsha256 = "{DIGEST}"')
    add_key(file, "new")
    assert file.read_text().startswith(f'# of the search team\n[search]\nsha256 = "{DIGEST}"\n[new]\n')
    before = file.read_bytes()
    with pytest.raises(KeyFileError, match="has a key 'search'"):
        add_key(file, "search")
    with pytest.raises(KeyFileError, match="no name"):
        add_key(file, "../x")
    assert file.read_bytes() == before


def test_a_key_is_added_to_a_file_that_has_none_but_not_to_a_full_one(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("# nobody is left")
    add_key(file, "first")
    assert [key.name for key in read_key_file(file)] == ["first"]
    file.write_text("".join(f'[k{i}]\nsha256 = "{i:064x}"\n' for i in range(MOST_KEYS)))
    before = file.read_bytes()
    with pytest.raises(KeyFileError, match="as many as are allowed"):
        add_key(file, "another")
    assert file.read_bytes() == before


def test_a_file_that_others_may_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys.toml"
    add_key(file, "a")
    read_key_file(file)
    assert not caplog.messages
    file.chmod(0o644)
    read_key_file(file)
    assert f"chmod 640 {file}" in caplog.messages[0] and caplog.records[0].levelno == logging.WARNING


def test_a_missing_file_may_be_a_key_and_is_not_echoed(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="name a file") as caught:
        read_key_file(tmp_path / "rk_a-key-that-somebody-put-here")
    assert "rk_a-key" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (2 << 20)])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys.toml"
    file.write_bytes(content)
    with pytest.raises(KeyFileError, match="the file of API keys"):
        read_key_file(file)
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_key_file(tmp_path)


def test_all_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare_digest = hmac.compare_digest

    def compare(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return compare_digest(known, given)

    keys = KeyRing([Key(f"k{index}", digest_of(b"%d" % index)) for index in range(5)])
    monkeypatch.setattr(key_ring.hmac, "compare_digest", compare)
    for secret, name in ((b"0", "k0"), (b"4", "k4"), (b"5", None), (b"", None)):
        compared.clear()
        found = keys.find(secret)
        assert (None if found is None else found.name) == name
        assert compared == [digest_of(b"%d" % index) for index in range(5)]
    assert keys.find(b"0" * 100_000) is None


def test_a_changed_file_is_taken_up_and_what_was_used_stays_used(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    first = add_key(file, "first", limits=Limits(requests_per_minute=5)).encode()
    keys = KeyRing([], file)
    used = keys.find(first)
    assert used is not None
    second = add_key(file, "second").encode()
    assert keys.find(second) is None
    assert keys.reload() == 2
    assert keys.find(first) is used and keys.find(second) is not None
    file.write_text("[first]\nbroken")
    with pytest.raises(KeyFileError):
        keys.reload()
    assert keys.find(first) is used
    file.write_text(f'[second]\nsha256 = "{digest_of(second).hex()}"\nadmin = true\n')
    assert keys.reload() == 1
    assert keys.find(first) is None
    found = keys.find(second)
    assert found is not None and found.is_admin


def test_keys_of_the_environment_are_taken_out_of_it() -> None:
    environment = {"RIDGELINE_API_KEY": "a-key-of-a-container", "RIDGELINE_ADMIN_KEY": "another-key-of-one", "X": "1"}
    keys = load_key_ring(None, environment)
    assert keys is not None and environment == {"X": "1"}
    user, admin = keys.find(b"a-key-of-a-container"), keys.find(b"another-key-of-one")
    assert user is not None and admin is not None
    assert (user.name, user.is_admin, admin.name, admin.is_admin) == (
        "environment",
        False,
        "environment-admin",
        True,
    )
    assert load_key_ring(None, {"X": "1"}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"RIDGELINE_API_KEY": ""},
        {"RIDGELINE_API_KEY": "4711"},
        {"RIDGELINE_ADMIN_KEY": "with a space in its middle"},
        {"RIDGELINE_API_KEY": "schlüssel-für-alle-türen"},
        {"RIDGELINE_API_KEYS": ""},
        {"RIDGELINE_API_KEY": "the-same-long-key", "RIDGELINE_ADMIN_KEY": "the-same-long-key"},
    ],
)
def test_an_environment_that_would_leave_the_door_open_is_refused(environment: dict[str, str]) -> None:
    values = [value for value in environment.values() if value]
    with pytest.raises(KeyFileError) as caught:
        load_key_ring(None, environment)
    assert not any(value in str(caught.value) for value in values)


def test_a_name_of_the_environment_cannot_stand_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    add_key(file, "environment")
    with pytest.raises(KeyFileError, match="'environment'"):
        load_key_ring(file, {"RIDGELINE_API_KEY": "a-key-of-a-container"})


def test_a_key_of_the_environment_cannot_stand_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    secret = add_key(file, "mine")
    with pytest.raises(KeyFileError, match="'mine' is one of the environment too") as caught:
        load_key_ring(file, {"RIDGELINE_API_KEY": secret})
    assert secret not in str(caught.value)


def test_the_command_prints_a_key_once_and_lists_names(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.toml")
    runner = CliRunner()
    done = runner.invoke(app, ["keys", "add", "search", "--file", file, "--requests-per-minute", "60", "--admin"])
    assert done.exit_code == 0, done.output
    secret = done.stdout.strip()
    caller = KeyRing([], Path(file)).find(secret.encode())
    assert caller is not None and (caller.name, caller.is_admin) == ("search", True)
    listed = runner.invoke(app, ["keys", "list", "--file", file])
    assert listed.stdout == "search  admin  requests_per_minute=60\n"
    again = runner.invoke(app, ["keys", "add", "search", "--file", file])
    assert again.exit_code == 1 and "has a key 'search'" in again.stderr

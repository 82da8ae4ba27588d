"""Which file's launch parameters count, and what is said of files that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_kernels import parameters
from ridgeline_kernels.errors import ConfigurationError
from ridgeline_kernels.parameters import (
    DIRECTORY_VARIABLE,
    PACKAGED,
    device_files,
    device_slug,
    find_parameters,
    launch_parameters,
    looking_up,
    read_file,
)

CPU = torch.device("cpu")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory whose files go before the package's."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    for cached in (read_file, find_parameters):
        cached.cache_clear()
    yield tmp_path
    for cached in (read_file, find_parameters):
        cached.cache_clear()


def write(path: Path, ops: Any) -> None:
    path.write_text(json.dumps({"device": "made up", "ops": ops}))


def test_the_most_particular_file_and_class_count(own: Path) -> None:
    write(own / "a_gpu.json", {"scale": {"dim<=64": {"ROWS": 1}}})
    write(own / "sm_00.json", {"scale": {"dim<=64": {"ROWS": 2}, "default": {"ROWS": 3}}})
    write(own / "default.json", {"scale": {"dim<=32": {"ROWS": 4}, "default": {"ROWS": 5}}})
    files = ("a_gpu", "sm_00", "default")
    assert find_parameters("scale", "dim<=64", files) == {"ROWS": 1}
    assert find_parameters("scale", "dim<=64", files[1:]) == {"ROWS": 2}
    assert find_parameters("scale", "dim<=32", files) == {"ROWS": 3}
    assert find_parameters("scale", "dim<=32", files[2:]) == {"ROWS": 4}
    assert find_parameters("scale", "any", files[2:]) == {"ROWS": 5}


def test_a_class_falls_back_to_those_that_hold_it(own: Path) -> None:
    write(own / "default.json", {"gemm": {"m<=16": {"BLOCK": 1}, "m<=16 n<=64": {"BLOCK": 2}, "default": {"BLOCK": 3}}})
    found = {name: find_parameters("gemm", name, ("default",))["BLOCK"] for name in ("m<=16 n<=64 plain", "m<=16 n>64")}
    assert found == {"m<=16 n<=64 plain": 2, "m<=16 n>64": 1}
    assert find_parameters("gemm", "m>16 n>64", ("default",))["BLOCK"] == 3


def test_one_s_own_files_replace_entries_and_leave_the_others(own: Path) -> None:
    write(own / "default.json", {"quantize_rows": {"default": {"ROWS": 7, "num_warps": 1}}})
    assert launch_parameters("quantize_rows", "dim<=1024", CPU)["ROWS"] == 7
    packaged = json.loads((PACKAGED / "default.json").read_text())["ops"]["quantize_rows"]["dim<=256"]
    assert launch_parameters("quantize_rows", "dim<=256", CPU) == packaged


def test_what_is_found_may_be_changed_by_who_asked(own: Path) -> None:
    write(own / "default.json", {"scale": {"default": {"ROWS": 5}}})
    assert dict(launch_parameters("scale", "any", CPU)) == {"ROWS": 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as launch parameters: JSONDecodeError"),
        ("[]", "cannot be read as launch parameters: TypeError"),
        ('{"device": "x"}', r"cannot be read as launch parameters: KeyError\('ops'\)"),
        ('{"ops": {"scale": 5}}', "cannot be read as launch parameters: AttributeError"),
        ('{"ops": {"scale": {"default": 5}}}', 'must hold {"ops": {op: {shape class: {parameter: value}}}}'),
    ],
    ids=["no JSON", "a list", "no ops", "no classes", "no parameters"],
)
def test_a_broken_file_is_named(own: Path, content: str, message: str) -> None:
    (own / "default.json").write_text(content)
    with pytest.raises(ConfigurationError, match=message) as raised:
        launch_parameters("scale", "any", CPU)
    assert str(own / "default.json") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_op_without_parameters_is_named(own: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no launch parameters for scale \(dim<=64\): looked in a_gpu, default"
    ):
        find_parameters("scale", "dim<=64", ("a_gpu", "default"))


def test_parameters_may_be_looked_up_elsewhere() -> None:
    with looking_up(lambda op, shape_class: {"ROWS": len(op) + len(shape_class)}):
        assert launch_parameters("ab", "cde", CPU) == {"ROWS": 5}
        with looking_up(lambda op, shape_class: {"ROWS": 0}):
            assert launch_parameters("ab", "cde", CPU) == {"ROWS": 0}
        assert launch_parameters("ab", "cde", CPU) == {"ROWS": 5}


def test_devices_ask_their_own_file_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_files(CPU) == ("default",)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    device_files.cache_clear()
    assert device_files(torch.device("cuda", 0)) == ("nvidia_h100_80gb_hbm3", "sm_90", "default")
    device_files.cache_clear()


@pytest.mark.parametrize(
    ("name", "slug"),
    [("NVIDIA H200", "nvidia_h200"), ("NVIDIA A100-SXM4-80GB", "nvidia_a100_sxm4_80gb"), (" (x) ", "x")],
)
def test_device_names_become_file_names(name: str, slug: str) -> None:
    assert device_slug(name) == slug


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_files_are_sound(path: Path) -> None:
    ops = parameters._read(path)
    for classes in ops.values():
        for entry in classes.values():
            assert entry
            for name, value in entry.items():
                assert isinstance(value, bool | int | str), f"{name}: {value!r}"

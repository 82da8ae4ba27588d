"""The names that the package offers."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import ridgeline_kernels


@pytest.mark.parametrize("name", ridgeline_kernels.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(ridgeline_kernels, name)), f"{name} has no docstring"
    assert name in dir(ridgeline_kernels)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'paged_attention'"):
        _ = ridgeline_kernels.paged_attention


def test_importing_the_package_alone_brings_neither_torch_nor_triton() -> None:
    code = "import sys, ridgeline_kernels; sys.exit(bool({'torch', 'triton'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""docs/dialect.json is the law that export and kernels are held to, since neither imports the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_export.packed.dialect import dialect as of_export
from ridgeline_kernels.packed.dialect import dialect as of_kernels

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["export/ridgeline_export", "kernels/ridgeline_kernels"])
@pytest.mark.parametrize(
    ("name", "law"),
    [("dialect.json", "docs/dialect.json"), ("dialect.py", "export/ridgeline_export/packed/dialect.py")],
)
def test_both_sides_carry_the_law(package: str, name: str, law: str) -> None:
    assert (ROOT / package / "packed" / name).read_bytes() == (ROOT / law).read_bytes()


def test_both_sides_read_it_alike() -> None:
    assert repr(of_export()) == repr(of_kernels())
    assert of_export().ops["Linear"].optional == {"bias", "residual"}

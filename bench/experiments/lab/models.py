"""Several models in one server under test: names for bundles, and the models file of `ridgeline serve`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def names_of(bundles: Sequence[Path]) -> dict[str, Path]:
    """A name for each bundle: its directory's, with a number where that is taken."""
    found: dict[str, Path] = {}
    for bundle in bundles:
        name, number = bundle.resolve().name, 1
        while name in found:
            number += 1
            name = f"{bundle.resolve().name}-{number}"
        found[name] = bundle
    return found


def write_models_file(path: Path, bundles: Mapping[str, Path], settings: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Write it, and return the flags of `ridgeline serve` that name it.

    bundles:  by the name to serve each under
    settings: of a model by its name, such as {"cores": "0-3"}
    """
    lines = []
    for name, bundle in bundles.items():
        given = {"name": name, "bundle": str(bundle.resolve()), **settings.get(name, {})}
        # A JSON string is a TOML string too, surrogates apart, which no path here has.
        lines += ["[[models]]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in given.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["--models", str(path)]

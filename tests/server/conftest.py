"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ridgeline_export.bundle import Bundle
from tests.server.packed_bundles import with_packed


@pytest.fixture(scope="session")
def packed_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_exports: Callable[..., Any]) -> Bundle:
    """The bundle of a tiny BERT that embeds, random in all its weights, with packed-fp32 and packed-fp16."""
    exported = tiny_exports("bert", "feature-extraction")
    out = tmp_path_factory.mktemp("packed") / "tiny-bert"
    return with_packed(exported.bundle, exported.model, out, ("fp32", "fp16"))

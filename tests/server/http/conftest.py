"""Fixtures of the protocols' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.http.model_engine import ModelEngine, make_engine


@pytest.fixture(scope="session")
def model_engine(tiny_models: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> ModelEngine:
    """Small PyTorch models of each kind."""
    return make_engine(tiny_models, tmp_path_factory.mktemp("models"))

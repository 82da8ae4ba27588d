"""Dropout probabilities that configs leave to their classes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import transformers

from ridgeline_estimate.architecture import Dropout
from ridgeline_estimate.configs.dropouts import read_dropout
from ridgeline_estimate.configs.known import KNOWN_TYPES
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError


@pytest.mark.parametrize("model_type", sorted(KNOWN_TYPES & set(transformers.CONFIG_MAPPING)))
def test_what_a_config_leaves_out_is_what_its_class_takes(model_type: str) -> None:
    config = transformers.CONFIG_MAPPING[model_type]()
    full = json.loads(config.to_json_string(use_diff=False))
    assert read_dropout(Values({"model_type": model_type})) == read_dropout(Values(full))


def test_a_config_overrides_its_class() -> None:
    found = read_dropout(Values({"model_type": "bert", "hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0}))
    assert found == Dropout(hidden=0.3, attention=0.0, inner=0.0)
    assert read_dropout(Values({"model_type": "t5"})) == Dropout(0.1, 0.1, 0.1)


@pytest.mark.parametrize("value", [1.0, -0.1, "much", True])
def test_what_is_no_probability_gets_a_sentence(value: Any) -> None:
    with pytest.raises(ShapeError, match=r"hidden_dropout_prob is .*; it should be a number from 0 up, below 1"):
        read_dropout(Values({"model_type": "bert", "hidden_dropout_prob": value}))

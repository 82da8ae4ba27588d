from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.sequences import Readout, ReadoutKind
from ridgeline_server.tasks.base import Work
from tests.server.tasks.torch_engine import TorchEngine

TinyModels = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("task", "readout", "shapes"),
    [
        ("feature-extraction", None, [(32,), (32,)]),
        ("feature-extraction", Readout(ReadoutKind.TOKENS), [(5, 32), (3, 32)]),
        ("text-classification", None, [(3,), (3,)]),
        ("token-classification", Readout(ReadoutKind.TOKENS), [(5, 3), (3, 3)]),
        ("question-answering", Readout(ReadoutKind.TOKENS), [(5, 2), (3, 2)]),
        ("fill-mask", Readout(ReadoutKind.FILLS, top=4, mask_id=4), [(1, 4, 2), (0, 4, 2)]),
    ],
)
def test_every_model_is_answered_by_its_readout(
    tiny_models: TinyModels, task: str, readout: Readout | None, shapes: list[tuple[int, ...]]
) -> None:
    engine = TorchEngine(tiny_models("bert", task), task)
    inputs = [[2, 4, 20, 21, 3], [2, 20, 3]]
    result = engine.submit(Work(inputs, lambda _: [], readout=readout))
    assert [array.shape for array in result.arrays] == shapes
    assert result.tokens == [5, 3] and len(result.outputs) == (2 if readout is None else 0)


def test_terms_come_in_order_and_above_zero(tiny_models: TinyModels) -> None:
    engine = TorchEngine(tiny_models("bert", "fill-mask"), "fill-mask")
    (terms,) = engine.submit(Work(["batch of tokens"], lambda _: [], readout=Readout(ReadoutKind.SPARSE))).arrays
    assert len(terms) and (np.diff(terms[:, 0]) > 0).all() and (terms[:, 1] > 0).all()
    assert engine.info.mask_token_id == 4


def test_a_model_that_gives_no_such_answers_is_refused(tiny_models: TinyModels) -> None:
    engine = TorchEngine(tiny_models("bert", "feature-extraction"), "feature-extraction")
    with pytest.raises(InvalidInputError, match="gives no sparse"):
        engine.submit(Work(["a"], lambda _: [], readout=Readout(ReadoutKind.SPARSE)))

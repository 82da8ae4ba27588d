"""Batches of the offline bound: every sequence once, in shapes that the grid has, at the least cost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline_export.bundle import read_bundle
from ridgeline_server.engine.packing import pack
from ridgeline_server.measuring.offline import Offline, free_grid, mixed_batches, offline_texts_per_s, sorted_batches
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.devices import CPU
from ridgeline_server.runtimes.grid import ShapeGrid, make_grid
from ridgeline_server.runtimes.selection import make_plan
from ridgeline_server.sequences import Tokens

GRID = make_grid(64, 256)
BATCH_S = {(rows, length): 20.0 + rows * length for rows, length in GRID.shapes}
some_lengths = st.lists(st.integers(1, 64), min_size=1, max_size=120)


def sequences(lengths: list[int]) -> list[Tokens]:
    return [Tokens(np.full(n, 1 + i, dtype=np.int32), None, False) for i, n in enumerate(lengths)]


def contents(batches: list[Batch]) -> list[tuple[int, int]]:
    """(first token, length) of every sequence."""
    found = []
    for batch in batches:
        starts = np.cumsum(batch.lengths) - batch.lengths
        found += [(int(batch.input_ids[at]), int(n)) for at, n in zip(starts, batch.lengths, strict=True)]
    return found


@given(lengths=some_lengths)
def test_sorted_batches_hold_every_sequence_once_and_fit_the_grid(lengths: list[int]) -> None:
    batches = sorted_batches(sequences(lengths), BATCH_S)
    assert sorted(contents(batches)) == sorted((1 + i, n) for i, n in enumerate(lengths))
    longest = [int(batch.lengths.max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch in batches:
        GRID.fit(len(batch.lengths), int(batch.lengths.max()))


@given(lengths=some_lengths)
def test_mixed_batches_keep_the_order_and_fit_the_grid(lengths: list[int]) -> None:
    batches = mixed_batches(sequences(lengths), GRID)
    assert contents(batches) == [(1 + i, n) for i, n in enumerate(lengths)]
    for batch in batches:
        GRID.fit(len(batch.lengths), int(batch.lengths.max()))


@pytest.mark.parametrize(
    ("lengths", "batch_s", "expected"),
    [
        pytest.param([8] * 4, {(1, 8): 1.0, (4, 8): 2.0}, [4], id="a full batch is cheaper"),
        pytest.param([8] * 4, {(1, 8): 1.0, (4, 8): 9.0}, [1, 1, 1, 1], id="single rows are cheaper"),
        pytest.param([8] * 3, {(1, 8): 1.0, (4, 8): 2.0}, [3], id="a batch that is not full"),
        pytest.param([4, 4, 16], {(1, 16): 4.0, (2, 4): 1.0, (4, 16): 9.0}, [1, 2], id="lengths apart"),
        pytest.param([4, 4, 16], {(1, 16): 4.0, (2, 4): 9.0, (4, 16): 6.0}, [3], id="lengths together"),
    ],
)
def test_sorted_batches_cost_the_least(
    lengths: list[int], batch_s: dict[tuple[int, int], float], expected: list[int]
) -> None:
    assert [len(batch.lengths) for batch in sorted_batches(sequences(lengths), batch_s)] == expected


def test_free_grid_has_all_multiples_and_the_longest() -> None:
    grid = free_grid(20, 64)
    assert grid.lengths == (8, 16, 20)
    assert set(grid.shapes) == {(1, 8), (8, 8), (1, 16), (4, 16), (1, 20), (3, 20)}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("grid", [None, free_grid(64, 128, 16)])
def test_a_plan_is_timed_and_answers(tiny_bundle: Path, runtime: str, grid: ShapeGrid | None) -> None:
    bundle = read_bundle(tiny_bundle)
    plan = make_plan(
        bundle,
        bundle.variant("fp32"),
        runtime,
        precision="fp32",
        device=CPU,
        threads=2,
        concurrency=2,
        max_batch_tokens=256,
        why="",
    )
    if grid is not None:
        plan = replace(plan, grid=grid)
    texts = sequences([3, 5, 9, 17, 33, 64, 4, 8])
    rates = offline_texts_per_s(plan, "mean", texts, passes=2)
    assert len(rates) == 2
    assert min(rates) > 0
    offline = Offline(plan, "mean")
    together = np.concatenate([offline.answer(batch, slot=1) for batch in mixed_batches(texts, plan.grid)])
    alone = np.concatenate([offline.answer(pack(0, [each])) for each in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)

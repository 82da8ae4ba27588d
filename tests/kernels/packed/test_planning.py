"""The planned peak of memory against what a run really holds, and against arithmetic."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ridgeline_kernels.op import kernels_everywhere
from ridgeline_kernels.packed.executor import PackedModel
from tests.kernels.packed.dialect_graphs import DIM, INNER, bert, feed_of, graph_of, save


class _Watch(TorchDispatchMode):
    """Counts the bytes of the storages that ops make and somebody still holds, after every op."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._holders: dict[int, int] = {}
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.numel():
                self._hold(tensor)
        self.peak = max(self.peak, sum(self._sizes.values()))
        return made

    def _hold(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        self._sizes[address] = storage.nbytes()
        self._holders[address] = self._holders.get(address, 0) + 1
        weakref.finalize(tensor, self._let_go, address)

    def _let_go(self, address: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address], self._sizes[address]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], PackedModel]:
    models: dict[int, PackedModel] = {}

    def loaded(layers: int) -> PackedModel:
        if layers not in models:
            models[layers] = PackedModel.load(save(bert(layers), tmp_path_factory.mktemp("bert")))
        return models[layers]

    return loaded


@pytest.mark.parametrize("lengths", [[5, 1, 0, 9, 2], [30, 30, 30], [1]], ids=str)
def test_the_plan_is_what_a_run_holds(load: Callable[[int], PackedModel], lengths: list[int]) -> None:
    model = load(3)
    feed = feed_of(lengths)
    with _Watch() as watch:
        outputs = model.run(feed)
    assert outputs
    # Views of the inputs count as made by the watch: ids and positions, [tokens] of int64.
    views = sum(feed[name].nbytes for name in ("input_ids", "position_ids"))
    planned = model.planned_bytes(sum(lengths), len(lengths))
    assert planned <= watch.peak <= planned + views + 64


def test_the_peak_is_that_of_one_layer(load: Callable[[int], PackedModel]) -> None:
    assert load(12).planned_bytes(100, 4) == load(2).planned_bytes(100, 4)
    # x, and the largest of what stands beside it: qkv and attention's output, or the norm's and the inner states.
    floats = DIM + max(3 * DIM + DIM, DIM + INNER + DIM)
    assert load(12).planned_bytes(100, 4) <= 100 * floats * 4 + 4 * DIM * 4


def test_it_grows_with_tokens_and_sequences(load: Callable[[int], PackedModel]) -> None:
    model = load(2)
    assert model.planned_bytes(200, 4) == 2 * model.planned_bytes(100, 4)
    assert model.planned_bytes(0, 1) == DIM * 4
    tokens_less = [model.planned_bytes(1, sequences) for sequences in (100, 200)]
    assert tokens_less[1] - tokens_less[0] == 100 * DIM * 4


def test_a_plan_runs_no_kernel(load: Callable[[int], PackedModel]) -> None:
    with kernels_everywhere():
        assert load(2).planned_bytes(64, 2) > 0


def test_views_and_shared_memory_count_once(tmp_path: Path) -> None:
    nodes = """
        h = ridgeline.EmbeddingLayerNorm (input_ids, word)
        a, b = Split <axis = 2, num_outputs = 2> (h)
        t = Transpose <perm = [0, 2, 1]> (a)
        c = Transpose <perm = [0, 2, 1]> (t)
        out = Add (c, b)
    """
    path = save(graph_of(nodes, "float[1, tokens, 8] out", {"word": np.ones((40, DIM), np.float32)}), tmp_path)
    assert PackedModel.load(path).planned_bytes(10, 1) == 10 * (DIM + DIM // 2) * 4

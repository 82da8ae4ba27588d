"""A packed model in a few lines, whose padded rows are NaN, and a capturer that replays by running again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ridgeline_kernels.packed.buckets import Bucket
from ridgeline_kernels.packed.cuda_graphs import GraphedModel
from ridgeline_kernels.packing import spans

DIM = 3
PLENTY = 1 << 40


class MadeUpModel:
    """Outputs: `states` by token, `pooled` by sequence; both depend on ids, types and positions.

    Rows that belong to no sequence come out as NaN, as memory on a GPU may hold.
    """

    inputs = ("input_ids", "token_type_ids", "position_ids", "cu_seqlens")

    def __init__(self, bytes_a_token: int = 1000):
        self.device = torch.device("cpu")
        self.runs: list[tuple[int, int]] = []
        self._bytes_a_token = bytes_a_token

    def planned_bytes(self, tokens: int, sequences: int) -> int:
        return tokens * self._bytes_a_token

    def run(self, feed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        ids, bounds = feed["input_ids"], feed["cu_seqlens"]
        assert ids.shape[0] == 1
        self.runs.append((ids.shape[1], bounds.numel() - 1))
        numbers = ids * 100 + feed["token_type_ids"] * 10 + feed["position_ids"]
        states = numbers[0, :, None].float() * torch.tensor([1.0, 0.5, -1.0])
        states[int(bounds[-1]) :] = float("nan")
        pooled = torch.stack([states[span].sum(dim=0) for span in spans(bounds)])
        return {"states": states[None], "pooled": pooled}


class Rerunner:
    """`used` says how much memory is in use after so many captures."""

    def __init__(self, used: Callable[[int], int] = lambda captures: captures):
        self.captures = 0
        self.warmed = 0
        self.restarts = 0
        self._used = used

    def warm(self, work: Callable[[], None]) -> None:
        self.warmed += 1
        work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        self.captures += 1
        return work

    def used_bytes(self) -> int:
        return self._used(self.captures)

    def restart(self) -> None:
        self.restarts += 1


def batch(lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch of random ids in sequences of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    tokens = sum(lengths)
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    return {
        "input_ids": torch.randint(1, 90, (1, tokens), generator=generator),
        "token_type_ids": torch.randint(0, 2, (1, tokens), generator=generator),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seqlens": bounds,
    }


def graphed(
    buckets: tuple[Bucket, ...] = (Bucket(16, 4), Bucket(64, 4), Bucket(64, 16)),
    budget_bytes: int = PLENTY,
    model: MadeUpModel | None = None,
    capturer: Rerunner | None = None,
) -> GraphedModel:
    """A graphed model of these buckets, not warmed up."""
    return GraphedModel(model or MadeUpModel(), buckets, budget_bytes, capturer=capturer or Rerunner())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether the outputs are equal."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in other)

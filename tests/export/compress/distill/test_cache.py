from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ridgeline_export.compress.distill.cache import Row, TeacherCache
from ridgeline_export.compress.progress import Silent
from ridgeline_export.compress.recover.objective import Batch
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.errors import TrainingError

TEXTS = 200
ROWS = {"answer": Row(3, is_by_token=False, is_exact=True), "states": Row(2, is_by_token=True, is_exact=False)}


@pytest.fixture
def tokens() -> Tokens:
    lengths = 2 + np.arange(TEXTS) * 7 % 11
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(offsets[-1], dtype=np.int32)
    return Tokens(ids, None, offsets, None, pad_token_id=0)


class Answers:
    """Numbers that tell which text and token they are of; dies after some batches."""

    def __init__(self, tokens: Tokens, dies_after: int = 99) -> None:
        self.tokens, self.batches, self.dies_after = tokens, 0, dies_after

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        if self.batches == self.dies_after:
            raise KeyboardInterrupt
        self.batches += 1
        numbers = batch.indices.float()
        ids = batch.inputs["input_ids"].float()
        return {"answer": torch.stack([numbers, numbers + 0.25, -numbers], 1), "states": torch.stack([ids, ids / 2], 2)}


def make(directory: Path, tokens: Tokens, key: str = "k" * 64) -> TeacherCache:
    return TeacherCache(directory, key, ROWS, tokens.lengths)


def check(cache: TeacherCache, tokens: Tokens) -> None:
    chosen = np.array([5, 199, 0])
    answer = cache.read("answer", chosen, 12)
    assert answer.dtype == torch.float32 and answer.tolist() == [[5, 5.25, -5], [199, 199.25, -199], [0, 0.25, 0]]
    states = cache.read("states", chosen, 12)
    assert states.dtype == torch.bfloat16 and states.shape == (3, 12, 2)
    for row, text in enumerate(chosen):
        ids = torch.from_numpy(tokens.ids[tokens.offsets[text] : tokens.offsets[text + 1]]).bfloat16()
        assert torch.equal(states[row, : len(ids), 0], ids)
        assert not states[row, len(ids) :].any()


def files(cache: TeacherCache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.path.iterdir()}


def test_what_is_kept_is_given_back_under_each_texts_place(tmp_path: Path, tokens: Tokens) -> None:
    cache = make(tmp_path, tokens)
    cache.fill(tokens, Answers(tokens), Silent())
    check(cache, tokens)
    assert sum(path.stat().st_size for path in cache.path.glob("*.npy")) - cache.size_bytes in range(100, 600)
    assert np.load(cache.path / "answer.npy").shape == (TEXTS, 3)
    check(pickle.loads(pickle.dumps(cache)), tokens)


@pytest.mark.parametrize("spoil", [None, "cut", "append"])
def test_a_killed_run_is_gone_on_with(tmp_path: Path, tokens: Tokens, spoil: str | None) -> None:
    whole = make(tmp_path / "whole", tokens)
    whole.fill(tokens, Answers(tokens), Silent())
    cache = make(tmp_path / "killed", tokens)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(tokens, Answers(tokens, dies_after=2), Silent())
    path = cache.path / "states.npy"
    if spoil == "cut":  # in the middle of the second batch
        path.write_bytes(path.read_bytes()[:-7])
    elif spoil == "append":  # in the middle of the third
        path.write_bytes(path.read_bytes() + b"half")
    again = make(tmp_path / "killed", tokens)
    answers = Answers(tokens)
    again.fill(tokens, answers, Silent())
    assert answers.batches == (3 if spoil == "cut" else 2)
    assert files(again) == files(whole)
    check(again, tokens)


def test_a_whole_cache_is_used_again(tmp_path: Path, tokens: Tokens) -> None:
    make(tmp_path, tokens).fill(tokens, Answers(tokens), Silent())
    again = make(tmp_path, tokens)
    again.fill(tokens, Answers(tokens, dies_after=0), Silent())
    check(again, tokens)


def other_key(directory: Path, tokens: Tokens) -> TeacherCache:
    return make(directory, tokens, "other")


def other_rows(directory: Path, tokens: Tokens) -> TeacherCache:
    rows = {name: dataclasses.replace(row, is_exact=True) for name, row in ROWS.items()}
    return TeacherCache(directory, "k" * 64, rows, tokens.lengths)


@pytest.mark.parametrize("change", [other_key, other_rows])
def test_a_stale_cache_is_refused(
    tmp_path: Path, tokens: Tokens, change: Callable[[Path, Tokens], TeacherCache]
) -> None:
    stale = make(tmp_path, tokens)
    stale.fill(tokens, Answers(tokens), Silent())
    answers = Answers(tokens)
    cache = change(tmp_path, tokens)
    cache.fill(tokens, answers, Silent())
    assert answers.batches == 4
    assert list(tmp_path.iterdir()) == [cache.path]


def test_a_damaged_description_makes_it_anew(tmp_path: Path, tokens: Tokens) -> None:
    make(tmp_path, tokens).fill(tokens, Answers(tokens), Silent())
    (make(tmp_path, tokens).path / "cache.json").write_text("{")
    answers = Answers(tokens)
    cache = make(tmp_path, tokens)
    cache.fill(tokens, answers, Silent())
    assert answers.batches == 4
    check(cache, tokens)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, tokens: Tokens) -> None:
    def answer(batch: Batch) -> Mapping[str, Tensor]:
        found = Answers(tokens)(batch)
        found["answer"][3, 1] = float("nan")
        return found

    with pytest.raises(TrainingError, match="not finite for some training texts; give --precision fp32"):
        make(tmp_path, tokens).fill(tokens, answer, Silent())


def test_a_full_disk_is_an_error_and_keeps_what_is_there(tmp_path: Path, tokens: Tokens) -> None:
    import resource
    import signal

    cache = make(tmp_path, tokens)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            cache.fill(tokens, Answers(tokens), Silent())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    cache.fill(tokens, Answers(tokens), Silent())
    check(cache, tokens)

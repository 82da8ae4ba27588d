"""Efficient attention against exact attention: inputs, settings, errors and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ridgeline_kernels.benchmarks.approximation import crossovers, main, measured, write
from ridgeline_kernels.benchmarks.attention_inputs import (
    MEAN_ENTROPY,
    clustered_inputs,
    mean_entropy,
    random_inputs,
    smooth_inputs,
)
from ridgeline_kernels.benchmarks.methods import nearest_blocks, segment_means, settings_for

METHODS = {"Linformer", "Nyström", "LSH", "block-sparse", "local + global"}


@pytest.mark.parametrize("make", [clustered_inputs, smooth_inputs])
def test_structured_attention_has_the_entropy_asked_for(make: type) -> None:
    q, k, v = make(512, 2, 32, 0)
    assert q.shape == k.shape == v.shape == (512, 2, 32)
    assert mean_entropy(q, k) == pytest.approx(MEAN_ENTROPY, abs=0.02)
    again = make(512, 2, 32, 0)
    assert all(torch.equal(one, other) for one, other in zip((q, k, v), again, strict=True))


def test_random_attention_is_almost_even() -> None:
    q, k, _ = random_inputs(512, 2, 64, 0)
    assert mean_entropy(q, k) > 5.5


def test_an_even_attention_s_entropy_is_the_logarithm_of_the_length() -> None:
    assert mean_entropy(torch.zeros(100, 1, 8), torch.randn(100, 1, 8)) == pytest.approx(4.60517, abs=1e-4)


@pytest.mark.parametrize(("length", "rank"), [(64, 16), (100, 16), (10, 16)])
def test_segment_means_average_every_token_once(length: int, rank: int) -> None:
    projection = segment_means(length, rank)
    assert projection.shape == (length, rank)
    assert ((projection > 0).sum(1) == 1).all()
    sums = projection.sum(0)
    assert (((sums - 1).abs() < 1e-6) | (sums == 0)).all()


def test_a_block_keeps_itself_and_its_nearest() -> None:
    means = torch.eye(4).repeat_interleave(64, 0)[:, None, :]
    layout = nearest_blocks(means, means.roll(64, 0), 2)
    assert layout.counts.tolist() == [[2] * 4]
    assert layout.indices.tolist() == [[[0, 1], [1, 2], [2, 3], [0, 3]]]


def test_errors_fall_as_settings_rise_and_vanish_where_all_is_seen() -> None:
    q, k, v = smooth_inputs(512, 1, 32, 0)
    points = measured(q, k, v, settings_for(1, 32), "smooth")
    assert {point.method for point in points} == METHODS
    for method in METHODS:
        of_method = [point for point in points if point.method == method]
        assert of_method[-1].error < of_method[0].error
        assert of_method[-1].cosine > 0.99
        assert [point.share_of_flops for point in of_method] == sorted(point.share_of_flops for point in of_method)
    whole = {point.method: point for point in points if point.value in (16, 512)}
    for method in ("block-sparse", "local + global"):
        assert whole[method].error < 1e-5
        assert whole[method].share_of_flops == pytest.approx(1.0, abs=0.01)


def test_one_s_own_activations_are_measured_in_their_precision() -> None:
    q, k, v = (x.half() for x in smooth_inputs(256, 1, 32, 1))
    [point] = measured(q, k, v, [next(iter(settings_for(1, 32)))])
    assert point.inputs == "given"
    assert 0 < point.error < 1


def test_methods_win_from_some_length() -> None:
    found = {
        (entry["method"], entry["value"]): entry["from_tokens"] for entry in crossovers(settings_for(12, 64), 12, 64)
    }
    assert found["Linformer", 128] == 257
    assert found["block-sparse", 4] == 257
    lengths = [found["Nyström", landmarks] for landmarks in (16, 32, 64, 128)]
    assert lengths == sorted(lengths)  # type: ignore[type-var]


def test_everything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    main(["--out", str(tmp_path), "--lengths", "128"])
    content = json.loads((tmp_path / "approximation.json").read_text())
    assert {point["inputs"] for point in content["points"]} == {"random", "clustered", "smooth"}
    assert content["fewer_flops_than_exact"]
    page = (tmp_path / "approximation.md").read_text()
    assert "## clustered" in page
    assert "| Nyström, 64 landmarks |" in page
    assert (tmp_path / "approximation.png").stat().st_size > 10_000


def test_a_method_that_never_wins_is_written_as_such(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    q, k, v = random_inputs(64, 1, 16, 0)
    points = measured(q, k, v, list(settings_for(1, 16))[:2])
    write(points, [{"method": "dear", "knob": "rank", "value": 9, "from_tokens": None}], tmp_path)
    assert "| dear, 9 rank | never |" in (tmp_path / "approximation.md").read_text()

"""Approximate attention in packed graphs: every product by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_estimate.graph import GraphCount, read_graph
from ridgeline_estimate.workload import Workload
from tests.estimate.graphs import FLOAT, Axes, zeros
from tests.estimate.packed_graphs import op, write_packed

LENGTHS = (3, 1, 8, 3)
T, D = sum(LENGTHS), 2
HEADS: dict[str, tuple[int, Axes]] = dict.fromkeys("qkv", (FLOAT, (1, "tokens", 4, D)))
GROUPED = HEADS | dict.fromkeys("kv", (FLOAT, (1, "tokens", 2, D)))


def count(path: Path, op_type: str, inputs: Any, given: str = "", /, **arguments: Any) -> GraphCount:
    """Count a node on four sequences; arrays among the arguments are weights, the others attributes."""
    weights = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    attributes = {name: value for name, value in arguments.items() if name not in weights}
    node = op(op_type, f"q k v cu_seqlens {given}".strip(), "y", **{"scale": 0.5} | attributes)
    found = read_graph(write_packed(path / "g.onnx", [node], weights, inputs)).count(Workload.of_lengths(LENGTHS))
    assert not found.warnings
    assert [each.part for each in found.ops] == ["attention_scores", "softmax", "attention_values"]
    assert found.ops[-1].output == (1, T, 4, D)
    return found


def products(a: int, b: int, c: int) -> int:
    """FLOPs of [a, b] times [b, c]."""
    return 2 * a * b * c


def test_nystrom_is_exact_for_few_tokens_and_has_landmarks_for_many(tmp_path: Path) -> None:
    m, steps = 4, 5
    taps = zeros(1, 3)
    scores, softmax, values = count(
        tmp_path, "NystromAttention", HEADS, "taps", landmarks=m, iterations=steps, taps=taps
    ).ops
    exact = sum(products(n, D, n) for n in LENGTHS if n <= m)
    # Queries over landmarks, landmarks over keys, landmarks over landmarks, and the pseudo-inverse of the 8 tokens.
    approximate = products(8, D, m) + products(m, D, 8) + products(m, D, m)
    assert scores.matmul_flops == 4 * (exact + approximate + steps * 4 * products(m, m, m))
    assert values.matmul_flops == 4 * (exact + approximate + 2 * T * 3 * D)
    assert softmax.other_flops == 5 * 4 * (3 * 3 * 2 + 1 + 2 * 8 * m + m * m)
    assert (scores.parameters, scores.weight_bytes) == (3, 12)


def test_linformer_projects_keys_and_values(tmp_path: Path) -> None:
    rank = 3
    e, f = zeros(1, 9, rank), zeros(4, 9, rank)
    scores, softmax, values = count(tmp_path, "LinformerAttention", HEADS, "e f", e=e, f=f).ops
    projected = sum(products(rank, n, D) for n in LENGTHS)
    assert scores.matmul_flops == values.matmul_flops == 4 * (projected + products(T, D, rank))
    assert softmax.other_flops == 5 * 4 * T * rank
    assert scores.parameters == e.size + f.size


@pytest.mark.parametrize(("inputs", "kv_heads"), [(HEADS, 4), (GROUPED, 2)])
def test_lsh_hashes_and_attends_windows_in_every_round(inputs: Any, kv_heads: int, tmp_path: Path) -> None:
    rounds, half_buckets, chunk = 3, 5, 2
    rotations = zeros(1, rounds, D, half_buckets)
    attributes = {"chunk": chunk, "key_chunks": 2}
    scores, softmax, values = count(tmp_path, "LshAttention", inputs, "r", r=rotations, **attributes).ops
    pairs = sum(n * min(n, 2 * chunk) for n in LENGTHS) * rounds * 4
    hashes = rounds * (4 + kv_heads) * products(T, D, half_buckets)
    assert (scores.matmul_flops, values.matmul_flops) == (2 * D * pairs + hashes, 2 * D * pairs)
    assert softmax.other_flops == 5 * pairs


@pytest.mark.parametrize(("window", "first"), [(0, 0), (2, 0), (1, 2), (0, 5), (100, 1), (3, 100)])
def test_local_and_global_attention_counts_the_pairs_that_are_seen(window: int, first: int, tmp_path: Path) -> None:
    found = count(tmp_path, "LocalGlobalAttention", GROUPED, window=window, global_tokens=first)
    scores, softmax, values = found.ops
    seen = 0
    for n in LENGTHS:
        i, j = np.arange(n)[:, None], np.arange(n)[None]
        seen += int(((abs(i - j) <= window) | (i < first) | (j < first)).sum())
    assert scores.matmul_flops == values.matmul_flops == 4 * products(1, D, 1) * seen
    assert (scores.other_flops, softmax.other_flops) == (4 * 2 * seen, 4 * 5 * seen)
    # Queries, keys and bounds are read for the scores, values for the sums: no scores reach memory.
    assert (scores.read_bytes, scores.written_bytes) == (T * (4 + 2) * D * 4 + 5 * 4, 0)
    assert (values.read_bytes, values.written_bytes) == (T * 2 * D * 4, T * 4 * D * 4)

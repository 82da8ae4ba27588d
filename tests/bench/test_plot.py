from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_bench import plot, results
from ridgeline_bench.results import Sample


def result(sample: Sample) -> dict[str, Any]:
    inputs = {"loop": "open", "rate_requests_per_s": 5.0, "texts_per_request": 1, "path": "/embed", "url": "u"}
    return {
        "inputs": {**inputs, "model": None, "concurrency": None},
        "machine": {"cpu": "a CPU", "cores": 2},
        "started": "2026-01-01",
        "results": results.figures(sample, [], 1),
    }


@pytest.mark.parametrize(
    ("requests", "code", "duration_s"),
    [(0, 200, 1.0), (1, 200, 1.0), (3, 429, 2.5), (5000, 200, 0.1), (40, 200, 3.01)],
    ids=["none", "one", "only refusals", "a short run", "a last sliver"],
)
def test_draws_any_run(requests: int, code: int, duration_s: float, tmp_path: Path) -> None:
    sent = np.linspace(0, duration_s, requests, endpoint=False)
    codes, tokens = np.full(requests, code, dtype=np.int64), np.zeros(requests, dtype=np.int64)
    sample = Sample(sent, sent, sent + np.linspace(0.001, 0.5, requests), codes, tokens, duration_s)
    plot.draw(result(sample), sample, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

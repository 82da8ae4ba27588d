"""Runs in an environment of its own: sentence-transformers' `encode`, a text at a time or in batches, no server.

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer


def main() -> None:
    """Encode for a while, and print the rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--texts-per-call", type=int, default=1)
    parser.add_argument("--duration", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = SentenceTransformer(str(given.model), device="cpu")
    texts = given.texts.read_text(encoding="utf-8").splitlines()
    endless = itertools.cycle(texts)
    calls: list[float] = []
    model.encode(texts[:32], show_progress_bar=False)
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < given.duration:
        group = list(itertools.islice(endless, given.texts_per_call))
        model.encode(group, batch_size=32, show_progress_bar=False, normalize_embeddings=True)
        calls.append(time.perf_counter() - now)
    took = time.perf_counter() - began
    calls.sort()
    rate = len(calls) * given.texts_per_call / took
    print(json.dumps({"texts_per_s": rate, "p50_s": calls[len(calls) // 2], "p99_s": calls[int(0.99 * len(calls))]}))


if __name__ == "__main__":
    main()

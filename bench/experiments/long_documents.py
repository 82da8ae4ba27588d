"""Approximate attention on long documents against exact attention: latency, memory and quality of exported bundles.

Each bundle's fp32 graph runs in a process of its own on ONNX Runtime, one document at a time, on all cores. Latency: of
one document of the longest input, in rounds that take turns. Memory: the most that the process held. Quality: rank
correlation (Spearman) of the similarities of all pairs of documents to those of the first bundle, which is exact;
documents are all docstrings of a module, of those that no training and no choice has seen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

_KIB = 1024


def serve_bundle(bundle: str, threads: int, pipe: Connection) -> None:
    """In a process of its own: answers arrays of token ids with (seconds, token states pooled, bytes held at most)."""
    import onnxruntime as ort

    from ridgeline_export.bundle import read_bundle

    found = read_bundle(bundle)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    variant = found.variant("fp32")
    session = ort.InferenceSession(str(found.path / variant.graph), options, providers=["CPUExecutionProvider"])
    pipe.send(found.manifest.max_tokens)
    while (ids := pipe.recv()) is not None:
        row = np.asarray(ids, np.int64)[None]
        inputs = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        began = time.perf_counter()
        states = session.run(["last_hidden_state"], {name: inputs[name] for name in variant.inputs})[0]
        seconds = time.perf_counter() - began
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
        pipe.send((seconds, states[0].mean(axis=0), held))


class Model:
    """A bundle in a process of its own."""

    def __init__(self, name: str, bundle: str, threads: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=serve_bundle, args=(bundle, threads, end), daemon=True)
        self._process.start()
        self.max_tokens: int = self._pipe.recv()
        self.held = 0

    def run(self, ids: list[int]) -> tuple[float, np.ndarray]:
        """Seconds, and the embedding."""
        self._pipe.send(ids)
        seconds, vector, self.held = self._pipe.recv()
        return seconds, vector

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def documents(bundle: str, most: int, count: int) -> list[list[int]]:
    """Token ids of held-out documents, cut to the longest input."""
    from tokenizers import Tokenizer

    from ridgeline_export.compress.data.load import load_data
    from ridgeline_export.compress.training import DataSettings

    tokenizer = Tokenizer.from_file(str(Path(bundle) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    texts = [str(example.text) for example in load_data(DataSettings(data="documents")).quality]
    return [tokenizer.encode(text).ids for text in texts[:count]]


def measure(bundles: dict[str, str], count: int, rounds: int, threads: int) -> dict[str, Any]:
    """All figures by name; models are loaded one after another for quality and memory, and together for latency."""
    from ridgeline_export.metrics import pairwise, spearman

    vectors: dict[str, np.ndarray] = {}
    held: dict[str, int] = {}
    first = next(iter(bundles.values()))
    most = 0
    ids: list[list[int]] = []
    for name, bundle in bundles.items():
        model = Model(name, bundle, threads)
        if not ids:
            most = model.max_tokens
            ids = documents(first, most, count)
        if model.max_tokens != most:
            sys.exit(f"{name} takes {model.max_tokens} tokens and the first bundle {most}; give bundles of one length")
        rows = np.stack([model.run(each)[1] for each in ids]).astype(np.float64)
        vectors[name] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        held[name] = model.held
        model.stop()
        print(f"{name}: {len(ids)} documents", flush=True)
    longest = (max(ids, key=len) * most)[:most]
    models = [Model(name, bundle, threads) for name, bundle in bundles.items()]
    for model in models:
        model.run(longest)
    times: dict[str, list[float]] = {name: [] for name in bundles}
    for number in range(rounds):
        for model in models if number % 2 == 0 else models[::-1]:
            times[model.name].append(model.run(longest)[0])
    for model in models:
        model.stop()
    exact = vectors[next(iter(bundles))]
    base = next(iter(bundles))
    return {
        "tokens": most,
        "documents": len(ids),
        "document_tokens": {"median": statistics.median(map(len, ids)), "most": max(map(len, ids))},
        "rounds": rounds,
        "threads": threads,
        "models": {
            name: {
                "latency_s": statistics.median(times[name]),
                "latency_s_all": times[name],
                "times_exact": statistics.median(a / b for a, b in zip(times[name], times[base], strict=True)),
                "memory_mb": held[name] / 1e6,
                "spearman": spearman(pairwise(exact), pairwise(vectors[name])),
                "mean_cosine": float((exact * vectors[name]).sum(axis=1).mean()),
            }
            for name in bundles
        },
    }


def plot(found: dict[str, Any], path: Path) -> None:
    """Latency, memory and quality, a row of bars each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = found["models"]
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 0.5 * len(models) + 1.6), sharey=True, layout="constrained")
    columns = (
        ("latency_s", f"latency, one document of {found['tokens']} tokens, s", "{:.2f}"),
        ("memory_mb", "memory of the process, MB", "{:.0f}"),
        ("spearman", "Spearman to exact", "{:.3f}"),
    )
    for axis, (key, title, form) in zip(axes, columns, strict=True):
        bars = axis.barh(list(models), [each[key] for each in models.values()], color="#1f5fa8")
        axis.bar_label(bars, [form.format(each[key]) for each in models.values()], padding=3)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print a table, and write long_documents.json and .png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="NAME=BUNDLE", help="the exact one first")
    parser.add_argument("--documents", type=int, default=8, help="how many are judged (default 8, for a trial)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is timed (default 2)")
    parser.add_argument("--threads", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("build/experiments"))
    given = parser.parse_args()
    bundles = dict(entry.split("=", 1) for entry in given.bundles)
    found = measure(bundles, given.documents, given.rounds, given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "long_documents.json").write_text(json.dumps(found, indent=2) + "\n")
    plot(found, given.out / "long_documents.png")
    print(f"\n{'':14} latency s  × exact  memory MB  Spearman  mean cosine")
    for name, each in found["models"].items():
        print(
            f"{name:14} {each['latency_s']:9.2f} {each['times_exact']:8.2f} {each['memory_mb']:10.0f} "
            f"{each['spearman']:9.4f} {each['mean_cosine']:12.4f}"
        )


if __name__ == "__main__":
    main()

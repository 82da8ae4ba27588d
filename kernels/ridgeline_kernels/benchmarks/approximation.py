"""How far the efficient attentions are from exact attention, and what they cost.

`python -m ridgeline_kernels.benchmarks.approximation --out DIR` measures it on made-up queries, keys and values with
the references on the CPU, and writes approximation.json, approximation.md and approximation.png. `measured` takes any
q, k, v: a model's own, where they are at hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ridgeline_kernels.benchmarks.approximation_plot import write_plot
from ridgeline_kernels.benchmarks.attention_inputs import INPUTS, MEAN_ENTROPY, mean_entropy
from ridgeline_kernels.benchmarks.methods import Setting, settings_for
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.flops import attention_flops
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.long_attention.crossover import crossover_length
from ridgeline_kernels.packing import cu_seqlens_of

LENGTHS = (512, 1024, 2048, 4096)
HEADS, HEAD_DIM = 2, 64


@dataclass(frozen=True)
class Point:
    """One setting on one sequence.

    entropy:         mean entropy of exact attention, nats
    share_of_flops:  of exact attention's
    error:           relative Frobenius norm of the outputs' difference
    cosine:          mean cosine between the outputs of a token's head
    """

    inputs: str
    length: int
    entropy: float
    method: str
    knob: str
    value: int
    share_of_flops: float
    error: float
    cosine: float


def measured(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, settings: Iterable[Setting], inputs: str = "given"
) -> list[Point]:
    """Each setting against exact attention on one sequence.

    q, k, v:  [tokens, heads, head_dim], of one sequence
    inputs:   what to call them
    """
    length, heads, head_dim = q.shape
    exact = attention(q, k, v, cu_seqlens_of([length], q.device)).float()
    entropy = mean_entropy(q.float(), k.float())
    points = []
    for setting in settings:
        outputs = setting.attend(q, k, v).float()
        error = torch.linalg.vector_norm(outputs - exact) / torch.linalg.vector_norm(exact)
        cosine = torch.nn.functional.cosine_similarity(outputs, exact, dim=-1).mean()
        share = setting.flops(length) / _exact_flops(length, heads, head_dim)
        points.append(
            Point(
                inputs, length, entropy, setting.method, setting.knob, setting.value, share, float(error), float(cosine)
            )
        )
    return points


def _exact_flops(length: int, heads: int, head_dim: int) -> int:
    return attention_flops([length], [length], heads, head_dim)


def crossovers(settings: Iterable[Setting], heads: int, head_dim: int) -> list[dict[str, object]]:
    """For each setting the length from which it needs fewer FLOPs than exact attention; None if it never does."""
    found: list[dict[str, object]] = []
    for setting in settings:
        try:
            length: int | None = crossover_length(lambda tokens: _exact_flops(tokens, heads, head_dim), setting.flops)
        except ArgumentError:
            length = None
        found.append({"method": setting.method, "knob": setting.knob, "value": setting.value, "from_tokens": length})
    return found


def as_markdown(points: Sequence[Point], lengths_of_equal_cost: Sequence[dict[str, object]]) -> str:
    """The errors at every length, a table for each kind of inputs, and the lengths of equal cost."""
    lines = [
        "# Efficient attention against exact attention",
        "",
        f"References in fp32 on made-up queries, keys and values, {HEADS} heads of {HEAD_DIM}. Random inputs are "
        "independent normal numbers; clustered ones are topics that come back, smooth ones drift, both scaled to a "
        f"mean entropy of attention of {MEAN_ENTROPY:g} nats. A cell is the share of exact attention's FLOPs → the "
        "relative error (Frobenius) · the mean cosine. Linformer's projections are means of segments, not learned; "
        "block-sparse attention chooses its blocks by their means.",
    ]
    for inputs in dict.fromkeys(point.inputs for point in points):
        chosen = [point for point in points if point.inputs == inputs]
        lengths = sorted({point.length for point in chosen})
        entropies = {point.length: point.entropy for point in chosen}
        heads = " | ".join(f"{length:,} tokens ({entropies[length]:.1f} nats)" for length in lengths)
        lines += ["", f"## {inputs}", "", f"| method | {heads} |", "|---|" + "--:|" * len(lengths)]
        for method, knob, value in dict.fromkeys((point.method, point.knob, point.value) for point in chosen):
            cells = {
                point.length: f"{point.share_of_flops:.1%} → {point.error:.3f} · {point.cosine:.3f}"
                for point in chosen
                if (point.method, point.value) == (method, value)
            }
            lines.append(f"| {method}, {value} {knob} | {' | '.join(cells.get(length, '') for length in lengths)} |")
    lines += ["", "## Fewer FLOPs than exact attention", "", "| method | from so many tokens |", "|---|--:|"]
    for entry in lengths_of_equal_cost:
        length = "never" if entry["from_tokens"] is None else entry["from_tokens"]
        lines.append(f"| {entry['method']}, {entry['value']} {entry['knob']} | {length} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all methods on all inputs and write what came out."""
    parser = argparse.ArgumentParser(
        prog="python -m ridgeline_kernels.benchmarks.approximation",
        description="Error of the efficient attentions against their FLOPs, on the CPU.",
    )
    parser.add_argument("--out", type=Path, default=Path("build/approximation"), help="directory to write to")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="lengths, separated by commas")
    options = parser.parse_args(arguments)
    lengths = [int(length) for length in options.lengths.split(",")]
    points = []
    for inputs, make in INPUTS.items():
        for length in lengths:
            points += measured(*make(length, HEADS, HEAD_DIM, 0), settings_for(HEADS, HEAD_DIM), inputs)
            print(f"{inputs}, {length} tokens: done", flush=True)
    write(points, crossovers(settings_for(HEADS, HEAD_DIM), HEADS, HEAD_DIM), options.out)


def write(points: Sequence[Point], lengths_of_equal_cost: Sequence[dict[str, object]], directory: Path) -> None:
    """Write approximation.json, approximation.md and approximation.png."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"points": [asdict(point) for point in points], "fewer_flops_than_exact": list(lengths_of_equal_cost)}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (directory / "approximation.json").write_text(text + "\n", encoding="utf-8")
    (directory / "approximation.md").write_text(as_markdown(points, lengths_of_equal_cost), encoding="utf-8")
    write_plot([asdict(point) for point in points], directory / "approximation.png")


if __name__ == "__main__":
    main()

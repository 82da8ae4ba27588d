"""Calibrates, then measures models that the calibration has not seen, and predicts them from config and from graph.

`python -m experiments.lab.roofline_runs BUNDLE MODELS` prints one JSON object. MODELS: a folder of random_models.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# As in a worker: the math library of numpy must not start threads of its own beside the runtime's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from ridgeline_estimate.calibrated import Calibration
from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.graph import Graph, GraphWarning, read_graph
from ridgeline_estimate.op import Op, add_up
from ridgeline_estimate.precision import find_precision
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.roofline import predict
from ridgeline_estimate.workload import Workload
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.calibration import Setup, calibrate, cpu_setups, time_shapes
from ridgeline_server.runtimes.grid import Shape, ShapeGrid
from ridgeline_server.runtimes.selection import load_runtime

_TASK = "feature-extraction"
# None of them is a shape that calibration runs.
SHAPES: tuple[Shape, ...] = (
    (1, 12), (1, 48), (1, 200), (1, 512), (2, 100), (4, 24), (8, 40), (8, 128), (16, 10), (16, 64),
)  # fmt: skip
_MOST_FLOPS = 3e10  # a longer run would tell the same at a cost
_SHAPES_EACH = 6


def points(calibrated: Calibration, models: Mapping[str, Path], rounds: int) -> Iterator[dict[str, Any]]:
    """Measured and predicted seconds of every model and shape in one way to run.

    models: directory of each, with config.json and a folder a precision
    """
    setup = Setup(calibrated.runtime, calibrated.precision, calibrated.threads, calibrated.concurrency)
    for number, (name, folder) in enumerate(models.items()):
        path = folder / setup.precision / "model.onnx"
        if not path.is_file():
            continue
        print(f"  {setup}: {name}", file=sys.stderr, flush=True)
        counted = _counted(folder, setup)
        # Models take turns with the shapes, so that each has short and long ones and all shapes are seen.
        turn = SHAPES[number % len(SHAPES) :] + SHAPES[: number % len(SHAPES)]
        shapes = [shape for shape in turn if add_up(counted[shape]).matmul_flops <= _MOST_FLOPS][:_SHAPES_EACH]
        graph = read_graph(path)
        for shape, seconds in _timed(path, setup, shapes, rounds).items():
            config = predict(counted[shape], calibrated.device, calibrated.efficiency)
            yield {
                "model": name,
                "runtime": setup.runtime,
                "precision": setup.precision,
                "concurrency": setup.concurrency,
                "batch": shape[0],
                "seq": shape[1],
                "measured_s": seconds,
                "config_s": config.seconds,
                "graph_s": predict(_graph_ops(graph, shape), calibrated.device, calibrated.efficiency).seconds,
                "bound": config.bound,
            }


def _counted(folder: Path, setup: Setup) -> dict[Shape, list[Op]]:
    architecture = read_architecture(json.loads((folder / "config.json").read_text()), _TASK)
    precision = find_precision(setup.matmul)
    return {(batch, seq): model_ops(architecture, Workload(batch, seq), precision) for batch, seq in SHAPES}


def _graph_ops(graph: Graph, shape: Shape) -> list[Op]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphWarning)
        return list(graph.count(Workload(*shape)).ops)


def _timed(path: Path, setup: Setup, shapes: Sequence[Shape], rounds: int) -> dict[Shape, float]:
    plan = Plan(
        variant=setup.precision,
        runtime=setup.runtime,
        graph=path,
        precision=setup.matmul,
        threads=setup.threads,
        concurrency=setup.concurrency,
        grid=ShapeGrid(tuple(shapes)),
        pad_token_id=0,
        outputs=("last_hidden_state",),
        why="experiment",
        float_precision=setup.floats,
    )
    return time_shapes(load_runtime(plan), shapes, setup.concurrency, rounds)


def main() -> None:
    """Calibrate, measure, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    models = {arguments.bundle.resolve().name: arguments.bundle}
    models |= {path.parent.name: path.parent for path in sorted(arguments.models.glob("*/config.json"))}
    setups = [setup for setup in cpu_setups() if setup.precision in ("fp32", "int8", "int8-dynamic")]

    calibrations: list[Calibration] = []
    found: list[dict[str, Any]] = []
    for setup in setups:
        # One way to run after the other, since a shared machine's speed drifts over minutes.
        print(f"  {setup}: calibration", file=sys.stderr, flush=True)
        calibrations += calibrate([setup])
        found += points(calibrations[-1], models, arguments.rounds)
    print(json.dumps({"calibrations": [asdict(each) for each in calibrations], "points": found}))


if __name__ == "__main__":
    main()

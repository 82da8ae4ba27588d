"""Measures how this machine runs models: peaks, bandwidths, and the efficiency that real runs reach.

Every way to run (runtime, precision, batches at once) is measured through the very runtime that serves: the peak of one
large matmul, and small encoders of several sizes at several shapes, to which the roofline's efficiencies are fitted.
Batches run with all slots busy, so that a prediction is for a batch that has its share of the device and no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ridgeline_estimate.calibrated import Calibration, Host
from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.fitting import fit
from ridgeline_estimate.hardware import Bandwidth, Device, Peak
from ridgeline_estimate.op import Op
from ridgeline_estimate.precision import find_precision
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.roofline import Efficiency, predict
from ridgeline_estimate.workload import Workload
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.bandwidth import Bandwidths, measure_bandwidths, measure_gpu_bandwidths
from ridgeline_server.runtimes.base import Plan, Runtime
from ridgeline_server.runtimes.choice import float_precisions, is_usable
from ridgeline_server.runtimes.cores import available_cores
from ridgeline_server.runtimes.devices import Device as Placed
from ridgeline_server.runtimes.encoders import ENCODERS, Encoder
from ridgeline_server.runtimes.gpus import cuda_devices
from ridgeline_server.runtimes.grid import Shape, ShapeGrid
from ridgeline_server.runtimes.machine import Machine, this_machine
from ridgeline_server.runtimes.peak import CPU_PROBE_SIZE, GPU_PROBE_SIZE
from ridgeline_server.runtimes.selection import GPU_CONCURRENCY, load_runtime

Step = Callable[[str, int, int], None]
Run = tuple[list[Op], float]

_TASK = "feature-extraction"
SHAPES: tuple[Shape, ...] = ((1, 8), (1, 32), (1, 128), (1, 384), (4, 16), (4, 64), (16, 8), (8, 96), (3, 256))
_MOST_ELEMENTS = 1 << 19  # tokens x hidden: beyond it a run takes long and tells nothing new
# A GPU does thousands of tokens in the time of a core's dozens.
_GPU_SCALE = 16
_ROUNDS = 3
_BUDGET_S = 0.012
_LEAST_RUNS = 2
# Of a shape's runs this quantile counts: other work on the machine only ever adds, and the very best run is luck.
_QUANTILE = 0.25


@dataclass(frozen=True, slots=True)
class Setup:
    """A way to run models.

    precision:   as in Calibration
    threads:     of the CPU, all that the runtime has
    concurrency: batches at once
    gpu:         name of a GPU, None = on the CPU
    gpu_index:   its number as CUDA counts
    """

    runtime: str
    precision: str
    threads: int
    concurrency: int
    gpu: str | None = None
    gpu_index: int = 0

    @property
    def kind(self) -> str:
        """Of its device: "cpu" or "cuda"."""
        return "cpu" if self.gpu is None else "cuda"

    @property
    def matmul(self) -> str:
        """What its matmuls run in."""
        return "int8" if self.precision == "int8-dynamic" else self.precision

    @property
    def floats(self) -> str:
        """What is left in floating point."""
        return "fp32" if self.matmul == "int8" else self.matmul

    def __str__(self) -> str:
        at_once = f", {self.concurrency} batches at once" if self.concurrency > 1 else ""
        where = _count(self.threads, "thread") if self.gpu is None else f"cuda:{self.gpu_index}"
        return f"{self.runtime} {self.precision}, {where}{at_once}"


def cpu_setups() -> list[Setup]:
    """The ways that `serve` runs models on this CPU: with the threads, streams and precisions that it would choose.

    OpenVINO serves a batch on each core; all cores on one batch are measured too, as a lone caller has them.
    """
    threads = available_cores()
    setups = []
    if is_usable("openvino"):
        floats = [name for name in float_precisions("openvino") if name != "fp16"]  # rare, and close to bf16
        for concurrency in sorted({1, threads}):
            setups += [Setup("openvino", precision, threads, concurrency) for precision in (*floats, "int8")]
    if is_usable("onnxruntime"):
        setups += [Setup("onnxruntime", precision, threads, 1) for precision in ("fp32", "int8-dynamic")]
    return setups


def gpu_setups() -> list[Setup]:
    """The ways that `serve` runs models on this machine's GPUs; equal GPUs are measured once."""
    if not is_usable("onnxruntime", "cuda"):
        return []
    names = cuda_devices()
    return [
        Setup("onnxruntime", precision, available_cores(), concurrency, name, names.index(name))
        for name in dict.fromkeys(names)
        for concurrency in (1, GPU_CONCURRENCY)
        for precision in ("fp32", "fp16")
    ]


def this_host() -> Host:
    """The machine that this process runs on, as calibrations name it."""
    return host_of(this_machine())


def host_of(machine: Machine) -> Host:
    """A machine as calibrations name it."""
    return Host(**asdict(machine))


def calibrate(setups: Sequence[Setup], step: Step = lambda description, done, total: None) -> list[Calibration]:
    """Measure these ways to run.

    step: told what is measured now, and how many of how many steps are done
    Raises whatever a runtime's library raises when it cannot run.
    """
    host = this_host()
    total = len(setups) + 1
    step("memory bandwidth", 0, total)
    bandwidths: dict[tuple[str | None, int], Bandwidths] = {}
    peaks: dict[tuple[str, str, int, str | None], Peak | None] = {}
    made = []
    for number, setup in enumerate(setups, 1):
        key = (setup.gpu, setup.threads)
        if key not in bandwidths:
            bandwidths[key] = _measure_bandwidths(setup)
        step(str(setup), number, total)
        device = _device(setup, host, bandwidths[key], peaks)
        runs = list(_runs(setup))
        source = f"{len(runs)} runs of {len(ENCODERS)} encoders through {setup}"
        efficiency = fit(runs, device, source)
        errors = _errors(runs, device, efficiency)
        made.append(
            Calibration(
                host=host,
                runtime=setup.runtime,
                precision=setup.precision,
                threads=setup.threads,
                concurrency=setup.concurrency,
                device=device,
                efficiency=efficiency,
                median_error=float(np.median(errors)),
                p90_error=float(np.quantile(errors, 0.9)),
                created=time.time(),
            )
        )
    return made


def _errors(runs: Sequence[Run], device: Device, efficiency: Efficiency) -> list[float]:
    return [abs(predict(ops, device, efficiency).seconds / seconds - 1.0) for ops, seconds in runs]


def _device(
    setup: Setup, host: Host, bandwidths: Bandwidths, known: dict[tuple[str, str, int, str | None], Peak | None]
) -> Device:
    """The share of the device that one batch has. known: peaks of all of it, measured before or here."""
    share = 1.0 / setup.concurrency
    of = f"; 1 of {setup.concurrency} equal shares" if setup.concurrency > 1 else ""
    peaks = {}
    for dtype in dict.fromkeys((setup.floats, setup.matmul, "fp32")):
        key = (setup.runtime, dtype, setup.threads, setup.gpu)
        if key not in known:
            known[key] = _measure_peak(replace(setup, precision=dtype, concurrency=1))
        if (peak := known[key]) is not None:
            peaks[dtype] = replace(peak, flops_per_s=peak.flops_per_s * share, source=peak.source + of)
    now = time.time()
    cache = bandwidths.cache_bytes_per_s
    return Device(
        name=setup.gpu or f"{host.cpu} ({_count(setup.threads, 'core')})",
        kind=setup.kind,
        peaks=peaks,
        bandwidth=Bandwidth(bandwidths.memory_bytes_per_s * share, bandwidths.source + of, now),
        memory_bytes=None,
        runtime=setup.runtime,
        cache_bandwidth=Bandwidth(cache * share, bandwidths.source + of, now) if cache else None,
        cache_bytes=int(bandwidths.cache_bytes * share) if bandwidths.cache_bytes else None,
    )


def _measure_peak(setup: Setup) -> Peak | None:
    """The peak of all threads in the setup's precision, None where there is no probe for it."""
    runtime = _load(setup, ENCODERS[0], ((1, 8),))
    rate = runtime.measure_peak()
    if rate is None:
        return None
    size = CPU_PROBE_SIZE if setup.gpu is None else GPU_PROBE_SIZE
    return Peak(rate, setup.matmul, f"best matmul of {size}³ through {setup}", time.time())


def _measure_bandwidths(setup: Setup) -> Bandwidths:
    """Of all threads or all of the GPU."""
    if setup.gpu is None:
        return measure_bandwidths(setup.threads)
    return measure_gpu_bandwidths(_plan(setup, ENCODERS[0], ((1, 8),)))


def _runs(setup: Setup) -> Iterator[Run]:
    """All encoders at all shapes: what they compute, and the seconds of a batch."""
    for encoder in ENCODERS:
        scale = 1 if setup.gpu is None else _GPU_SCALE
        shapes = tuple(
            (rows * scale, length) for rows, length in SHAPES if rows * length * encoder.hidden <= _MOST_ELEMENTS
        )
        runtime = _load(setup, encoder, shapes)
        architecture = read_architecture(encoder.config, _TASK)
        for (rows, length), seconds in time_shapes(runtime, shapes, setup.concurrency).items():
            workload = Workload(batch=rows, seq=length)
            yield model_ops(architecture, workload, find_precision(setup.matmul)), seconds


def _load(setup: Setup, encoder: Encoder, shapes: tuple[Shape, ...]) -> Runtime:
    return load_runtime(_plan(setup, encoder, shapes))


def _plan(setup: Setup, encoder: Encoder, shapes: tuple[Shape, ...]) -> Plan:
    # On CPUs bf16 is what a runtime makes of the fp32 graph.
    graph = "fp32" if setup.matmul == "bf16" else setup.precision
    return Plan(
        variant=setup.precision,
        runtime=setup.runtime,
        graph=encoder.graph(graph),
        precision=setup.matmul,
        threads=setup.threads,
        concurrency=setup.concurrency,
        grid=ShapeGrid(shapes),
        pad_token_id=0,
        outputs=("last_hidden_state",),
        why="calibration",
        device=Placed(setup.kind, setup.gpu_index),
        float_precision=setup.floats,
    )


def time_shapes(
    runtime: Runtime,
    shapes: Sequence[Shape],
    concurrency: int,
    rounds: int = _ROUNDS,
    budget_s: float = _BUDGET_S,
) -> dict[Shape, float]:
    """Seconds of a batch of each shape, filled to the last token, all slots busy with batches of the same shape.

    Shapes take turns, `budget_s` seconds or two runs each, so that other work on the machine meets all of them alike.
    The first run of a turn, which sets up what the shape needs, does not count.
    """
    for shape in shapes:
        runtime.run(_full_batch(shape), 0)
    timed: dict[Shape, list[float]] = {shape: [] for shape in shapes}
    for _ in range(rounds):
        for shape in shapes:
            timed[shape] += _turn(runtime, shape, concurrency, budget_s)
    return {shape: float(np.quantile(seconds, _QUANTILE)) for shape, seconds in timed.items()}


def _turn(runtime: Runtime, shape: Shape, concurrency: int, budget_s: float) -> list[float]:
    batch = _full_batch(shape)
    ready = threading.Barrier(concurrency)
    timed: list[float] = []
    failed: list[Exception] = []

    def work(slot: int) -> None:
        seconds: list[float] = []
        try:
            runtime.run(batch, slot)
            ready.wait()
            end = time.monotonic() + budget_s
            while len(seconds) < _LEAST_RUNS or time.monotonic() < end:
                output = runtime.run(batch, slot)
                seconds.append(output.finished - output.started)
        except Exception as error:
            ready.abort()
            failed.append(error)
        timed.extend(seconds)

    workers = [threading.Thread(target=work, args=(slot,)) for slot in range(1, concurrency)]
    for worker in workers:
        worker.start()
    try:
        work(0)
    except BaseException:  # stopped by hand: the other slots must not wait for this one
        ready.abort()
        raise
    finally:
        for worker in workers:
            worker.join()
    if failed:
        raise next((error for error in failed if not isinstance(error, threading.BrokenBarrierError)), failed[0])
    return timed


def _full_batch(shape: Shape) -> Batch:
    rows, length = shape
    return Batch(-1, np.ones(rows * length, dtype=np.int32), np.full(rows, length, dtype=np.int32))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"

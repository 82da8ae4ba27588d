"""ONNX Runtime: on the CPU, and on GPUs through its CUDA and TensorRT providers."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import DeviceLostError, Output, Plan, warm_shapes
from ridgeline_server.runtimes.device_errors import is_device_lost
from ridgeline_server.runtimes.gpus import cuda_devices
from ridgeline_server.runtimes.grid import Shape
from ridgeline_server.runtimes.padding import padded_feed
from ridgeline_server.runtimes.peak import Probe, best_rate, make_probe
from ridgeline_server.runtimes.providers import TENSORRT_PROVIDER, Provider, plan_providers


class OnnxRuntime:
    """One session, which several threads may run at once, and one binding of inputs and outputs per slot."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._device = plan.device
        names = cuda_devices() if plan.device.kind == "cuda" else ()
        self._providers = plan_providers(plan, names[plan.device.index] if names else "")
        if plan.device.kind == "cuda":
            _prepare_cuda(plan)
        # A run takes its caller's thread and those of the session's pool, which all slots share.
        options = _options(plan.threads - plan.concurrency + 1)
        with _engine_lock(self._providers):
            self._session = make_session(plan.graph, options, self._providers)
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._bindings = [self._session.io_binding() for _ in range(plan.concurrency)]

    def run(self, batch: Batch, slot: int) -> Output:
        plan = self._plan
        shape = plan.grid.shape_of(batch.lengths)
        feed = padded_feed(batch, shape, plan.pad_token_id, self._inputs)
        started = time.monotonic()
        try:
            values = self._run_bound(self._bindings[slot], feed)
        except Exception as error:
            if is_device_lost(plan.device, error):
                raise DeviceLostError(f"{plan.device} is lost: {error}") from error
            raise
        finished = time.monotonic()
        arrays = dict(zip(plan.outputs, values, strict=True))
        return Output(arrays, shape[0] * shape[1], shape, started, finished)

    def warmup(self) -> dict[Shape, float]:
        """All slots at once on a GPU, where they share the device; one of them on a CPU."""
        slots = range(self._plan.concurrency if self._device.kind == "cuda" else 1)
        with ThreadPoolExecutor(len(slots)) as pool:
            timings = list(pool.map(self._warm_slot, slots))
        return {shape: max(timing[shape] for timing in timings) for shape in self._plan.grid.shapes}

    def measure_peak(self) -> float | None:
        probe = make_probe(self._plan.precision, self._device.kind)
        return None if probe is None else self.measure(probe)

    def measure(self, probe: Probe) -> float:
        """Measured rate of a probe on the replica's share of its device, in the probe's FLOPs per second."""
        # Engines of their own for a probe would take longer than it is worth: cuBLAS sets TensorRT's peak too.
        providers = [entry for entry in self._providers if entry[0] != TENSORRT_PROVIDER]
        session = make_session(probe.graph, _options(self._plan.threads), providers)
        return best_rate(self._bound_probe(session, probe), probe.flops) * self._plan.device_share

    def _run_bound(self, binding: ort.IOBinding, feed: dict[str, Any]) -> list[Any]:
        """Inputs are read from numpy's memory; outputs stay on the device until they are copied out, once."""
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        for name in self._plan.outputs:
            binding.bind_output(name, self._device.kind, self._device.index)
        self._session.run_with_iobinding(binding)
        values: list[Any] = binding.copy_outputs_to_cpu()
        return values

    def _bound_probe(self, session: ort.InferenceSession, probe: Probe) -> Any:
        """A run of the probe whose input lies on the device already and whose output stays there."""
        place = (self._device.kind, self._device.index)
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(probe.x, *place))
        binding.bind_output("y", *place)

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def _warm_slot(self, slot: int) -> dict[Shape, float]:
        grid = self._plan.grid
        return warm_shapes(grid, grid.shapes, lambda batch: self.run(batch, slot))


def make_session(graph: Path | bytes, options: ort.SessionOptions, providers: list[Provider]) -> ort.InferenceSession:
    """A session on the first of these providers.

    Raises RuntimeError when ONNX Runtime falls back to another one, as it does when a library is missing.
    """
    session = ort.InferenceSession(graph, options, providers=providers)
    wanted = providers[0][0]
    if wanted not in session.get_providers():
        built_for = f"onnxruntime {ort.__version__} needs CUDA {ort.cuda_version or '(unknown version)'} and cuDNN"
        also = ", and TensorRT" if wanted == TENSORRT_PROVIDER else ""
        raise RuntimeError(
            f"{wanted} cannot be loaded: {built_for}{also}; install them on the system, or the first two with: "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    return session


def _prepare_cuda(plan: Plan) -> None:
    if plan.precision == "fp32":
        # TensorRT has no other way to keep it from TF32, whose 10 bits of mantissa are not what fp32 says.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    ort.preload_dlls()


@contextmanager
def _engine_lock(providers: list[Provider]) -> Iterator[None]:
    """Let one process at a time build and write an engine; the others then read it."""
    directory = providers[0][1].get("trt_engine_cache_path")
    if directory is None:
        yield
        return
    Path(directory).mkdir(parents=True, exist_ok=True)
    with open(Path(directory) / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    # Spinning threads would take the cores from tokenization and HTTP, which share them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options

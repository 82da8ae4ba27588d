"""Packed graphs through our own kernels: on NVIDIA GPUs by CUDA graphs, on CPUs by the kernels' references.

The only module of the server that imports torch, in the worker process of a replica that was planned so.

Every slot packs its batch into pinned memory, and copies in and out on a stream of its own, while another slot's batch
computes. Computing itself goes in turns, since one batch fills the device: a batch has all of it, and has begun when
the one before it was over.

Vectors are pooled on the device, and token states stay there. A batch that asks for token states, or for vectors pooled
in another way than the bundle's, runs the same weights without graphs and brings its token states to the host.
"""

from __future__ import annotations

import os

# Read when torch is loaded: threads that spin at a barrier take the cores from the server, and from each other.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock

import numpy as np
import torch

from ridgeline_kernels import pool
from ridgeline_kernels.packed.buckets import buckets_of
from ridgeline_kernels.packed.cuda_graphs import GraphedModel, Model
from ridgeline_kernels.packed.executor import PackedModel
from ridgeline_kernels.packed.slots import Slot
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import POOLED, DeviceLostError, Output, Plan, full_batch, warm_shapes
from ridgeline_server.runtimes.device_errors import is_device_lost
from ridgeline_server.runtimes.devices import Device
from ridgeline_server.runtimes.grid import Shape
from ridgeline_server.runtimes.readouts import needs_token_states
from ridgeline_server.runtimes.triton_peak import measure_peak
from ridgeline_server.sequences import OUTPUTS, Int32Array

log = logging.getLogger(__name__)

# Of the replica's share of the GPU's memory; the rest is for weights and for batches that have no graph.
_GRAPHS_SHARE = 0.4
# Tokens a sequence of the batch by which what gives token states is warmed.
_WARM_LENGTHS = (64,)
# What the kernels call a bundle's poolings.
_METHODS = {"mean": "mean", "cls": "first", "max": "max", "last": "last"}


class TritonRuntime:
    """One copy of the weights, whose CUDA graphs all slots replay."""

    def __init__(self, plan: Plan) -> None:
        """Raises the kernels' errors when the graph is none that they run."""
        self._plan = plan
        device = torch.device(str(plan.device) if plan.device.kind == "cuda" else "cpu")
        if plan.device.kind == "cuda":
            torch.cuda.set_device(device)
        else:
            torch.set_num_threads(plan.threads)
        self._device = device
        packed = PackedModel.load(plan.graph, device, outputs=plan.outputs)
        model: Model = packed
        self._states: GraphedModel | None = None
        if plan.pools_as is not None:
            if plan.outputs[0] != POOLED:
                model = _Pooling(packed, plan.outputs[0], _METHODS[plan.pools_as])
            else:
                packed = packed.giving(OUTPUTS[plan.task])
            # Without a budget: what it is given as buckets runs once at warm-up, and then without graphs.
            self._states = GraphedModel(packed, buckets_of((plan.grid.most_tokens,), _WARM_LENGTHS), 0)
        self._graphed = GraphedModel(model, buckets_of(plan.grid.lengths), _graph_bytes(device, plan.device_share))
        self._slots = [Slot(self._graphed) for _ in range(plan.concurrency)]
        self._state_slots = [Slot(self._states) for _ in range(plan.concurrency)] if self._states else []
        self._lock = Lock()
        self._last_finished = 0.0

    def run(self, batch: Batch, slot: int) -> Output:
        plan = self._plan
        feed = packed_feed(batch)
        needs_states = plan.pools_as is not None and needs_token_states(batch, plan.pools_as)
        slots = self._state_slots if needs_states else self._slots
        began = time.monotonic()
        try:
            arrays = slots[slot].run(feed)
        except Exception as error:
            if is_device_lost(plan.device, error, _answers):
                raise DeviceLostError(f"{plan.device} is lost: {error}") from error
            raise
        started, finished = self._turn(began)
        tokens = len(batch.input_ids)
        bucket = None if needs_states else self._graphed.bucket_of(tokens, len(batch.lengths))
        executed = tokens if bucket is None else bucket.tokens
        return Output(arrays, executed, plan.grid.shape_of([executed]), started, finished)

    def warmup(self) -> dict[Shape, float]:
        """Capture the graphs, time the buckets on one slot, since batches take turns, and grow every slot's buffers."""
        grid = self._plan.grid
        if self._states is not None:
            self._states.warmup()
        report = self._graphed.warmup()
        if self._device.type == "cpu":  # nothing to compile there, and references take their time
            return warm_shapes(grid, grid.shapes, lambda batch: self.run(batch, slot=0), rounds=1)
        if report.eager:
            log.warning("%s on %s: %s", self._plan.variant, self._plan.device, report.describe())
        largest = full_batch(grid.full_lengths(grid.shapes[-1]))
        for slot in range(len(self._slots)):
            self.run(largest, slot)
        return warm_shapes(grid, grid.shapes, lambda batch: self.run(batch, slot=0))

    def measure_peak(self) -> float | None:
        if self._device.type != "cuda":
            return None  # the references do not compute in the graph's precision
        rate = measure_peak(self._plan.precision, self._device)
        return None if rate is None else rate * self._plan.device_share

    def _turn(self, began: float) -> tuple[float, float]:
        """Instants of a batch that is done now, without the time for which it waited for another one's end."""
        with self._lock:
            started, finished = max(began, self._last_finished), time.monotonic()
            self._last_finished = finished
        return started, finished


class _Pooling:
    """A model that gives token states, with pooling after it."""

    def __init__(self, model: Model, output: str, method: str) -> None:
        self.inputs = model.inputs
        self.device = model.device
        self._model = model
        self._output = output
        self._method = method

    def run(self, feed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        hidden = self._model.run(feed)[self._output]
        return {POOLED: pool(hidden[0], feed["cu_seqlens"], self._method, out_dtype=torch.float32)}

    def planned_bytes(self, tokens: int, sequences: int) -> int:
        return self._model.planned_bytes(tokens, sequences)


def packed_feed(batch: Batch) -> dict[str, Int32Array]:
    """All that a packed graph may take, by name: [1, tokens] int32, and cu_seqlens, [sequences + 1] int32.

    Types that the batch does not have are left out: zeros stand for them. Ids are copies, since torch takes no arrays
    that cannot be written, as those of a received frame cannot.
    """
    bounds = np.zeros(len(batch.lengths) + 1, dtype=np.int32)
    np.cumsum(batch.lengths, out=bounds[1:])
    positions = np.arange(len(batch.input_ids), dtype=np.int32) - np.repeat(bounds[:-1], batch.lengths)
    feed: dict[str, Int32Array] = {
        "input_ids": batch.input_ids[np.newaxis].copy(),
        "position_ids": positions[np.newaxis],
        "cu_seqlens": bounds,
    }
    if batch.token_type_ids is not None:
        feed["token_type_ids"] = batch.token_type_ids[np.newaxis].copy()
    return feed


def _graph_bytes(device: torch.device, device_share: float) -> int:
    """Memory that CUDA graphs may take: of what is free, no more than their part of the replica's share."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return int(_GRAPHS_SHARE * min(free, device_share * total))


def _answers(device: Device) -> bool:
    with suppress(Exception):  # whatever it is, the device does not answer
        return bool(torch.ones(1, device=str(device)).item() == 1)
    return False

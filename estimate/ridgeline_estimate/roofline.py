"""Predicted latency: each operation takes as long as its arithmetic or its bytes, whichever takes longer.

After Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009. Devices reach
only a share of their peaks, which differs between kinds of operations: these efficiencies are fitted to measured runs.

Compute, for an operation of F matmul FLOPs and E other FLOPs on a device whose peak is P:
    matmul with weights, M rows:     F · (1 + small_tokens / M) / (P · matmul)
    products of activations:         F / (P · attention), and product_s for every sequence's every head
    everything else:                 E / (P · elementwise)
Memory: bytes over bandwidth · memory. Where the cache is known, as much of an operation's activations as fits it moves
at the cache's bandwidth, and of weights the share of the whole call's that fits. Fused operations move nothing.

A graph divides the same work finer than a config does, and runtimes join it again. So a row of operations without a
matmul, of one part and layer, counts as one kernel; what merely lays out elements anew belongs to the kernel before it;
and quantizing belongs to the matmuls that need it, whose fitted efficiency has its cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.hardware import Device
from ridgeline_estimate.op import Op

Bound = Literal["compute", "memory", "overhead"]
_PRODUCTS = frozenset({"attention_scores", "attention_values"})
# Products of activations and what is no matmul run in floating point, also where a quantized graph hands them integers.
_FLOATS = ("fp32", "bf16", "fp16", "tf32")


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Which share of a device's peaks runs reach, and what they cost beside.

    matmul:       of the peak in the matmul's dtype, for matmuls with weights
    attention:    of the peak in the activations' dtype, for products of activations
    elementwise:  of the same peak, for everything that is no matmul
    memory:       of the bandwidths
    op_s:         seconds of every operation that is not fused: launch, dispatch
    call_s:       seconds of every call of the runtime
    product_s:    seconds of every head of every sequence, whose products are small matmuls of their own
    small_tokens: rows at which a matmul reaches half of its efficiency: with few rows it is worse
    skips_hidden: kernels leave out what a causal mask or a window hides
    source:       which runs it was fitted to
    """

    matmul: float = 1.0
    attention: float = 1.0
    elementwise: float = 1.0
    memory: float = 1.0
    op_s: float = 0.0
    call_s: float = 0.0
    product_s: float = 0.0
    small_tokens: float = 0.0
    skips_hidden: bool = False
    source: str = "assumed"


IDEAL = Efficiency(skips_hidden=True, source="ideal: peaks reached in full, no overhead")


@dataclass(frozen=True, slots=True)
class OpTime:
    """Seconds of one operation. bound: which of them binds."""

    op: Op
    compute_s: float
    memory_s: float
    overhead_s: float
    bound: Bound

    @property
    def seconds(self) -> float:
        """What it takes: the larger of compute and memory, and the overhead."""
        return max(self.compute_s, self.memory_s) + self.overhead_s


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted latency of a call.

    seconds:   sum over the operations, and the call's own
    compute_s, memory_s, overhead_s: seconds of the operations that arithmetic binds, that bytes bind, and overheads;
               they add up to `seconds`
    """

    seconds: float
    compute_s: float
    memory_s: float
    overhead_s: float
    device: Device
    efficiency: Efficiency
    ops: tuple[OpTime, ...]

    @property
    def bound(self) -> Bound:
        """What binds most of the time."""
        times: dict[Bound, float] = {
            "compute": self.compute_s,
            "memory": self.memory_s,
            "overhead": self.overhead_s,
        }
        return max(times, key=lambda name: times[name])


@dataclass(frozen=True, slots=True)
class Work:
    """What an operation asks of a device, as far as no efficiency is known yet; all in seconds at full peaks.

    matmul_s, attention_s, other_s: of its arithmetic
    memory_s: of its bytes
    rows:     of a matmul with weights
    products: sequences x heads of attention's scores
    launches: 1, or 0 for what runs inside of another kernel
    """

    matmul_s: float
    attention_s: float
    other_s: float
    memory_s: float
    rows: float
    products: int
    launches: int


def predict(ops: Iterable[Op], device: Device, efficiency: Efficiency = IDEAL) -> Prediction:
    """Predict the latency of a call that runs these operations one after another.

    Operations that depend on weights alone are left out: runtimes run them once, when they load a graph.
    Raises EstimateError when the device's peak in a dtype that is needed, or its bandwidth, is not known.
    """
    listed = [op for op in ops if not op.is_constant]
    works = work_of(listed, device, skips_hidden=efficiency.skips_hidden)
    times = [_time(op, work, efficiency) for op, work in zip(listed, works, strict=True)]
    bound_s = {"compute": 0.0, "memory": 0.0, "overhead": efficiency.call_s}
    for time in times:
        bound_s["overhead"] += time.overhead_s
        bound_s["memory" if time.memory_s > time.compute_s else "compute"] += max(time.compute_s, time.memory_s)
    return Prediction(
        seconds=sum(bound_s.values()),
        compute_s=bound_s["compute"],
        memory_s=bound_s["memory"],
        overhead_s=bound_s["overhead"],
        device=device,
        efficiency=efficiency,
        ops=tuple(times),
    )


def work_of(ops: Sequence[Op], device: Device, *, skips_hidden: bool = False) -> list[Work]:
    """What each of a call's operations asks of a device.

    skips_hidden: as in Efficiency
    Raises EstimateError when the device's peak in a dtype that is needed, or its bandwidth, is not known.
    """
    weights_bytes = sum(op.weight_bytes for op in ops)
    works = []
    kernel: Op | None = None
    for op in ops:
        is_joined = op.fused or _is_joined(op, kernel)
        works.append(_work(op, device, weights_bytes, skips_hidden, is_joined))
        if not is_joined:
            kernel = op
    return works


def _is_joined(op: Op, kernel: Op | None) -> bool:
    """True when runtimes compute it inside of the kernel before it, though the count says nothing of that."""
    if op.matmul_flops or (op.weight_bytes and op.part == "embeddings"):
        return False
    if op.part == "quantization" or not (op.other_flops or op.weight_bytes):
        return True
    return kernel is not None and not kernel.matmul_flops and (kernel.part, kernel.layer) == (op.part, op.layer)


def _work(op: Op, device: Device, weights_bytes: float, skips_hidden: bool, is_joined: bool) -> Work:
    matmul_s = attention_s = other_s = 0.0
    flops = op.matmul_flops - op.skipped_flops * skips_hidden
    products = 0
    if flops and op.part in _PRODUCTS:
        attention_s = flops / _float_peak(device, op.dtype)
        products = prod(op.output[:-2]) if op.part == "attention_scores" else 0
    elif flops:
        matmul_s = flops / device.peak(op.dtype).flops_per_s
    if op.other_flops and op.part != "quantization":
        other_s = op.other_flops / _float_peak(device, op.dtype)
    memory_s = 0.0 if is_joined else _memory_s(op, device, weights_bytes)
    rows = float(prod(op.output[:-1])) if op.output else 1.0
    return Work(matmul_s, attention_s, other_s, memory_s, max(rows, 1.0), products, 0 if is_joined else 1)


def _time(op: Op, work: Work, efficiency: Efficiency) -> OpTime:
    compute_s = (
        work.matmul_s * (1.0 + efficiency.small_tokens / work.rows) / efficiency.matmul
        + work.attention_s / efficiency.attention
        + work.products * efficiency.product_s
        + work.other_s / efficiency.elementwise
    )
    memory_s = work.memory_s / efficiency.memory
    overhead_s = work.launches * efficiency.op_s
    if overhead_s > max(compute_s, memory_s):
        bound: Bound = "overhead"
    else:
        bound = "memory" if memory_s > compute_s else "compute"
    return OpTime(op, compute_s, memory_s, overhead_s, bound)


def _float_peak(device: Device, dtype: str) -> float:
    if dtype in _FLOATS:
        return device.peak(dtype).flops_per_s
    known = [name for name in _FLOATS if name in device.peaks]
    return device.peak(known[0] if known else "fp32").flops_per_s


def _memory_s(op: Op, device: Device, weights_bytes: float) -> float:
    if not op.moved_bytes:
        return 0.0
    if device.bandwidth is None:
        raise EstimateError(
            f"the memory bandwidth of {device.name} is not known; measure it there with `ridgeline devices --calibrate`"
        )
    memory = device.bandwidth.bytes_per_s
    if device.cache_bandwidth is None or device.cache_bytes is None:
        return op.moved_bytes / memory
    cache = device.cache_bandwidth.bytes_per_s
    states_bytes = op.read_bytes + op.written_bytes
    cached = op.weight_bytes * _share(device.cache_bytes, weights_bytes)
    cached += states_bytes * _share(device.cache_bytes, states_bytes)
    return cached / cache + (op.moved_bytes - cached) / memory


def _share(room: float, wanted: float) -> float:
    return min(1.0, room / wanted) if wanted else 1.0

"""Memory that a model takes on a workload, on each device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.memory.cache import kv_cache_bytes
from ridgeline_estimate.memory.model import trace
from ridgeline_estimate.memory.weights import count_weights
from ridgeline_estimate.optimizers import STATE_BYTES, find_optimizer
from ridgeline_estimate.parallelism import Parallelism, shard_architecture, shard_workload
from ridgeline_estimate.precision import Precision
from ridgeline_estimate.workload import Mode, Workload

KINDS = ("cpu", "cuda")
_TRAINABLE = frozenset({"fp32", "bf16", "fp16"})
_NEEDS_MASTER = frozenset({"bf16", "fp16"})


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each device.

    Exact:
    weights:           all of them, each once; `weights_by_kind` as matrices, tables, vectors (norms and biases) and
                       scales of quantized matrices, `weights_by_dtype` by number format
    kv_cache:          keys and values after the call
    gradients:         of all weights, in the weights' formats; 0 when not training
    optimizer_state:   fp32 numbers that the optimizer keeps for each weight
    master_weights:    fp32 copies that the optimizer steps, when 16-bit weights are trained (Micikevicius et al.,
                       arXiv 1710.03740; with Adam this makes the 16 bytes per weight of ZeRO, arXiv 1910.02054, §3.1)

    Estimated, by following the allocations of eager PyTorch and transformers:
    activations_peak:  most that everything else takes at any time, attention computed by SDPA's kernels where they can
    activations_peak_materialized: the same with attention scores written to memory (attn_implementation="eager")
    step_peak:         most that activations and gradients take together at any time of a training step that starts
                       without gradients (`zero_grad` sets them to None); activations alone when not training
    is_materialized:   which of both counts in `activations`, `step_peak` and the sums
    """

    weights: int
    weights_by_kind: Mapping[str, int]
    weights_by_dtype: Mapping[str, int]
    activations_peak: int
    activations_peak_materialized: int
    kv_cache: int = 0
    gradients: int = 0
    optimizer_state: int = 0
    master_weights: int = 0
    step_peak: int = 0
    is_materialized: bool = False

    @property
    def activations(self) -> int:
        """The peak of activations that counts."""
        return self.activations_peak_materialized if self.is_materialized else self.activations_peak

    @property
    def parts(self) -> Mapping[str, int]:
        """What `total` is made of."""
        return {
            "weights": self.weights,
            "activations": self.activations,
            "kv_cache": self.kv_cache,
            "gradients": self.gradients,
            "optimizer_state": self.optimizer_state,
            "master_weights": self.master_weights,
        }

    @property
    def total(self) -> int:
        """All parts: what a device must have, gradients kept from step to step as when they are accumulated."""
        return sum(self.parts.values())

    @property
    def peak(self) -> int:
        """The most that is allocated at any time when gradients are freed after each step; up to `total`."""
        return self.weights + self.kv_cache + self.optimizer_state + self.master_weights + self.step_peak


def estimate_memory(
    architecture: Architecture,
    workload: Workload,
    precision: Precision,
    *,
    optimizer: str | None = None,
    data_parallel: int = 1,
    tensor_parallel: int = 1,
    materialized_attention: bool = False,
    kind: str = "cpu",
    zero_stage: int = 0,
) -> Memory:
    """Memory of each device.

    workload:        its batch is that of all devices together
    optimizer:       what trains it, see optimizers.py; None = gradients alone
    data_parallel:   replicas of the model that divide the batch
    tensor_parallel: devices that divide each layer
    kind:            "cpu" or "cuda": SDPA on CPUs writes attention out when dropout is on, on GPUs it does not
    zero_stage:      what replicas divide too: 1 optimizer states, 2 gradients, 3 weights (those of a layer that are
                     gathered for its turn are not counted)
    Raises EstimateError when the model cannot run so, or not be divided so.
    """
    parallelism = Parallelism(data_parallel, tensor_parallel, zero_stage)
    _check(workload, precision, optimizer, kind)
    architecture = shard_architecture(architecture, tensor_parallel)
    workload = shard_workload(workload, parallelism)
    model_ops(architecture, workload, precision)  # refuses what the model cannot run
    plain, materialized = (
        trace(architecture, workload, precision, is_materialized=choice, kind=kind) for choice in (False, True)
    )
    chosen = materialized if materialized_attention else plain
    weights = count_weights(architecture)
    kinds, dtypes = weights.by_kind(precision), weights.by_dtype(precision)
    total = sum(kinds.values())
    is_training = workload.mode is Mode.TRAIN
    states = find_optimizer(optimizer).states if optimizer is not None else ()
    has_master = optimizer is not None and precision.weights in _NEEDS_MASTER
    by_stage = [data_parallel if zero_stage >= stage else 1 for stage in (1, 2, 3)]
    return Memory(
        weights=ceil(total / by_stage[2]),
        weights_by_kind={name: ceil(amount / by_stage[2]) for name, amount in kinds.items()},
        weights_by_dtype={name: ceil(amount / by_stage[2]) for name, amount in dtypes.items()},
        activations_peak=ceil(plain.peak),
        activations_peak_materialized=ceil(materialized.peak),
        kv_cache=kv_cache_bytes(architecture, workload, precision),
        gradients=ceil(total / by_stage[1]) if is_training else 0,
        optimizer_state=ceil(len(states) * weights.elements * STATE_BYTES / by_stage[0]),
        master_weights=ceil(weights.elements * STATE_BYTES / by_stage[0]) if has_master else 0,
        step_peak=ceil(chosen.peak_together),
        is_materialized=materialized_attention,
    )


def _check(workload: Workload, precision: Precision, optimizer: str | None, kind: str) -> None:
    if kind not in KINDS:
        raise EstimateError(f"kind of device is {kind!r}; allowed: {', '.join(KINDS)}")
    if workload.mode is Mode.TRAIN:
        if precision.weights not in _TRAINABLE:
            raise EstimateError(
                f"weights in {precision.weights} cannot be trained; choose one of fp32, tf32, bf16, fp16"
            )
    elif optimizer is not None:
        raise EstimateError(f"optimizer is '{optimizer}', but {workload.mode} takes no step; choose the mode train")

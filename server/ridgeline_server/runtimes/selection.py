"""Which plans a bundle is served with, and the loading of one."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ridgeline_estimate.shape import ModelShape
from ridgeline_export.bundle import Bundle, Manifest, Variant
from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes.base import POOLED, Plan, Runtime
from ridgeline_server.runtimes.checked_files import check_unchanged, checked_files
from ridgeline_server.runtimes.choice import (
    auto_devices,
    choose_runtime,
    choose_variant,
    float_precisions,
    is_packed,
    precisions,
)
from ridgeline_server.runtimes.cores import bind
from ridgeline_server.runtimes.devices import Device, parse_devices
from ridgeline_server.runtimes.grid import CALL_OVERHEAD_TOKENS, Grid, make_grid
from ridgeline_server.runtimes.placement import Placement, place
from ridgeline_server.runtimes.token_grid import make_token_grid
from ridgeline_server.runtimes.tuned import Tuning, find_tuning
from ridgeline_server.sequences import OUTPUTS
from ridgeline_server.tasks.pooling import POOLINGS

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

# Past these a larger batch is hardly faster per token on a CPU core, and everyone in it waits longer.
_SLOW_STREAM_BATCH_TOKENS, _FAST_STREAM_BATCH_TOKENS = 256, 512
_CORE_BATCH_TOKENS = 128
# A GPU needs thousands of tokens at once to be busy; this is a starting point, not a measured optimum.
_GPU_BATCH_TOKENS = 16_384
# What a call costs before it computes, in tokens: a GPU does thousands of them while its kernels are launched.
_OVERHEAD_TOKENS = {"cpu": CALL_OVERHEAD_TOKENS, "cuda": 4096}
# While one batch is on the GPU, the host pads the next and pools the one before.
GPU_CONCURRENCY = 2
# Logits of every token over the whole vocabulary take no more in all of a replica's batches at once, unless a single
# sequence's do.
_MOST_LOGITS_BYTES = 256_000_000
_LOGIT_BYTES = 4
_EMBEDS, _FILLS_MASKS = "feature-extraction", "fill-mask"
# Precisions that leave something in floating point of another one.
QUANTIZED = ("int8", "fp8")


def choose_plans(bundle: Bundle, config: ServerConfig) -> list[Plan]:
    """The plans of one bundle's replicas, one each; they share a grid.

    Raises StartupError when the bundle cannot be served as asked.
    """
    check_servable(bundle)
    devices, left_out = parse_devices(config.devices), ""
    if devices is None:
        devices, left_out = auto_devices(bundle, config)
    placements = place(devices, config.cores)
    kind = devices[0].kind
    gpus = {device.index for device in devices} if kind == "cuda" else None
    tuning = find_tuning(bundle, config, placements)
    if isinstance(tuning, Tuning):
        return [
            _tuned_plan(bundle, tuning, placement, tuning.why + left_out + _sharing(config)) for placement in placements
        ]
    variant, why_variant = choose_variant(bundle, config.variant, kind, config.runtime, gpus)
    runtime, why_runtime = choose_runtime(variant, config.runtime, kind, gpus)
    if is_packed(variant) and kind == "cpu":
        log.warning("bundle %s, variant %s: %s; serve it on an NVIDIA GPU", bundle.path, variant.name, why_runtime)
    why = f"{why_variant}; {why_runtime}{left_out}{_sharing(config)}{f'; {tuning}' if tuning else ''}"
    budget = config.max_batch_tokens or _default_budget(
        runtime, kind, variant, min(place.threads for place in placements)
    )
    plans = [usual_plan(bundle, variant, runtime, placement, why, budget) for placement in placements]
    smallest = min((plan.grid for plan in plans), key=lambda grid: grid.most_tokens)
    return [replace(plan, grid=smallest) for plan in plans]


def usual_plan(
    bundle: Bundle,
    variant: Variant,
    runtime: str,
    placement: Placement,
    why: str,
    max_batch_tokens: int | None = None,
    concurrency: int | None = None,
) -> Plan:
    """The plan that a variant is served by on a runtime where nobody tuned it.

    max_batch_tokens, concurrency: None = the usual ones
    """
    kind = placement.device.kind
    return make_plan(
        bundle,
        variant,
        runtime,
        precision=precisions(variant, runtime, kind)[0],
        device=placement.device,
        threads=placement.threads,
        concurrency=concurrency or _concurrency(runtime, placement),
        max_batch_tokens=max_batch_tokens or _default_budget(runtime, kind, variant, placement.threads),
        why=why,
        cores=placement.cores,
        device_share=placement.device_share,
    )


def make_plan(
    bundle: Bundle,
    variant: Variant,
    runtime: str,
    *,
    precision: str,
    device: Device,
    threads: int,
    concurrency: int,
    max_batch_tokens: int,
    why: str,
    float_precision: str | None = None,
    cores: tuple[int, ...] | None = None,
    device_share: float = 1.0,
) -> Plan:
    """A plan with everything chosen.

    precision:        one of `precisions(variant, runtime, device.kind)`
    concurrency, max_batch_tokens: batches at once, and tokens that one may execute, padding included; fewer where their
                      logits would take too much
    float_precision:  what int8 or fp8 left over runs in, one of `float_precisions(runtime)`, None = the usual one; else
                      `precision` itself
    Raises StartupError for a precision that the runtime does not compute the variant in on this machine.
    """
    _check_precision(precision, precisions(variant, runtime, device.kind), variant, runtime)
    if precision in QUANTIZED:
        allowed = float_precisions(runtime)
        float_precision = float_precision or allowed[0]
        _check_precision(float_precision, allowed, variant, runtime)
    else:
        float_precision = precision
    manifest = bundle.manifest
    concurrency, max_batch_tokens = _bounded(concurrency, max_batch_tokens, manifest)
    digests = "".join(entry.sha256 for _, entry in sorted(variant.files.items()))
    return Plan(
        variant=variant.name,
        runtime=runtime,
        graph=bundle.path / variant.graph,
        precision=precision,
        threads=threads,
        concurrency=concurrency,
        grid=_make_grid(variant, manifest.max_tokens, max_batch_tokens, device.kind),
        pad_token_id=manifest.pad_token_id,
        outputs=(POOLED,) if POOLED in variant.outputs else OUTPUTS.get(manifest.task, variant.outputs),
        why=why,
        device=device,
        float_precision=float_precision,
        cores=cores,
        device_share=device_share,
        inputs=variant.inputs,
        fingerprint=hashlib.sha256(digests.encode()).hexdigest(),
        pools_as=(manifest.pooling or "mean") if is_packed(variant) and manifest.task == _EMBEDS else None,
        has_turns=is_packed(variant),
        task=manifest.task,
        files=checked_files(bundle.path, variant.files),
    )


def _make_grid(variant: Variant, max_tokens: int, max_batch_tokens: int, kind: str) -> Grid:
    if is_packed(variant):
        return make_token_grid(max_tokens, max_batch_tokens)
    return make_grid(max_tokens, max_batch_tokens, _OVERHEAD_TOKENS[kind])


def _bounded(concurrency: int, max_batch_tokens: int, manifest: Manifest) -> tuple[int, int]:
    """Batches at once and tokens of each, no more than there is room for the outputs of."""
    if manifest.task != _FILLS_MASKS:
        return concurrency, max_batch_tokens
    most_tokens = _MOST_LOGITS_BYTES // (_LOGIT_BYTES * ModelShape.from_dict(dict(manifest.shape)).vocab)
    concurrency = max(1, min(concurrency, most_tokens // manifest.max_tokens))
    return concurrency, min(max_batch_tokens, max(1, most_tokens // concurrency))


def load_runtime(plan: Plan) -> Runtime:
    """Bind this process to the plan's cores and load its graph; only the chosen runtime's library is imported.

    Raises OSError when the cores are gone, ValueError when the plan's files were replaced, and whatever the runtime's
    library raises.
    """
    check_unchanged(plan.files)
    bind(plan.cores)
    return _LOADERS[plan.runtime](plan)


def check_servable(bundle: Bundle) -> None:
    """Raise StartupError when this version cannot serve the bundle's task or pooling."""
    manifest = bundle.manifest
    if manifest.task == _EMBEDS and (manifest.pooling or "mean") not in POOLINGS:
        raise StartupError(
            f"bundle {bundle.path} has pooling '{manifest.pooling}'; this version knows: {', '.join(POOLINGS)}"
        )
    if manifest.task not in OUTPUTS:
        raise StartupError(
            f"bundle {bundle.path} is for the task '{manifest.task}'; this version serves: {', '.join(OUTPUTS)}"
        )


def _tuned_plan(bundle: Bundle, tuning: Tuning, placement: Placement, why: str) -> Plan:
    return make_plan(
        bundle,
        bundle.variant(tuning.variant),
        tuning.runtime,
        precision=tuning.precision,
        float_precision=tuning.float_precision,
        device=placement.device,
        threads=placement.threads,
        concurrency=tuning.concurrency,
        max_batch_tokens=tuning.max_batch_tokens,
        why=why,
        cores=placement.cores,
        device_share=placement.device_share,
    )


def _sharing(config: ServerConfig) -> str:
    others = len(config.bundles) + len(config.models) - 1
    if config.cores is not None:
        return f"; on cores {', '.join(map(str, config.cores))}"
    if others < 1:
        return ""
    return f"; planned with the whole device, which it shares with {others} other bundle{'s' * (others > 1)}"


def _check_precision(wanted: str, allowed: tuple[str, ...], variant: Variant, runtime: str) -> None:
    if wanted not in allowed:
        raise StartupError(
            f"variant '{variant.name}' does not run in {wanted} on {runtime} here; allowed: {', '.join(allowed)}"
        )


def _concurrency(runtime: str, placement: Placement) -> int:
    """Batches at once: a stream a core on OpenVINO, two on a GPU, else one on all cores."""
    if placement.device.kind == "cuda":
        return GPU_CONCURRENCY
    return placement.threads if runtime == "openvino" else 1


def _default_budget(runtime: str, kind: str, variant: Variant, least_threads: int) -> int:
    """Tokens of a batch; the smallest replica decides, since all share a grid."""
    if kind == "cuda":
        return _GPU_BATCH_TOKENS
    stream_tokens = _SLOW_STREAM_BATCH_TOKENS if variant.precision == "fp32" else _FAST_STREAM_BATCH_TOKENS
    return max(stream_tokens, 0 if runtime == "openvino" else _CORE_BATCH_TOKENS * least_threads)


def _load_onnx_runtime(plan: Plan) -> Runtime:
    from ridgeline_server.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(plan)


def _load_openvino(plan: Plan) -> Runtime:
    from ridgeline_server.runtimes.openvino_runtime import OpenVinoRuntime

    return OpenVinoRuntime(plan)


def _load_triton(plan: Plan) -> Runtime:
    from ridgeline_server.runtimes.triton_runtime import TritonRuntime

    return TritonRuntime(plan)


_LOADERS: dict[str, Callable[[Plan], Runtime]] = {
    "onnxruntime": _load_onnx_runtime,
    "openvino": _load_openvino,
    "tensorrt": _load_onnx_runtime,
    "triton": _load_triton,
}

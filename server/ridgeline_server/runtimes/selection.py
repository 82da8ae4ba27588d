"""Which variant of a bundle runs on which runtime, and how."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ridgeline_export.bundle import Bundle, BundleError, Variant
from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes.base import Plan, Runtime
from ridgeline_server.runtimes.cores import has_fast_int8, is_x86
from ridgeline_server.runtimes.devices import CPU, Device
from ridgeline_server.runtimes.grid import make_grid
from ridgeline_server.tasks.feature_extraction import POOLINGS

if TYPE_CHECKING:
    from collections.abc import Callable

RUNTIMES = ("onnxruntime", "openvino")
FLOAT_PRECISIONS = ("fp32", "bf16", "fp16")
# Past these a larger batch is hardly faster per token on a CPU core, and everyone in it waits longer.
_STREAM_BATCH_TOKENS = 256
_CORE_BATCH_TOKENS = 128
_OUTPUTS = {"feature-extraction": ("last_hidden_state",)}


def choose_plan(bundle: Bundle, config: ServerConfig, threads: int, least_threads: int) -> Plan:
    """The plan for one bundle on one CPU replica that holds `threads` cores.

    least_threads: cores of the model's smallest replica, which decide the grid that all its replicas share
    Raises StartupError when the bundle cannot be served as asked.
    """
    manifest = bundle.manifest
    if (manifest.pooling or "mean") not in POOLINGS:
        raise StartupError(
            f"bundle {bundle.path} has pooling '{manifest.pooling}'; this version knows: {', '.join(POOLINGS)}"
        )
    if manifest.task not in _OUTPUTS:
        raise StartupError(
            f"bundle {bundle.path} is for the task '{manifest.task}'; this version serves: {', '.join(_OUTPUTS)}"
        )
    variant, why_variant = _choose_variant(bundle, config.variant)
    runtime, why_runtime = _choose_runtime(variant, config.runtime)
    concurrency = threads if runtime == "openvino" else 1
    budget = config.max_batch_tokens or max(_STREAM_BATCH_TOKENS, _CORE_BATCH_TOKENS * least_threads // concurrency)
    return make_plan(
        bundle,
        variant,
        runtime,
        precision=variant.precision,
        device=CPU,
        threads=threads,
        concurrency=concurrency,
        max_batch_tokens=budget,
        why=f"{why_variant}; {why_runtime}",
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
) -> Plan:
    """A plan with everything chosen.

    precision:        one of `precisions(variant, runtime)`
    max_batch_tokens: tokens that one batch may execute, padding included
    float_precision:  what int8 left over runs in: "fp32" (None), "bf16" or "fp16"; else the precision itself
    Raises StartupError for a precision that the runtime does not compute the variant in.
    """
    allowed = precisions(variant, runtime)
    if precision not in allowed:
        raise StartupError(
            f"variant '{variant.name}' does not run in {precision} on {runtime}; allowed: {', '.join(allowed)}"
        )
    manifest = bundle.manifest
    return Plan(
        variant=variant.name,
        runtime=runtime,
        graph=bundle.path / variant.graph,
        precision=precision,
        threads=threads,
        concurrency=concurrency,
        grid=make_grid(manifest.max_tokens, max_batch_tokens),
        pad_token_id=manifest.pad_token_id,
        outputs=_OUTPUTS[manifest.task],
        why=why,
        device=device,
        float_precision=(float_precision or "fp32") if precision == "int8" else precision,
        cores=cores,
    )


def precisions(variant: Variant, runtime: str) -> tuple[str, ...]:
    """Precisions that a runtime can compute a variant in, its own first; the machine may lack some of them."""
    if runtime != "openvino" or variant.precision == "int8":
        return (variant.precision,)
    return variant.precision, *(name for name in FLOAT_PRECISIONS if name != variant.precision)


def replica_threads(devices: str, cores: int) -> list[int]:
    """Cores of each CPU replica that `--devices` asks for: all of them share `cores` evenly.

    Raises StartupError for a device that is unknown, or that this version cannot use.
    """
    names = [name.strip() for name in devices.split(",")]
    for name in names:
        if not re.fullmatch(r"auto|cpu(:\d+)?", name):
            raise StartupError(
                f"device '{name}' is not available; allowed: auto, cpu, or several replicas as cpu:0,cpu:1"
            )
    if len(set(names)) != len(names) or ("auto" in names and len(names) > 1):
        raise StartupError(f"devices '{devices}' name a device twice; give each replica its own, as cpu:0,cpu:1")
    if len(names) > cores:
        raise StartupError(f"devices '{devices}' ask for {len(names)} replicas, but there are {cores} cores")
    share, rest = divmod(cores, len(names))
    return [share + (index < rest) for index in range(len(names))]


def load_runtime(plan: Plan) -> Runtime:
    """Load the plan's graph; only the chosen runtime's library is imported."""
    return _LOADERS[plan.runtime](plan)


def _choose_variant(bundle: Bundle, wanted: str) -> tuple[Variant, str]:
    if wanted != "auto":
        try:
            return bundle.variant(wanted), f"variant {wanted} was asked for"
        except BundleError as error:
            raise StartupError(f"{error}; choose one with --variant, or --variant auto") from None
    variants = bundle.manifest.variants
    int8 = variants.get("int8")
    if int8 is not None and int8.quality.passed and has_fast_int8():
        return int8, f"int8 passed its gate ({_quality(int8)}) and the CPU multiplies int8 fast"
    if "fp32" in variants:
        reason = "there is no int8 variant" if int8 is None else "the CPU has no fast int8 or int8 missed its gate"
        return variants["fp32"], f"fp32, because {reason}"
    have = ", ".join(sorted(variants)) or "none"
    raise StartupError(
        f"bundle {bundle.path} has no variant that 'auto' picks; it has: {have}; name one with --variant"
    )


def _choose_runtime(variant: Variant, wanted: str) -> tuple[str, str]:
    if wanted == "auto":
        for name in variant.runtimes:
            if name in RUNTIMES and _is_usable(name):
                return name, f"{name} is the fastest installed runtime for it"
        raise StartupError(
            f"variant '{variant.name}' runs on {', '.join(variant.runtimes)}, none of which is installed; "
            "install the extra: pip install ridgeline[cpu]"
        )
    if wanted not in RUNTIMES:
        raise StartupError(f"runtime '{wanted}' is unknown; allowed: auto, {', '.join(RUNTIMES)}")
    if wanted not in variant.runtimes:
        raise StartupError(f"variant '{variant.name}' does not run on {wanted}; allowed: {', '.join(variant.runtimes)}")
    if not _is_usable(wanted):
        raise StartupError(f"runtime {wanted} is not installed here; install the extra: pip install ridgeline[cpu]")
    return wanted, f"runtime {wanted} was asked for"


def _is_usable(runtime: str) -> bool:
    return find_spec(runtime) is not None and (runtime != "openvino" or is_x86())


def _quality(variant: Variant) -> str:
    quality = variant.quality
    return f"{quality.metric.replace('_', ' ')} {quality.value:.4f}, gate {quality.gate:g}"


def _load_onnx_runtime(plan: Plan) -> Runtime:
    from ridgeline_server.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(plan)


def _load_openvino(plan: Plan) -> Runtime:
    from ridgeline_server.runtimes.openvino_runtime import OpenVinoRuntime

    return OpenVinoRuntime(plan)


_LOADERS: dict[str, Callable[[Plan], Runtime]] = {"onnxruntime": _load_onnx_runtime, "openvino": _load_openvino}

"""The choice of a variant and a runtime for a kind of device, and the sentence that says why."""

from __future__ import annotations

from importlib.util import find_spec

from ridgeline_export.bundle import Bundle, BundleError, Variant
from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes.cores import cpu_flags, has_fast_int8, is_x86
from ridgeline_server.runtimes.devices import CPU, Device
from ridgeline_server.runtimes.gpus import cuda_devices
from ridgeline_server.runtimes.providers import CPU_PROVIDER, available_providers, needed_provider

RUNTIMES = ("onnxruntime", "openvino", "tensorrt")
# The Python package behind each runtime; bundles name packages, since one graph serves all of a package's providers.
_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt": "onnxruntime"}
_RUNTIMES_OF_KIND = {"cpu": ("onnxruntime", "openvino"), "cuda": ("onnxruntime", "tensorrt")}
# Instruction sets that compute in a precision, any of which is enough.
_INSTRUCTIONS = {"bf16": {"avx512_bf16", "amx_bf16"}, "fp16": {"avx512_fp16", "amx_fp16"}}
_GET_CPU = "install the extra: pip install 'ridgeline[cpu]'"
_GET_GPU = "replace it by the extra for GPUs: pip uninstall onnxruntime; pip install 'ridgeline[gpu]'"


def auto_devices(bundle: Bundle, config: ServerConfig) -> tuple[Device, ...]:
    """Every GPU, when there are some that the asked variant and runtime can use here; else the CPU."""
    gpus = tuple(Device("cuda", index) for index in range(len(cuda_devices())))
    if config.runtime == "tensorrt":
        return gpus or (Device("cuda", 0),)
    if not gpus or config.runtime not in ("auto", "onnxruntime") or not _has_provider("onnxruntime", "cuda"):
        return (CPU,)
    variants = bundle.manifest.variants
    names = variants if config.variant == "auto" else {config.variant}
    return gpus if any(name in variants and _runs_on(variants[name], "cuda") for name in names) else (CPU,)


def choose_variant(bundle: Bundle, wanted: str, kind: str) -> tuple[Variant, str]:
    """A variant for a kind of device, and why it.

    Raises StartupError when the bundle has none, or not the wanted one.
    """
    if wanted != "auto":
        try:
            variant = bundle.variant(wanted)
        except BundleError as error:
            raise StartupError(f"{error}; choose one with --variant, or --variant auto") from None
        if not _runs_on(variant, kind):
            raise StartupError(f"variant '{wanted}' is for the CPU; on GPUs serve fp16 or fp32, or use --devices cpu")
        return variant, f"variant {wanted} was asked for"
    chosen = _fastest_on_cpu(bundle) if kind == "cpu" else _fastest_on_gpu(bundle)
    if chosen is None:
        have = ", ".join(sorted(bundle.manifest.variants)) or "none"
        raise StartupError(
            f"bundle {bundle.path} has no variant that 'auto' picks for {kind}; it has: {have}; "
            "name one with --variant, or export the model with --variants fp32"
        )
    return chosen


def choose_runtime(variant: Variant, wanted: str, kind: str) -> tuple[str, str]:
    """A runtime for a variant on a kind of device, and why it.

    Raises StartupError when none is installed, or the wanted one cannot run it here.
    """
    if wanted == "auto":
        for name in variant.runtimes:
            if name in _RUNTIMES_OF_KIND[kind] and is_usable(name, kind):
                return name, f"{name} is the fastest installed runtime for it"
        if kind == "cuda":
            _check_provider("onnxruntime", kind)
        raise StartupError(
            f"variant '{variant.name}' runs on {', '.join(variant.runtimes)}, none of which is installed; {_GET_CPU}"
        )
    if wanted not in RUNTIMES:
        raise StartupError(f"runtime '{wanted}' is unknown; allowed: auto, {', '.join(RUNTIMES)}")
    if _PACKAGES[wanted] not in variant.runtimes:
        raise StartupError(f"variant '{variant.name}' does not run on {wanted}; allowed: {', '.join(variant.runtimes)}")
    if wanted not in _RUNTIMES_OF_KIND[kind]:
        raise StartupError(f"runtime {wanted} does not run on {kind}; allowed: {', '.join(_RUNTIMES_OF_KIND[kind])}")
    if wanted == "openvino" and not is_usable(wanted, kind):
        raise StartupError(f"runtime openvino is not installed here, or this is no x86 machine; {_GET_CPU}")
    if wanted != "openvino":
        _check_provider(wanted, kind)
    return wanted, f"runtime {wanted} was asked for"


def precisions(variant: Variant, runtime: str, kind: str = "cpu") -> tuple[str, ...]:
    """Precisions that a runtime computes a variant in on this machine, the usual one first."""
    if runtime == "openvino" and variant.precision != "int8":
        return tuple(sorted(float_precisions(runtime), key=lambda name: name != variant.precision))
    if runtime == "onnxruntime" and kind == "cpu" and variant.precision == "fp16":
        return ("fp32",)  # it widens the weights, having no fp16 kernels for CPUs
    return (variant.precision,)


def float_precisions(runtime: str) -> tuple[str, ...]:
    """What floating point on this CPU can run in under a runtime: OpenVINO uses what the instruction set has."""
    if runtime != "openvino":
        return ("fp32",)
    return "fp32", *native_floats(cpu_flags())


def native_floats(flags: frozenset[str]) -> tuple[str, ...]:
    """Precisions besides fp32 that a CPU with these instruction sets computes in, bf16 first."""
    return tuple(name for name, needed in _INSTRUCTIONS.items() if needed & flags)


def is_usable(runtime: str, kind: str = "cpu") -> bool:
    """True when a runtime is installed here with what it needs for a kind of device."""
    if runtime not in _RUNTIMES_OF_KIND.get(kind, ()) or find_spec(_PACKAGES[runtime]) is None:
        return False
    return is_x86() if runtime == "openvino" else _has_provider(runtime, kind)


def _runs_on(variant: Variant, kind: str) -> bool:
    return kind == "cpu" or (variant.precision in ("fp32", "fp16") and "onnxruntime" in variant.runtimes)


def _fastest_on_cpu(bundle: Bundle) -> tuple[Variant, str] | None:
    variants = bundle.manifest.variants
    int8 = variants.get("int8")
    if int8 is not None and int8.quality.passed and has_fast_int8():
        return int8, f"int8 passed its gate ({_quality(int8)}) and the CPU multiplies int8 fast"
    if "fp32" not in variants:
        return None
    reason = "there is no int8 variant" if int8 is None else "the CPU has no fast int8 or int8 missed its gate"
    return variants["fp32"], f"fp32, because {reason}"


def _fastest_on_gpu(bundle: Bundle) -> tuple[Variant, str] | None:
    variants = bundle.manifest.variants
    fp16 = variants.get("fp16")
    if fp16 is not None and fp16.quality.passed:
        return fp16, f"fp16 passed its gate ({_quality(fp16)}) and GPUs multiply it fastest"
    if "fp32" not in variants:
        return None
    return variants["fp32"], "fp32, because there is no fp16 variant; export one with --variants fp32,fp16"


def _has_provider(runtime: str, kind: str) -> bool:
    """Without importing ONNX Runtime into the server for the CPU's provider, which every build has."""
    if find_spec("onnxruntime") is None:
        return False
    provider = needed_provider(runtime, kind)
    return provider == CPU_PROVIDER or provider in available_providers()


def _check_provider(runtime: str, kind: str) -> None:
    """Raise StartupError when the installed ONNX Runtime lacks what a runtime needs for a kind of device."""
    if find_spec("onnxruntime") is None:
        extra = "gpu" if kind == "cuda" else "cpu"
        raise StartupError(f"onnxruntime is not installed; install the extra: pip install 'ridgeline[{extra}]'")
    if not _has_provider(runtime, kind):
        provider = needed_provider(runtime, kind)
        raise StartupError(f"the installed onnxruntime has no {provider}, which {runtime} on {kind} needs; {_GET_GPU}")


def _quality(variant: Variant) -> str:
    quality = variant.quality
    return f"{quality.metric.replace('_', ' ')} {quality.value:.4f}, gate {quality.gate:g}"

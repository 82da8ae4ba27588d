"""The choice of a variant and a runtime for a kind of device, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec

from ridgeline_export.bundle import Bundle, BundleError, Variant
from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes.cores import cpu_flags, has_fast_int8, is_x86
from ridgeline_server.runtimes.devices import CPU, Device
from ridgeline_server.runtimes.gpus import cuda_devices
from ridgeline_server.runtimes.providers import CPU_PROVIDER, available_providers, needed_provider
from ridgeline_server.runtimes.triton_packages import new_enough, triton_problem

RUNTIMES = ("onnxruntime", "openvino", "tensorrt", "triton")
# The Python package behind each runtime; bundles name packages, since one graph serves all of a package's providers.
_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt": "onnxruntime", "triton": "triton"}
_RUNTIMES_OF_KIND = {"cpu": ("onnxruntime", "openvino", "triton"), "cuda": ("onnxruntime", "tensorrt", "triton")}
# Packed variants that `auto` picks, the fastest first: int8 and fp8 are for those who ask or tune for them.
_PACKED = ("packed-fp16", "packed-bf16", "packed-fp32")
# Instruction sets that compute in a precision, any of which is enough.
_INSTRUCTIONS = {"bf16": {"avx512_bf16", "amx_bf16"}, "fp16": {"avx512_fp16", "amx_fp16"}}
_GET_CPU = "install the extra: pip install 'ridgeline[cpu]'"
_GET_GPU = "replace it by the extra for GPUs: pip uninstall onnxruntime; pip install 'ridgeline[gpu]'"


def auto_devices(bundle: Bundle, config: ServerConfig) -> tuple[tuple[Device, ...], str]:
    """Every GPU, when there are some that the asked variant and runtime can use here; else the CPU.

    With packed batches the GPUs that are too old for them are left out, unless all are: the second is a clause that
    names those, or empty.
    """
    gpus = tuple(Device("cuda", index) for index in range(len(cuda_devices())))
    if config.runtime == "tensorrt":
        return gpus or (Device("cuda", 0),), ""
    if not gpus:
        return (CPU,), ""
    variants = bundle.manifest.variants
    asked = variants.get(config.variant)
    if config.runtime == "triton" or (asked is not None and is_packed(asked)):
        return new_enough(gpus)
    used = [variant for name, variant in variants.items() if config.variant in ("auto", name)]
    if not any(_runs_on_gpus_here(variant, config.runtime) for variant in used):
        return (CPU,), ""
    takes_packed = config.runtime == "auto" and any(
        _runs_on_gpus_here(each, "auto") for each in used if is_packed(each)
    )
    return new_enough(gpus) if takes_packed else (gpus, "")


def is_packed(variant: Variant) -> bool:
    """True for a graph of the packed dialect, which padded runtimes do not run."""
    return "triton" in variant.runtimes


def choose_variant(
    bundle: Bundle, wanted: str, kind: str, runtime: str = "auto", gpus: Collection[int] | None = None
) -> tuple[Variant, str]:
    """A variant for a kind of device and the wanted runtime, and why it.

    gpus: numbers of the GPUs that all are to run it, None = any
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
    if runtime == "triton":
        return _fastest_packed(bundle)
    chosen = _fastest_on_cpu(bundle) if kind == "cpu" else _fastest_on_gpu(bundle, runtime, gpus)
    if chosen is None:
        have = ", ".join(sorted(bundle.manifest.variants)) or "none"
        raise StartupError(
            f"bundle {bundle.path} has no variant that 'auto' picks for {kind}; it has: {have}; "
            "name one with --variant, or export the model with --variants fp32"
        )
    return chosen


def choose_runtime(variant: Variant, wanted: str, kind: str, gpus: Collection[int] | None = None) -> tuple[str, str]:
    """A runtime for a variant on a kind of device, and why it.

    gpus: numbers of the GPUs that all are to run it, None = any
    Raises StartupError when none is installed, or the wanted one cannot run it here.
    """
    if wanted == "auto":
        for name in variant.runtimes:
            if name in _RUNTIMES_OF_KIND[kind] and is_usable(name, kind, gpus):
                return name, _reference_ops(name, kind) or f"{name} is the fastest installed runtime for it"
        if is_packed(variant):
            _check_triton(kind, gpus)
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
    if wanted == "triton":
        _check_triton(kind, gpus)
    elif wanted != "openvino":
        _check_provider(wanted, kind)
    return wanted, _reference_ops(wanted, kind) or f"runtime {wanted} was asked for"


def precisions(variant: Variant, runtime: str, kind: str = "cpu") -> tuple[str, ...]:
    """Precisions that a runtime computes a variant in on this machine, the usual one first."""
    if runtime == "openvino" and variant.precision != "int8":
        return tuple(sorted(float_precisions(runtime), key=lambda name: name != variant.precision))
    if runtime == "onnxruntime" and kind == "cpu" and variant.precision == "fp16":
        return ("fp32",)  # it widens the weights, having no fp16 kernels for CPUs
    return (variant.precision,)


def float_precisions(runtime: str) -> tuple[str, ...]:
    """What floating point beside int8 and fp8 runs in under a runtime, the usual one first.

    OpenVINO uses what the CPU's instruction set has; packed graphs have fp16 in them.
    """
    if runtime == "triton":
        return ("fp16",)
    if runtime != "openvino":
        return ("fp32",)
    return "fp32", *native_floats(cpu_flags())


def native_floats(flags: frozenset[str]) -> tuple[str, ...]:
    """Precisions besides fp32 that a CPU with these instruction sets computes in, bf16 first."""
    return tuple(name for name, needed in _INSTRUCTIONS.items() if needed & flags)


def is_usable(runtime: str, kind: str = "cpu", gpus: Collection[int] | None = None) -> bool:
    """True when a runtime is installed here with what it needs for a kind of device.

    gpus: numbers of the GPUs that it is to run on, None = any
    """
    if runtime not in _RUNTIMES_OF_KIND.get(kind, ()) or find_spec(_PACKAGES[runtime]) is None:
        return False
    if runtime == "triton":
        return triton_problem(kind, gpus) is None
    return is_x86() if runtime == "openvino" else _has_provider(runtime, kind)


def _runs_on(variant: Variant, kind: str) -> bool:
    if kind == "cpu" or is_packed(variant):
        return True
    return variant.precision in ("fp32", "fp16") and "onnxruntime" in variant.runtimes


def _runs_on_gpus_here(variant: Variant, runtime: str) -> bool:
    """True when `auto` may put a variant on GPUs, with the wanted runtime."""
    if not _runs_on(variant, "cuda"):
        return False
    if is_packed(variant):
        return runtime == "auto" and variant.name in _PACKED and variant.quality.passed and is_usable("triton", "cuda")
    return runtime in ("auto", "onnxruntime") and _has_provider("onnxruntime", "cuda")


def _fastest_on_cpu(bundle: Bundle) -> tuple[Variant, str] | None:
    variants = bundle.manifest.variants
    int8 = variants.get("int8")
    if int8 is not None and int8.quality.passed and has_fast_int8():
        return int8, f"int8 passed its gate ({_quality(int8)}) and the CPU multiplies int8 fast"
    if "fp32" not in variants:
        return None
    reason = "there is no int8 variant" if int8 is None else "the CPU has no fast int8 or int8 missed its gate"
    return variants["fp32"], f"fp32, because {reason}"


def _fastest_on_gpu(bundle: Bundle, runtime: str, gpus: Collection[int] | None) -> tuple[Variant, str] | None:
    variants = bundle.manifest.variants
    packed = _passed_packed(bundle)
    problem = None
    if packed is not None and runtime == "auto":
        problem = triton_problem("cuda", gpus)
        if problem is None:
            return packed, f"{packed.name} passed its gate ({_quality(packed)}) and runs without padding"
    rather = "" if packed is None or problem is None else f"; {packed.name} would be faster, but {problem}"
    fp16 = variants.get("fp16")
    if fp16 is not None and fp16.quality.passed:
        return fp16, f"fp16 passed its gate ({_quality(fp16)}) and GPUs multiply it fastest{rather}"
    if "fp32" not in variants:
        return None
    return variants["fp32"], f"fp32, because there is no fp16 variant; export one with --variants fp32,fp16{rather}"


def _fastest_packed(bundle: Bundle) -> tuple[Variant, str]:
    packed = _passed_packed(bundle)
    if packed is None:
        have = ", ".join(sorted(bundle.manifest.variants)) or "none"
        raise StartupError(
            f"bundle {bundle.path} has no packed variant that 'auto' picks for triton; it has: {have}; "
            + ("name its packed one with --variant, or " if "packed-" in have else "")
            + "export the model with --variants fp32,packed-fp16"
        )
    return packed, f"{packed.name} passed its gate ({_quality(packed)})"


def _passed_packed(bundle: Bundle) -> Variant | None:
    found = (bundle.manifest.variants.get(name) for name in _PACKED)
    return next((each for each in found if each is not None and is_packed(each) and each.quality.passed), None)


def _check_triton(kind: str, gpus: Collection[int] | None) -> None:
    problem = triton_problem(kind, gpus)
    if problem is not None:
        raise StartupError(problem)


def _reference_ops(runtime: str, kind: str) -> str | None:
    """What to say of a runtime that has no kernels for a kind of device; None when it has."""
    if runtime == "triton" and kind == "cpu":
        return "triton has no kernels for CPUs: its reference ops, which are for tests, run it slowly"
    return None


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

"""Which plans are worth timing: a pure function of the bundle, the machine and the goal.

The product of all choices has hundreds of members. What is left out cannot win, or differs too little:
- Streams and batch size are not crossed: all cores with each size, then fewer streams with the larger ones, since a
  stream of more threads needs more tokens. For one text at a time the size does not matter.
- Floating point that the CPU multiplies several times slower than another is timed in one way, for comparison: fp32
  beside bf16, fp16 beside bf16 on matrix units.
- ONNX Runtime is timed in one way for each variant where OpenVINO can be used.
- An fp16 variant computes on a CPU what the fp32 variant does.
- Once a plan's answers have missed the floor, other plans of the same arithmetic are left out, while tuning runs.
- Where a GPU can run a variant the CPU's plans are left out. Packed variants are for GPUs alone: on CPUs they run by
  reference ops, which nobody serves with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest

from ridgeline_export.bundle import Bundle, Variant
from ridgeline_server.runtimes.choice import float_precisions, is_packed, native_floats, precisions
from ridgeline_server.runtimes.selection import GPU_CONCURRENCY, QUANTIZED
from ridgeline_server.tuning.candidate import Arithmetic, Candidate
from ridgeline_server.tuning.errors import TuneUsageError

_CPU_BUDGETS = (256, 512, 1024)
_GPU_BUDGETS = (16_384, 4096, 65_536)
_TOKENS_PER_CORE = 128


class Goal(StrEnum):
    """What the best plan is best at."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What candidates depend on besides the bundle.

    cores:     that a replica may use
    cpu_flags: instruction sets as Linux names them
    runtimes:  usable ones, each with the kind of device: ("openvino", "cpu"), …
    """

    cores: int
    cpu_flags: frozenset[str]
    runtimes: frozenset[tuple[str, str]]


def candidates(variants: Mapping[str, Variant], surroundings: Surroundings, goal: Goal) -> list[Candidate]:
    """Plans to time, each once, those most likely to win first; none when no runtime runs any of the variants."""
    series = [_on_gpu(variant, variants, surroundings) for variant in variants.values()]
    if not any(series):
        padded = [variant for variant in variants.values() if not is_packed(variant)]
        used = [v for v in padded if not (v.precision == "fp16" and "fp32" in variants)]
        series = [_on_openvino(variant, surroundings, goal) for variant in used]
        series += [_on_onnx_runtime(variant, surroundings, goal) for variant in used]
    return _alternate(each for group in series for each in group)


def choose_variants(bundle: Bundle, names: tuple[str, ...] | None) -> dict[str, Variant]:
    """The bundle's variants of these names, all of them when None.

    Raises TuneUsageError for a name that the bundle does not have.
    """
    variants = bundle.manifest.variants
    unknown = [name for name in names or () if name not in variants]
    if unknown:
        have = ", ".join(sorted(variants)) or "none"
        raise TuneUsageError(f"--variants names '{unknown[0]}', which {bundle.path} does not have; it has: {have}")
    return {name: variants[name] for name in names or variants}


def _on_openvino(variant: Variant, surroundings: Surroundings, goal: Goal) -> list[list[Candidate]]:
    if not _runs(variant, "openvino", surroundings):
        return []
    fast = _fast_floats(surroundings.cpu_flags)
    if variant.precision == "int8":
        # bf16 for what int8 left over; fp16 there gains nothing over it
        arithmetics = [("int8", rest) for rest in ("fp32", *fast[:1])]
    else:
        arithmetics = [(name, name) for name in fast or (variant.precision,)]
    choices = _stream_choices(surroundings.cores, goal)
    series = [_series(variant, "openvino", *each, surroundings.cores, choices) for each in arithmetics]
    if fast and variant.precision != "int8":
        series.append(_series(variant, "openvino", "fp32", "fp32", surroundings.cores, choices[:1]))
    return series


def _on_onnx_runtime(variant: Variant, surroundings: Surroundings, goal: Goal) -> list[list[Candidate]]:
    if not _runs(variant, "onnxruntime", surroundings):
        return []
    cores = surroundings.cores
    choices = [(1, max(_CPU_BUDGETS[0], _TOKENS_PER_CORE * cores))]
    if ("openvino", "cpu") not in surroundings.runtimes and goal is Goal.THROUGHPUT:
        choices += [(1, budget) for budget in _CPU_BUDGETS] + [(cores, budget) for budget in _CPU_BUDGETS[:2]]
    precision = precisions(variant, "onnxruntime")[0]
    rest = "fp32" if precision == "int8" else precision
    return [_series(variant, "onnxruntime", precision, rest, cores, choices)]


def _on_gpu(variant: Variant, variants: Mapping[str, Variant], surroundings: Surroundings) -> list[list[Candidate]]:
    if is_packed(variant):
        return _on_triton(variant, surroundings)
    has_faster = variant.precision == "fp32" and any(other.precision == "fp16" for other in variants.values())
    if variant.precision not in ("fp32", "fp16") or "onnxruntime" not in variant.runtimes:
        return []
    choices = [(GPU_CONCURRENCY, budget) for budget in _GPU_BUDGETS[: 1 if has_faster else None]]
    precision = variant.precision
    return [
        _series(variant, runtime, precision, precision, surroundings.cores, choices, "cuda")
        for runtime in ("tensorrt", "onnxruntime")
        if (runtime, "cuda") in surroundings.runtimes
    ]


def _on_triton(variant: Variant, surroundings: Surroundings) -> list[list[Candidate]]:
    if ("triton", "cuda") not in surroundings.runtimes:
        return []
    choices = [(GPU_CONCURRENCY, budget) for budget in _GPU_BUDGETS]
    precision = variant.precision
    rest = float_precisions("triton")[0] if precision in QUANTIZED else precision
    return [_series(variant, "triton", precision, rest, surroundings.cores, choices, "cuda")]


def _fast_floats(flags: frozenset[str]) -> tuple[str, ...]:
    """Precisions that the CPU multiplies faster than fp32, the fastest first."""
    has_slow_fp16 = "amx_bf16" in flags and "amx_fp16" not in flags  # on vector units, beside bf16 on matrix units
    return tuple(name for name in native_floats(flags) if not (name == "fp16" and has_slow_fp16))


def _stream_choices(cores: int, goal: Goal) -> list[tuple[int, int]]:
    """Pairs of streams and batch tokens, the likeliest first."""
    small, middle, large = _CPU_BUDGETS
    half = max(1, cores // 2)
    if goal is Goal.LATENCY:
        return [(1, small), (half, small), (cores, small)]
    return [(cores, small), (cores, middle), (cores, large), (half, middle), (1, large)]


def _runs(variant: Variant, runtime: str, surroundings: Surroundings) -> bool:
    return runtime in variant.runtimes and (runtime, "cpu") in surroundings.runtimes


def _series(
    variant: Variant,
    runtime: str,
    precision: str,
    float_precision: str,
    threads: int,
    choices: Iterable[tuple[int, int]],
    kind: str = "cpu",
) -> list[Candidate]:
    arithmetic = Arithmetic(variant.name, runtime, precision, float_precision)
    return [Candidate(arithmetic, kind, streams, threads, budget) for streams, budget in dict.fromkeys(choices)]


def _alternate(series: Iterable[list[Candidate]]) -> list[Candidate]:
    """The first of every series, longer series first, then the second of every series, …: no arithmetic comes late."""
    rounds = zip_longest(*sorted(series, key=len, reverse=True))
    return list(dict.fromkeys(each for round_ in rounds for each in round_ if each is not None))

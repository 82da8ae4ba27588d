"""Where a run's time goes, by the family of kernels, from PyTorch's profiler."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

FAMILIES = {
    "attention": r"attention|flash|fmha|softmax|mem_eff|bmm",
    "linear": r"linear|gemm|nvjet|cutlass|xmma|cublas|addmm|::mm\b|_int_mm|_scaled_mm|matmul|splitk",
    "norm": r"norm_kernel|layer_norm|layernorm|add_norm|rms",
    "activation": r"gelu|activation|tanh|silu|finish_kernel",
    "quantize": r"quantize",
    "embedding": r"embedding|gather|index_select",
    "rotary": r"rotary|cos|sin\b",
    "pooling": r"pool|segment|mean",
    "copies": r"memcpy|memset|copy|fill|zero|\bcat\b|elementwise|triton_poi",
}
"""Patterns of kernels' names, looked for in this order, "quantize" first."""

IDLE = "idle"
OTHER = "other"


@dataclass(frozen=True)
class Account:
    """seconds: of one run, by family, with what the device stood idle for; kernels: the longest, by name."""

    seconds: dict[str, float]
    kernels: dict[str, float]
    total_s: float


def family_of(kernel: str) -> str:
    """The family of a kernel, or of an op on the CPU, by its name."""
    name = kernel.lower()
    if re.search(FAMILIES["quantize"], name):
        return "quantize"
    return next((family for family, pattern in FAMILIES.items() if re.search(pattern, name)), OTHER)


def account(call: Callable[[], Any], device: torch.device, runs: int = 5, longest: int = 12) -> Account:
    """Profile `runs` calls, one after the other, after a warm one."""
    is_cuda = device.type == "cuda"
    call()
    seconds = _timed(call, device, runs)
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA] if is_cuda else [activity.CPU]) as profile:
        _timed(call, device, runs)
    events = ((event.key, _self_s(event, is_cuda) / runs) for event in profile.key_averages())
    return settle(events, seconds / runs, longest)


def settle(events: Iterable[tuple[str, float]], total_s: float, longest: int) -> Account:
    """Put the kernels' seconds of a run into families; what is left of `total_s` the device stood idle."""
    kernels = dict(sorted(((name, each) for name, each in events if each > 0), key=lambda entry: -entry[1]))
    families: dict[str, float] = {}
    for name, each in kernels.items():
        families[family_of(name)] = families.get(family_of(name), 0.0) + each
    # A profiler slows short runs down: kernels may then add up to more than the run took without it.
    total_s = max(total_s, sum(families.values()))
    families[IDLE] = total_s - sum(families.values())
    ordered = dict(sorted(families.items(), key=lambda entry: -entry[1]))
    return Account(ordered, dict(list(kernels.items())[:longest]), total_s)


def _timed(call: Callable[[], Any], device: torch.device, runs: int) -> float:
    begin = time.perf_counter()
    for _ in range(runs):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def _self_s(event: Any, is_cuda: bool) -> float:
    return float(event.self_device_time_total if is_cuda else event.self_cpu_time_total) / 1e6

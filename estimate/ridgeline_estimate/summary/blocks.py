"""Memory and latency of an answer, line by line: a label and what there is to say."""

from __future__ import annotations

from collections.abc import Iterator

from ridgeline_estimate.roofline import Prediction
from ridgeline_estimate.summary import units
from ridgeline_estimate.summary.answer import Answer, intensity
from ridgeline_estimate.workload import Mode

_BINDS = {
    "compute": "arithmetic binds most of it",
    "memory": "memory bandwidth binds most of it",
    "overhead": "launches and calls take most of it",
}


def memory_lines(answer: Answer) -> Iterator[tuple[str, str]]:
    """Weights, activations, KV cache and what training adds."""
    memory = answer.memory
    yield "weights", f"{units.memory(memory.weights)}, {units.count(answer.parameters)} parameters"
    yield "activations, peak", ", ".join(filter(None, (units.memory(memory.activations), memory.note)))
    if memory.kv_cache is None:
        yield "KV cache", "unknown: it takes the model's config, beside the graph"
    elif memory.kv_cache:
        yield "KV cache", units.memory(memory.kv_cache)
    if answer.workload.mode is Mode.TRAIN:
        yield "gradients", units.memory(memory.gradients)
        copies = f" and {units.memory(memory.master_weights)} of fp32 weights" if memory.master_weights else ""
        yield "optimizer", f"{units.memory(memory.optimizer_state)}{copies}, {answer.question.optimizer_in_use}"
    total = units.memory(memory.total)
    device = answer.prediction.device if answer.prediction else None
    if device is not None and device.memory_bytes:
        fits = "fits" if memory.total <= device.memory_bytes else "does not fit"
        total += f", {fits} into the {units.memory(device.memory_bytes)} of {device.name}"
    yield "together", total


def latency_lines(answer: Answer) -> Iterator[tuple[str, str]]:
    """Latency with what binds it, rates, and cost."""
    prediction = answer.prediction
    if prediction is None:
        yield "predicted", f"unknown: {answer.latency_gap}"
        if answer.question.price is not None:
            yield "cost", "unknown without a latency"
        return
    yield "predicted", f"{units.seconds(prediction.seconds)} on {prediction.device.name}; {_BINDS[prediction.bound]}"
    yield "of that", _split(prediction)
    assert answer.sequences_per_s is not None and answer.tokens_per_s is not None and answer.mfu is not None
    yield (
        "throughput",
        (f"{units.rate(answer.sequences_per_s)} sequences/s, {units.rate(answer.tokens_per_s)} tokens/s"),
    )
    peak = prediction.device.peak(answer.dtype)
    yield "share of peak", f"{units.share(answer.mfu)} of {units.flops_per_s(peak.flops_per_s)} in {answer.dtype}"
    yield "intensity", _intensity(answer, peak.flops_per_s)
    cost = answer.dollars_per_million_tokens
    if cost is not None:
        count = answer.question.devices
        per_hour = units.dollars((answer.question.price or 0.0) * count)
        yield (
            "cost",
            f"{units.dollars(cost)} per million tokens at {per_hour} an hour"
            + (f" for {count} devices" if count > 1 else ""),
        )


def _split(prediction: Prediction) -> str:
    texts = (
        (prediction.compute_s, "bound by compute"),
        (prediction.memory_s, "bound by memory"),
        (prediction.overhead_s, "of overhead"),
    )
    return ", ".join(f"{units.seconds(value)} {name}" for value, name in texts if value)


def _intensity(answer: Answer, flops_per_s: float) -> str:
    assert answer.prediction is not None
    text = f"{units.rate(intensity(answer.sums))} FLOP/byte"
    bandwidth = answer.prediction.device.bandwidth
    if bandwidth is None:
        return text
    return f"{text}; the device's ridge point is {units.rate(flops_per_s / bandwidth.bytes_per_s)}"

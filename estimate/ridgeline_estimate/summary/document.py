"""An answer for programs: JSON with plain numbers, in FLOPs, bytes, seconds and dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ridgeline_estimate.hardware import Bandwidth, Device, Peak
from ridgeline_estimate.op import Sums
from ridgeline_estimate.summary.answer import Answer, intensity
from ridgeline_estimate.summary.comparison import Compared
from ridgeline_estimate.summary.folding import Row, layer_rows, part_sums
from ridgeline_estimate.summary.question import Question
from ridgeline_estimate.summary.sweep import Sweep

FORMAT = 1


def estimate(answer: Answer) -> dict[str, Any]:
    """Everything about one estimate."""
    rows = layer_rows(answer.ops, answer.seconds_by_op, by_part=answer.subject.graph is not None)
    return {
        "format": FORMAT,
        **figures(answer),
        "parts": {part: _sums(sums) for part, sums in part_sums(answer.ops).items()},
        "layers": [_row(row) for row in rows],
        "device": _device(answer.prediction.device) if answer.prediction else None,
        "efficiency": asdict(answer.prediction.efficiency) if answer.prediction else None,
        "assumptions": list(answer.assumptions),
    }


def figures(answer: Answer) -> dict[str, Any]:
    """The figures that are compared and swept."""
    sums = answer.sums
    return {
        "model": _model(answer),
        "workload": asdict(answer.workload) | {"mode": answer.workload.mode.value},
        "precision": answer.precision,
        "data_parallel": answer.question.data_parallel,
        "tensor_parallel": answer.question.tensor_parallel,
        "optimizer": answer.question.optimizer_in_use,
        "parameters": answer.parameters,
        "flops": {
            "total": sums.flops,
            "matmul": sums.matmul_flops,
            "elementwise": sums.other_flops,
            "matmul_hidden_by_masks": sums.skipped_flops,
        },
        "bytes_moved": {"total": sums.moved_bytes, "weights": sums.weight_bytes},
        "flops_per_byte": intensity(sums),
        "memory_bytes": answer.memory.as_json(),
        "latency_s": _latency(answer),
        "latency_gap": answer.latency_gap,
        "throughput": None
        if answer.prediction is None
        else {"sequences_per_s": answer.sequences_per_s, "tokens_per_s": answer.tokens_per_s},
        "share_of_peak": answer.mfu,
        "price_per_hour": answer.question.price,
        "cost_per_million_tokens": answer.dollars_per_million_tokens,
    }


def comparison(compared: Sequence[Compared]) -> dict[str, Any]:
    """Estimates side by side, in the order of the table."""
    return {"format": FORMAT, "compared": [{"label": each.label, **estimate(each.answer)} for each in compared]}


def sweeps(question: Question, found: Sequence[Sweep]) -> dict[str, Any]:
    """The figures at each value of each factor."""
    return {
        "format": FORMAT,
        "question": asdict(question),
        "sweeps": [
            {
                "factor": sweep.factor,
                "points": [
                    {"value": value, **figures(answer)}
                    for value, answer in zip(sweep.values, sweep.answers, strict=True)
                ],
            }
            for sweep in found
        ],
    }


def _model(answer: Answer) -> dict[str, Any]:
    found = answer.architecture
    return {
        "name": answer.subject.name,
        "counted_from": answer.subject.source,
        "variant": answer.subject.variant,
        "model_type": found.model_type if found else None,
        "class": found.name if found else None,
        "task": found.task if found else answer.subject.task,
    }


def _latency(answer: Answer) -> dict[str, Any] | None:
    prediction = answer.prediction
    if prediction is None:
        return None
    return {
        "predicted": prediction.seconds,
        "compute_bound": prediction.compute_s,
        "memory_bound": prediction.memory_s,
        "overhead": prediction.overhead_s,
        "bound": prediction.bound,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.title,
        "level": row.indent,
        "layers": list(row.layers),
        "output": list(row.output),
        **_sums(row.sums),
        "seconds": row.seconds,
    }


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "parameters": sums.parameters,
        "flops": sums.flops,
        "matmul_flops": sums.matmul_flops,
        "bytes_moved": sums.moved_bytes,
    }


def _device(device: Device) -> dict[str, Any]:
    return {
        "name": device.name,
        "kind": device.kind,
        "runtime": device.runtime,
        "memory_bytes": device.memory_bytes,
        "peaks": {dtype: _peak(peak) for dtype, peak in device.peaks.items()},
        "bandwidth": _bandwidth(device.bandwidth) if device.bandwidth else None,
    }


def _peak(peak: Peak) -> dict[str, Any]:
    return {"flops_per_s": peak.flops_per_s, "source": peak.source, "measured_at": peak.measured_at}


def _bandwidth(bandwidth: Bandwidth) -> dict[str, Any]:
    return {
        "bytes_per_s": bandwidth.bytes_per_s,
        "source": bandwidth.source,
        "measured_at": bandwidth.measured_at,
    }

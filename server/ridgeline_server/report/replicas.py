"""Queues and replicas at this moment, as `/report` lists them."""

from __future__ import annotations

from ridgeline_server.request import ModelInfo, ReplicaInfo, Roofline


def describe_queue(model: ModelInfo) -> dict[str, object]:
    """What waits for one model."""
    return {"sequences": model.queued_sequences, "tokens": model.queued_tokens}


def describe_replica(model: ModelInfo, replica: ReplicaInfo) -> dict[str, object]:
    """One replica: its place, its state, and what its batches are predicted from."""
    return {
        "model": model.name,
        "variant": model.variant,
        "runtime": model.runtime,
        "replica": replica.index,
        "state": replica.state,
        "pid": replica.pid,
        "in_flight": replica.in_flight,
        "restarts": replica.restarts,
        "device": replica.device,
        "threads": replica.threads,
        "concurrency": replica.concurrency,
        "precision": replica.precision,
        "peak_flops_per_s": replica.peak_flops_per_s,
        "roofline": None if replica.roofline is None else _describe_roofline(replica.roofline),
    }


def _describe_roofline(roofline: Roofline) -> dict[str, object]:
    return {
        "is_complete": roofline.is_complete,
        "flops_per_s": dict(roofline.flops_per_s),
        "bytes_per_s": roofline.bytes_per_s,
        "efficiency": dict(roofline.efficiency),
        "source": roofline.source,
        "shapes": [
            {
                "shape": list(prediction.shape),
                "predicted_s": prediction.seconds,
                "bound": prediction.bound,
                "executed_flops": prediction.flops,
            }
            for prediction in roofline.shapes
        ],
    }

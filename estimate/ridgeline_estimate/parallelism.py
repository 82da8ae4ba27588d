"""What one device holds when several share the work.

Tensor parallelism follows Megatron-LM (Shoeybi et al., arXiv 1909.08053): each device has its share of the heads, of
the feed-forward's inner width and of the vocabulary; norms, positions, poolers and routers are on all of them.
Data parallelism divides the batch; ZeRO (Rajbhandari et al., arXiv 1910.02054) divides what each replica would keep.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ridgeline_estimate.architecture import Architecture, Attention, FeedForward, Layer, Stack
from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.workload import Workload

ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Parallelism:
    """How many devices share the work.

    data:   replicas, each with its share of the batch
    tensor: devices that each layer of a replica is divided among
    zero:   ZeRO's stage: from 1 on optimizer states are divided among the replicas, from 2 on gradients, with 3 weights
    Raises EstimateError when a number is impossible.
    """

    data: int = 1
    tensor: int = 1
    zero: int = 0

    def __post_init__(self) -> None:
        for name, value in (("data_parallel", self.data), ("tensor_parallel", self.tensor)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise EstimateError(f"{name} is {value!r}; it should be a whole number from 1 up")
        if isinstance(self.zero, bool) or self.zero not in ZERO_STAGES:
            raise EstimateError(f"zero_stage is {self.zero!r}; it should be 0 (off), 1, 2 or 3")


def shard_workload(workload: Workload, parallelism: Parallelism) -> Workload:
    """The batch of one replica. Raises EstimateError when it cannot be divided evenly."""
    if workload.lengths is not None and parallelism.data > 1:
        raise EstimateError(
            f"sequences of different lengths cannot be divided evenly among {parallelism.data} devices; give batch and "
            "seq, or one device"
        )
    if workload.batch % parallelism.data:
        raise EstimateError(
            f"a batch of {workload.batch} cannot be divided evenly among {parallelism.data} devices; "
            f"choose a batch that is a multiple of {parallelism.data}"
        )
    return replace(workload, batch=workload.batch // parallelism.data)


def shard_architecture(architecture: Architecture, devices: int) -> Architecture:
    """What one of so many devices computes under tensor parallelism.

    Raises EstimateError when heads, key-value heads or inner widths cannot be divided.
    """
    if devices == 1:
        return architecture
    head = architecture.head
    is_over_vocabulary = head.outputs == architecture.vocab
    encoder, decoder = (
        None if stack is None else _shard_stack(stack, devices)
        for stack in (architecture.encoder, architecture.decoder)
    )
    return replace(
        architecture,
        vocab=_rounded_up(architecture.vocab, devices),
        encoder=encoder,
        decoder=decoder,
        head=replace(head, outputs=_rounded_up(head.outputs, devices)) if is_over_vocabulary else head,
    )


def _shard_stack(stack: Stack, devices: int) -> Stack:
    return replace(stack, layers=tuple(_shard_layer(layer, devices) for layer in stack.layers))


def _shard_layer(layer: Layer, devices: int) -> Layer:
    return replace(
        layer,
        attention=None if layer.attention is None else _shard_attention(layer.attention, devices),
        cross=None if layer.cross is None else _shard_attention(layer.cross, devices),
        feed_forward=None if layer.feed_forward is None else _shard_feed_forward(layer.feed_forward, devices),
    )


def _shard_attention(part: Attention, devices: int) -> Attention:
    if part.heads % devices:
        raise EstimateError(
            f"{part.heads} attention heads cannot be divided evenly among {devices} devices; "
            f"choose a tensor_parallel that divides {part.heads}"
        )
    if part.kv_heads % devices and devices % part.kv_heads:
        raise EstimateError(
            f"{part.kv_heads} key-value heads can be neither divided evenly among {devices} devices nor copied evenly "
            f"to them; choose a tensor_parallel that divides {part.kv_heads} or is a multiple of it"
        )
    return replace(
        part,
        heads=part.heads // devices,
        kv_heads=max(1, part.kv_heads // devices),
        sinks=part.sinks // devices,
        position_bias_parameters=part.position_bias_parameters // devices,
        qk_norm_parameters=_norms_of(part, devices),
    )


def _norms_of(part: Attention, devices: int) -> int:
    """Norms over single heads are on every device, those over all heads are divided (OLMo 2)."""
    is_per_head = part.qk_norm_parameters <= 4 * part.head_dim
    return part.qk_norm_parameters if is_per_head else part.qk_norm_parameters // devices


def _shard_feed_forward(part: FeedForward, devices: int) -> FeedForward:
    for width in (part.width, part.shared_width):
        if width % devices:
            raise EstimateError(
                f"a feed-forward of width {width} cannot be divided evenly among {devices} devices; "
                f"choose a tensor_parallel that divides {width}"
            )
    return replace(part, width=part.width // devices, shared_width=part.shared_width // devices)


def _rounded_up(count: int, devices: int) -> int:
    """Rows of a vocabulary are padded so that all devices have as many."""
    return -(-count // devices)

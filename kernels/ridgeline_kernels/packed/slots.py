"""From host memory to host memory: one batch's copies go on while another batch runs.

Two slots keep a GPU busy: while one's graph runs, the other's batch is packed and copied in and its last answers are
copied out. Every slot has a stream and pinned buffers of its own; runs take turns by `Turns`, copies need not.

    host: pack ─► copy in ─► wait for the turn ─► replay ─► outputs aside ─► copy out ─► host waits
                  └──────── on the slot's stream, all launched at once ────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from math import prod

import numpy
import torch

from ridgeline_kernels.packed.buckets import Bucket
from ridgeline_kernels.packed.cuda_graphs import GraphedModel
from ridgeline_kernels.packed.static_buffers import sizes

Arrays = dict[str, numpy.ndarray]


class Slot:
    """Runs batches of a graphed model one after the other, each from one thread at a time."""

    def __init__(self, graphed: GraphedModel, *, is_spinning: bool = False):
        """is_spinning: wait for the device by looking without pause, some 20 µs faster and a processor core dearer"""
        self._graphed = graphed
        self._device = graphed.device
        is_cuda = self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if is_cuda else None
        self._done = torch.cuda.Event(blocking=not is_spinning) if is_cuda else None
        self._buffers: dict[tuple[str, str], torch.Tensor] = {}

    def run(self, feed: Mapping[str, numpy.ndarray]) -> Arrays:
        """The outputs of a batch, in buffers of the slot's own that its next run writes again.

        feed: as for `GraphedModel.run`, as int32 or int64 arrays

        Raises ArgumentError, and what the model's run raises.
        """
        tensors = {name: torch.from_numpy(numpy.ascontiguousarray(array)) for name, array in feed.items()}
        tokens, sequences = sizes(tensors)
        bucket = self._graphed.bucket_of(tokens, sequences)
        with torch.inference_mode(), self._streaming():
            try:
                packed = self._copied_in(bucket or Bucket(tokens, sequences), tensors)
                outputs = self._copied_out(self._launched(bucket, packed, tokens, sequences))
            finally:
                # After an error, too: what was launched still uses the buffers.
                self._wait()
        return {name: output.numpy() for name, output in outputs.items()}

    def _copied_in(self, room: Bucket, feed: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The batch, packed as the inputs of a bucket, on the device."""
        inputs = self._graphed.static_inputs
        size = inputs.size(room)
        host = self._buffer("host", "inputs", size, torch.int32)
        inputs.fill(room, feed, host)
        if self._stream is None:
            return host
        return self._buffer("device", "inputs", size, torch.int32).copy_(host, non_blocking=True)

    def _launched(
        self, bucket: Bucket | None, packed: torch.Tensor, tokens: int, sequences: int
    ) -> dict[str, torch.Tensor]:
        """The outputs on the device, as soon as it gets there."""
        if bucket is None:
            return self._graphed.run(self._graphed.static_inputs.views(Bucket(tokens, sequences), packed))
        outputs = {}
        for name, form in self._graphed.output_forms.items():
            shape = form.shape(tokens, sequences)
            outputs[name] = self._buffer("device", name, prod(shape), form.dtype).view(shape)
        self._graphed.replay(bucket, packed, outputs)
        return outputs

    def _copied_out(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs in host memory, once the slot's work is waited for."""
        copies = {}
        for name, output in outputs.items():
            host = self._buffer("host", name, output.numel(), output.dtype).view(output.shape)
            copies[name] = host.copy_(output, non_blocking=True)
        return copies

    def _buffer(self, where: str, name: str, size: int, dtype: torch.dtype) -> torch.Tensor:
        """The first `size` numbers of a buffer that grows as batches do; pinned if on the host."""
        buffer = self._buffers.get((where, name))
        if buffer is None or buffer.numel() < size:
            if where == "device":
                buffer = torch.empty(size, dtype=dtype, device=self._device)
            else:
                buffer = torch.empty(size, dtype=dtype, pin_memory=self._stream is not None)
            self._buffers[where, name] = buffer
        return buffer[:size]

    def _streaming(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _wait(self) -> None:
        if self._done is not None and self._stream is not None:
            self._done.record(self._stream)
            self._done.synchronize()

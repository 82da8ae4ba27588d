"""A packed model with a CUDA graph for each bucket: launched as one, where its kernels one by one would keep the host.

warmup()   the largest bucket that the budget allows first, so that its memory serves all others; then from the
           smallest up, since small batches gain most
run(feed)  the batch is copied into the inputs' buffer, padded to its bucket, the graph replayed, and the batch's
           rows of the outputs are copied out; without a fitting bucket the model runs as it is, which is logged once
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Protocol

import torch

from ridgeline_kernels.packed.buckets import MEAN_LENGTHS, Bucket, BucketTable
from ridgeline_kernels.packed.capture import Capturer, CudaCapturer, Work, used_bytes
from ridgeline_kernels.packed.static_buffers import (
    ID_BYTES,
    Feed,
    OutputForm,
    StaticInputs,
    StaticOutputs,
    as_models_take_it,
    one_token_each,
    probe,
    sizes,
)
from ridgeline_kernels.packed.turns import Turns
from ridgeline_kernels.packed.warmup import WarmupReport

log = logging.getLogger(__name__)

Outputs = dict[str, torch.Tensor]

_TOO_LARGE = "their memory would exceed the budget"
_SPENT = "the budget is spent"
_UNKNOWN = "after a failed capture, the memory that graphs take cannot be told"
# For each class of attention a number of tokens that is odd, as no bucket's is.
_ODD_SIZES = tuple(Bucket(3 * length | 1, 3) for length in MEAN_LENGTHS)


class Model(Protocol):
    """What of `PackedModel` is needed."""

    @property
    def inputs(self) -> Sequence[str]:
        """Names of the inputs."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    def run(self, feed: Feed) -> Outputs:
        """The outputs of a batch."""

    def planned_bytes(self, tokens: int, sequences: int) -> int:
        """The most memory that a run's activations take."""


class GraphedModel:
    """Runs a packed model by CUDA graphs.

    Runs from any thread and on any stream are in order: their graphs share memory, so the device does one at a time,
    while threads wait only for each other's launches. `Slot` overlaps the copies of one batch with another's run.
    """

    def __init__(self, model: Model, buckets: Iterable[Bucket], budget_bytes: int, *, capturer: Capturer | None = None):
        """budget_bytes: device memory that graphs may take, with their inputs and outputs, beside the weights
        capturer: how to capture; CUDA graphs on a CUDA device, nothing elsewhere: then every run is the model's own
        """
        self.model = model
        self.device = torch.device(model.device)
        self.budget_bytes = budget_bytes
        self._wanted = tuple(sorted(set(buckets)))
        self._capturer = capturer
        self._turns = Turns(self.device)
        self._graphs: dict[Bucket, Work] = {}
        self._table = BucketTable(())
        self._inputs = StaticInputs(model.inputs, (), self.device)
        self._outputs = StaticOutputs({}, (), self.device)
        self._has_told = False

    @property
    def captured(self) -> tuple[Bucket, ...]:
        """The buckets that have a graph."""
        return self._table.buckets

    @property
    def static_inputs(self) -> StaticInputs:
        """Where the graphs read; for those who hold a batch packed as it is there."""
        return self._inputs

    @property
    def output_forms(self) -> Mapping[str, OutputForm]:
        """Shapes and dtypes of the outputs that graphs give; empty before the warm-up."""
        return self._outputs.forms

    def bucket_of(self, tokens: int, sequences: int) -> Bucket | None:
        """The bucket that a batch runs in; None if it runs without a graph."""
        return self._table.choose(tokens, sequences)

    def warmup(self) -> WarmupReport:
        """Run and capture the buckets until the budget is spent; what is captured serves from then on.

        A bucket that cannot be captured is named in the report, with the reason, and runs without a graph. It is run
        here all the same, as are batches of odd sizes, so that no kernel is left to be compiled later. To be called
        once, before runs.

        Raises what a run of the model raises that is no matter of memory.
        """
        begin = time.perf_counter()
        eager: dict[Bucket, str] = {}
        with torch.inference_mode(), _on(self.device):
            if self._capturer is None and self.device.type == "cuda":
                self._capturer = CudaCapturer(self.device)
            if self._capturer is None:
                reason = f"{self.device.type} has no CUDA graphs"
                return WarmupReport((), dict.fromkeys(self._wanted, reason), budget_bytes=self.budget_bytes)
            forms = probe(self.model.run, self.model.inputs, self.device)
            fitting = self._predicted_to_fit(forms, eager)
            self._inputs = StaticInputs(self.model.inputs, fitting, self.device)
            self._outputs = StaticOutputs(forms, fitting, self.device)
            self._capture_all(fitting, self._capturer, eager)
            refused = [bucket for bucket, reason in eager.items() if reason in (_TOO_LARGE, _SPENT, _UNKNOWN)]
            for room in (*_ODD_SIZES, *refused):
                self._warm(room, self._capturer)
            used = used_bytes(self._capturer) or 0
        self._table = BucketTable(self._graphs)
        buffers = self._inputs.size_bytes + self._outputs.size_bytes
        seconds = time.perf_counter() - begin
        return WarmupReport(self.captured, eager, seconds, used, buffers, self.budget_bytes)

    def run(self, feed: Feed) -> Outputs:
        """The outputs of a batch, on the current stream: tensors of their own, which later runs leave alone.

        feed: input_ids [1, tokens], cu_seqlens [sequences + 1] and, where the model has them, token_type_ids (zeros
              without) and position_ids (counted from 0 in each sequence without), int32 or int64

        Raises ArgumentError, and what the model's run raises.
        """
        tokens, sequences = sizes(feed)
        bucket = self.bucket_of(tokens, sequences)
        with torch.inference_mode(), _on(self.device), self._turns.turn():
            if bucket is None:
                self._tell(tokens, sequences)
                return self.model.run(as_models_take_it(feed, self.device))
            self._inputs.fill(bucket, feed)
            self._graphs[bucket]()
            return {name: rows.clone() for name, rows in self._rows(bucket, tokens, sequences).items()}

    def replay(self, bucket: Bucket, packed: torch.Tensor, outputs: Mapping[str, torch.Tensor]) -> None:
        """Run a batch that lies packed on the device, on the current stream.

        packed:  int32, the inputs of `bucket`, one of `captured`, as `static_inputs` lays them out, padding and all
        outputs: where to copy the outputs to, each of the shape for the batch's tokens and sequences
        """
        with torch.inference_mode(), _on(self.device), self._turns.turn():
            self._inputs.flat[: packed.numel()].copy_(packed)
            self._graphs[bucket]()
            views = self._outputs.views(bucket.tokens, bucket.sequences)
            for name, output in outputs.items():
                rows = views[name]
                output.copy_(rows[:, : output.shape[1]] if self._outputs.forms[name].by_token else rows[: len(output)])

    def _predicted_to_fit(self, forms: Mapping[str, OutputForm], eager: dict[Bucket, str]) -> list[Bucket]:
        """The buckets that the budget has room for by the model's plan; why the others have no graph into `eager`."""
        fitting: list[Bucket] = []
        for bucket in reversed(self._wanted):
            # A plan is a run without memory, and takes as long: a bucket within one that fits needs none.
            if any(larger.fits(bucket.tokens, bucket.sequences) for larger in fitting):
                fitting.append(bucket)
                continue
            inputs = StaticInputs(self.model.inputs, (), self.device).size(bucket) * ID_BYTES
            outputs = sum(form.size_bytes(bucket.tokens, bucket.sequences) for form in forms.values())
            needed = inputs + outputs + self.model.planned_bytes(bucket.tokens, bucket.sequences)
            if needed <= self.budget_bytes:
                fitting.append(bucket)
            else:
                eager[bucket] = _TOO_LARGE
        return fitting[::-1]

    def _capture_all(self, fitting: Sequence[Bucket], capturer: Capturer, eager: dict[Bucket, str]) -> None:
        waiting = list(fitting)
        while waiting and not self._graphs:
            largest = waiting.pop()
            reason = self._capture(largest, capturer)
            if not reason and (used_bytes(capturer) or 0) > self.budget_bytes:
                reason = "their memory exceeded the budget"
                self._graphs.clear()
            if reason:
                eager[largest] = reason
                # No graph holds the pool, whether one was captured there or failed half-way.
                capturer.restart()
        for index, bucket in enumerate(waiting):
            used = used_bytes(capturer)
            if used is None or used >= self.budget_bytes:
                eager.update(dict.fromkeys(waiting[index:], _UNKNOWN if used is None else _SPENT))
                return
            reason = self._capture(bucket, capturer)
            if reason:
                eager[bucket] = reason

    def _capture(self, bucket: Bucket, capturer: Capturer) -> str:
        """Give a bucket its graph; why it has none, or ""."""
        inputs = self._inputs.views(bucket)
        outputs = self._outputs.views(bucket.tokens, bucket.sequences)

        def work() -> None:
            for name, output in self.model.run(inputs).items():
                outputs[name].copy_(output)

        self._inputs.fill(bucket, one_token_each(bucket, self.device))
        try:
            capturer.warm(work)
        except torch.OutOfMemoryError:
            return "out of memory"
        try:
            self._graphs[bucket] = capturer.capture(work)
        except torch.OutOfMemoryError:
            return "out of memory"
        except Exception as error:
            return f"capturing failed: {' '.join(str(error).split())[:200] or type(error).__name__}"
        return ""

    def _warm(self, room: Bucket, capturer: Capturer) -> None:
        """Run a batch of this size as `Slot` runs it without a graph; without memory for it, do not."""
        with suppress(torch.OutOfMemoryError):
            flat = torch.zeros(self._inputs.size(room), dtype=torch.int32, device=self.device)
            self._inputs.fill(room, one_token_each(room, self.device), flat)
            feed = self._inputs.views(room, flat)

            def work() -> None:
                self.model.run(feed)

            capturer.warm(work)

    def _tell(self, tokens: int, sequences: int) -> None:
        """Log the first batch that no bucket has room for, where others have."""
        if self._graphs and not self._has_told:
            self._has_told = True
            log.warning(
                "a batch of %d tokens in %d sequences has no CUDA graph and runs kernel by kernel, as will all of its "
                "like: this is said once",
                tokens,
                sequences,
            )

    def _rows(self, bucket: Bucket, tokens: int, sequences: int) -> Outputs:
        """A batch's rows of the outputs, in the graphs' memory."""
        views = self._outputs.views(bucket.tokens, bucket.sequences)
        return {name: self._outputs.forms[name].part(view, tokens, sequences) for name, view in views.items()}


def _on(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

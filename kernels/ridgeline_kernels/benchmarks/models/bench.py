"""The measurements themselves, made in the process that holds the device."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ridgeline_kernels.benchmarks.ceilings import measured_ceilings
from ridgeline_kernels.benchmarks.models.account import account
from ridgeline_kernels.benchmarks.models.batches import texts_of
from ridgeline_kernels.benchmarks.models.catalog import SHAPES, Shape
from ridgeline_kernels.benchmarks.models.records import OURS, Latency, Precision, Rate, Spent, WarmUp
from ridgeline_kernels.benchmarks.models.rivals import Rival
from ridgeline_kernels.benchmarks.models.stopwatch import Stopwatch, WallStopwatch, quantile
from ridgeline_kernels.benchmarks.models.weights import write_with_weights
from ridgeline_kernels.errors import GraphFileError
from ridgeline_kernels.measuring.timer import GpuTimer
from ridgeline_kernels.numerics import sum_in_float32
from ridgeline_kernels.op import references_everywhere
from ridgeline_kernels.packed.buckets import Bucket, choose, make_buckets
from ridgeline_kernels.packed.cuda_graphs import GraphedModel
from ridgeline_kernels.packed.executor import PackedModel
from ridgeline_kernels.packed.slots import Slot
from ridgeline_kernels.packing import cu_seqlens_of

MAX_TOKENS = 65536
"""The largest bucket: no batch of the benchmark is larger."""
SERVER_TOKENS = 16384
"""The largest bucket of a server on a GPU that is told of no other."""
BUDGET_BYTES = 24 << 30
LATENCY_TOKENS = 16
_JUDGED_TOKENS = 2048
# What the matmuls of attention run in, whatever those of the linears run in.
_HALF = {"int8": "fp16", "fp8": "fp16"}


@dataclass(frozen=True)
class Setup:
    """How a bench is made in a process of its own. graphs: directory of MODEL-VARIANT/model.onnx; is_quick: for a
    trial, whose times say nothing."""

    device: str
    graphs: Path
    is_quick: bool = False

    def __call__(self) -> ModelBench:
        """The bench, in whose process cuBLAS adds up in float32, for rivals too."""
        device = torch.device(self.device)
        sum_in_float32()
        if device.type == "cpu":
            # A trial: threads that wait for each other on a busy machine would be all that it shows.
            torch.set_num_threads(1)
        watch = WallStopwatch(device, 0.01, 3) if self.is_quick else WallStopwatch(device)
        return ModelBench(self.graphs, device, watch, latency_runs=20 if self.is_quick else 2000)


class ModelBench:
    """Measures models on one device; keeps the last one."""

    def __init__(self, graphs: Path, device: torch.device, watch: Stopwatch, latency_runs: int = 2000):
        self._graphs = graphs
        self._device = device
        self._watch = watch
        self._latency_runs = latency_runs
        self._peaks: dict[str, float] = {}
        self._last: tuple[tuple[str, ...], Any] | None = None

    def peaks(self) -> tuple[dict[str, float], dict[str, str]]:
        """See `measured_ceilings`."""
        timer = GpuTimer()
        found = measured_ceilings(self._device, timer)
        self._release()
        return found

    def use_peaks(self, peaks: dict[str, float]) -> None:
        """Hold rates to these peaks."""
        self._peaks = peaks

    def prepare(self, model: str, variant: str, batches: Sequence[Sequence[int]] | None) -> WarmUp:
        """Load a model and capture the graphs of the batches' buckets, or of every bucket that a server has by default.

        What follows on the same model and variant runs on these.
        """
        self._release()
        begin = time.perf_counter()
        packed = self._packed(model, variant)
        self._synchronize()
        load_s = time.perf_counter() - begin
        buckets = make_buckets(SERVER_TOKENS) if batches is None else _buckets(batches)
        graphed = GraphedModel(packed, buckets, BUDGET_BYTES)
        report = graphed.warmup()
        self._last = ((model, variant), graphed)
        return WarmUp(
            model,
            _runner(variant),
            load_s,
            packed.weights_bytes,
            report.seconds,
            len(report.captured),
            report.graph_bytes,
            report.buffer_bytes,
            report.describe(),
        )

    def rate(self, model: str, variant: str, kind: str, lengths: Sequence[int]) -> Rate:
        """Our rate on a batch that is on the device."""
        graphed = self._graphed(model, variant)
        shape = SHAPES[model]
        feed = self._feed(shape, lengths, graphed.model.inputs)
        timing = self._watch.rate(lambda: graphed.run(feed))
        bucket = graphed.bucket_of(sum(lengths), len(lengths))
        return Rate(
            model,
            _runner(variant),
            kind,
            len(lengths),
            sum(lengths),
            bucket.tokens if bucket else sum(lengths),
            timing.median_s,
            timing.spread,
            self._least_s(shape, variant, lengths),
            (bucket.tokens, bucket.sequences) if bucket else None,
        )

    def latency(self, model: str, variant: str) -> Latency:
        """Of one short text, from arrays to arrays, through a slot that waits spinning."""
        graphed = self._graphed(model, variant)
        feed = self._feed(SHAPES[model], [LATENCY_TOKENS], graphed.model.inputs)
        arrays = {name: value.cpu().numpy() for name, value in feed.items()}
        slot = Slot(graphed, is_spinning=True)
        times = self._watch.latencies(lambda: slot.run(arrays), self._latency_runs)
        return _latency(model, _runner(variant), times)

    def precision(self, model: str, variant: str) -> Precision:
        """How far the variant's embeddings are from the fp32 graph's by the references."""
        shape = SHAPES[model]
        lengths = texts_of("docstrings", shape.max_tokens).batch(min(_JUDGED_TOKENS, 16 * shape.max_tokens))
        ours = self._graphed(model, variant)
        feed = self._feed(shape, lengths, ours.model.inputs)
        found = ours.run(feed)["pooled"].float()
        self._release()
        with references_everywhere(), torch.inference_mode():
            true = self._packed(model, "fp32").run(feed)["pooled"].float()
        cosines = torch.nn.functional.cosine_similarity(found.double(), true.double(), dim=1)
        error = torch.linalg.vector_norm(found - true) / torch.linalg.vector_norm(true)
        return Precision(model, _runner(variant), float(error), float(cosines.min()), len(lengths))

    def account(self, model: str, variant: str, kind: str, lengths: Sequence[int]) -> Spent:
        """Where our time goes."""
        graphed = self._graphed(model, variant)
        feed = self._feed(SHAPES[model], lengths, graphed.model.inputs)
        return Spent(model, _runner(variant), kind, sum(lengths), account(lambda: graphed.run(feed), self._device))

    def rival_rate(self, model: str, rival: str, kind: str, lengths: Sequence[int]) -> Rate:
        """Hugging Face's rate on the same batch, padded to its longest text."""
        call = self._rival(model, rival).call(lengths)
        timing = self._watch.rate(call)
        padded = len(lengths) * max(lengths)
        least_s = self._least_s(SHAPES[model], "fp16", lengths)
        return Rate(model, rival, kind, len(lengths), sum(lengths), padded, timing.median_s, timing.spread, least_s)

    def rival_latency(self, model: str, rival: str) -> Latency:
        """Hugging Face's latency of one short text that is on the device; its answer stays there."""
        call = self._rival(model, rival).call([LATENCY_TOKENS])
        return _latency(model, rival, self._watch.latencies(call, self._latency_runs))

    def _graphed(self, model: str, variant: str) -> GraphedModel:
        if self._last is None or self._last[0] != (model, variant):
            self.prepare(model, variant, ())
        assert self._last is not None
        graphed: GraphedModel = self._last[1]
        return graphed

    def _rival(self, model: str, kind: str) -> Rival:
        key = ("rival", model, kind)
        if self._last is None or self._last[0] != key:
            self._release()
            dtype = torch.float16 if self._device.type == "cuda" else torch.float32
            self._last = (key, Rival(SHAPES[model], kind, self._device, dtype))
        rival: Rival = self._last[1]
        return rival

    def _packed(self, model: str, variant: str) -> PackedModel:
        """A model with weights that are drawn; of its outputs only the pooled one."""
        graph = self._graphs / f"{model}-{variant}" / "model.onnx"
        if not graph.is_file():
            raise GraphFileError(f"{graph} is missing: make bench-graphs makes it where the export is installed")
        directory = Path(tempfile.mkdtemp(prefix="ridgeline-weights-"))
        try:
            path = write_with_weights(graph, directory)
            return PackedModel.load(path, self._device, outputs=["pooled"])
        finally:
            shutil.rmtree(directory)

    def _feed(self, shape: Shape, lengths: Sequence[int], names: Iterable[str]) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(sum(lengths))
        tokens = sum(lengths)
        feed = {
            "input_ids": torch.randint(0, shape.vocabulary, (1, tokens), generator=generator, dtype=torch.int32),
            "token_type_ids": torch.zeros(1, tokens, dtype=torch.int32),
            "position_ids": torch.cat([torch.arange(length, dtype=torch.int32) for length in lengths])[None],
            "cu_seqlens": cu_seqlens_of(lengths),
        }
        return {name: feed[name].to(self._device) for name in names}

    def _least_s(self, shape: Shape, variant: str, lengths: Sequence[int]) -> float:
        linear, attention = self._peaks.get(variant), self._peaks.get(_HALF.get(variant, variant))
        if linear is None or attention is None:
            return 0.0
        return shape.linear_flops(lengths) / linear + shape.attention_flops(lengths) / attention

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _release(self) -> None:
        self._last = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _buckets(batches: Sequence[Sequence[int]]) -> list[Bucket]:
    """The buckets of a server that the batches run in, and that of one short text."""
    table = make_buckets(MAX_TOKENS)
    chosen = {choose(table, sum(lengths), len(lengths)) for lengths in (*batches, [LATENCY_TOKENS])}
    return sorted(bucket for bucket in chosen if bucket is not None)


def _runner(variant: str) -> str:
    return f"{OURS} {variant}"


def _latency(model: str, runner: str, times: list[float]) -> Latency:
    return Latency(model, runner, LATENCY_TOKENS, quantile(times, 0.5), quantile(times, 0.99), len(times))

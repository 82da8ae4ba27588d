"""The contract at the bottom: what travels between HTTP, engine and runtimes; sequences themselves in sequences.py.

All instants are seconds of CLOCK_MONOTONIC, which every process of the machine shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ridgeline_server.sequences import Float32Array, Input, Int32Array, Reading, Readout, Tokens, Vocabulary


@dataclass(slots=True)
class Instants:
    """When a request crossed each boundary; 0.0 = not yet.

    received:  its HTTP request was read, body and all
    tokenized: its token ids were ready
    started:   the runtime began with its first sequence
    finished:  the runtime ended with its last sequence
    """

    received: float = 0.0
    tokenized: float = 0.0
    started: float = 0.0
    finished: float = 0.0


class Priority(StrEnum):
    """Which work goes first: interactive before batch, and batch is never starved."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Request:
    """What a protocol asks the engine for.

    model:      name of a served model, None = the first
    inputs:     texts, token ids that are taken as they are (special tokens included), or pairs of texts
    truncate:   True: cut longer inputs to the model's maximum; False: refuse them; None: the server's default
    received:   instant at which the HTTP request was read, body and all
    deadline:   instant after which the answer is of no use, None = none
    normalize:  True, False: scale embeddings to length 1, or not; None: as the bundle says
    reading:    how inputs are read into sequences, None = one each, as embeddings are asked for
    readout:    what is kept of the model's answers, None = a vector each
    version:    the model's version that the request was read for; one of another is not answered; None = any
    """

    model: str | None
    inputs: Sequence[Input]
    truncate: bool | None
    received: float
    deadline: float | None = None
    normalize: bool | None = None
    priority: Priority = Priority.INTERACTIVE
    reading: Reading | None = None
    readout: Readout | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the engine answers.

    outputs:      [sequences, dim] float32 of vectors; [0, 0] of other readouts
    tokens:       real tokens of each sequence, after truncation, special tokens included
    truncated:    how many sequences were cut
    flops:        estimated FLOPs of the real tokens
    batches:      those that its sequences ran in, with whatever else ran in them
    sequences:    what was read of the inputs, in their order
    arrays:       what was kept of the model's answer to each sequence, float32; see Readout
    version:      the model's version that answered
    cached:       inputs whose answers were there, and those that were computed: `flops` and `batches` are of these
                  alone. None = answers are not kept
    """

    model: str
    outputs: Float32Array
    tokens: list[int]
    truncated: int
    flops: float
    instants: Instants
    batches: Sequence[BatchRecord] = ()
    sequences: Sequence[Tokens] = ()
    arrays: Sequence[Float32Array] | Float32Array = ()
    version: int = 1
    cached: tuple[int, int] | None = None


@dataclass(slots=True)
class CacheCounts:
    """What became of a model's inputs where answers are kept.

    hits, misses: inputs of answered requests whose answers were there, or were computed
    entries, held_bytes: answers that are held, and what they take
    evictions:    answers that had to go for others
    """

    hits: int = 0
    misses: int = 0
    entries: int = 0
    held_bytes: int = 0
    evictions: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences for a runtime, packed end to end: no padding.

    id:             number of the batch, unique in the server
    input_ids:      [total_tokens] int32
    token_type_ids: [total_tokens] int32, None = all zero
    lengths:        [sequences] int32, tokens of each sequence
    readouts:       what is kept of the answer to each sequence, None = a vector of each
    """

    id: int
    input_ids: Int32Array
    lengths: Int32Array
    token_type_ids: Int32Array | None = None
    readouts: tuple[Readout, ...] | None = None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One executed batch, as the report tells of it.

    shape:           (rows, length) that the runtime executed; of a packed batch (1, bucket of tokens)
    real_tokens:     tokens of the texts, special tokens included
    padded_tokens:   tokens that the runtime executed, padding included
    flops:           estimated FLOPs of the real tokens
    executed_flops:  estimated FLOPs of what was executed, padding included
    started, finished: instants around the runtime's call
    peak_flops_per_s: measured peak of the replica's cores in `precision`, None = not measured
    share:           share of those cores that the batch held: one stream of n holds 1/n, one that took its turn all
    predicted_s:     seconds that the roofline predicts for the executed shape there, None = no prediction
    bound:           what binds most of them: "compute", "memory" or "overhead", None = no prediction
    """

    model: str
    variant: str
    runtime: str
    precision: str
    replica: int
    rows: int
    shape: tuple[int, int]
    real_tokens: int
    padded_tokens: int
    flops: float
    executed_flops: float
    started: float
    finished: float
    peak_flops_per_s: float | None
    share: float
    predicted_s: float | None = None
    bound: str | None = None


@dataclass(frozen=True, slots=True)
class ShapePrediction:
    """What the roofline says of a batch of one shape (rows, length), padding included.

    seconds: predicted latency
    bound:   what binds most of it: "compute", "memory" or "overhead"
    flops:   of the whole shape
    """

    shape: tuple[int, int]
    seconds: float
    bound: str
    flops: float

    def of_flops(self, flops: float) -> ShapePrediction:
        """The prediction of another amount of work in the same shape, in proportion."""
        return replace(self, seconds=self.seconds * flops / self.flops, flops=flops) if self.flops else self


@dataclass(frozen=True, slots=True)
class Roofline:
    """What a replica's batches are predicted from.

    is_complete: False when only arithmetic is known: memory traffic and overheads are left out, and the prediction is
                 the least that a batch can take
    flops_per_s: highest rate of one batch by dtype, its share of the device
    bytes_per_s: highest rate at which one batch moves bytes, None = not known
    efficiency:  shares of the peaks that runs reach, and overheads in seconds, by name; empty without a calibration
    source:      where the figures come from
    shapes:      predictions of the shapes that the replica executes
    """

    is_complete: bool
    flops_per_s: Mapping[str, float]
    bytes_per_s: float | None
    efficiency: Mapping[str, float]
    source: str
    shapes: Sequence[ShapePrediction]


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """A replica, as the report tells of it.

    state:       "loading", "ready", "unresponsive", "down" or "stopped"
    pid:         of its worker, None while there is none
    in_flight:   batches that were sent to it and are not answered
    restarts:    how often its worker ended and was started again
    device:      such as "cpu:0"
    concurrency: batches that it has in hand at once
    roofline:    None while there is none
    parallel:    how many of them compute at once, each with that part of the peak
    """

    index: int
    state: str
    pid: int | None
    in_flight: int
    restarts: int
    device: str
    threads: int
    concurrency: int
    precision: str
    peak_flops_per_s: float | None
    roofline: Roofline | None = None
    parallel: int = 1


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A served model, as protocols describe it.

    name:        name that requests use
    created:     Unix seconds of the bundle's manifest
    replicas:    replicas configured; `ready_replicas` of them can serve at the moment
    reasons:     why the model is not ready, a sentence each
    device:      kind of device its replicas run on: "cpu" or "cuda"
    max_batch_tokens: tokens that one batch may execute, None = not known yet
    why:         the reason for its plan
    normalize:   whether its embeddings are scaled to unit length unless a request says
    labels:      names of its classes by index, None for a model without classes
    problem:     of a classifier as its config says: "single_label_classification", "multi_label_classification" or
                 "regression", None = not said
    prompts:     texts that go before an input, by name, such as {"query": "query: "}
    default_prompt: name of the one that goes before a text when a request asks for none, None = nothing does
    mask_token, mask_token_id: None where the tokenizer has none
    vocabulary:  what its tokenizer knows of tokens
    version:     counts what was loaded under this name, from 1
    max_request_tokens: tokens that one request may hold, None = as the server's flags say
    truncates:   whether longer inputs are cut unless a request says, None = as the server's flags say
    """

    name: str
    model_id: str
    revision: str | None
    task: str
    pooling: str | None
    dim: int
    max_tokens: int
    vocab_size: int
    variant: str
    runtime: str
    precision: str
    created: int
    replicas: int
    ready_replicas: int
    queued_sequences: int = 0
    queued_tokens: int = 0
    reasons: list[str] = field(default_factory=list)
    device: str = "cpu"
    max_batch_tokens: int | None = None
    replica_infos: Sequence[ReplicaInfo] = ()
    why: str = ""
    normalize: bool = False
    labels: tuple[str, ...] | None = None
    problem: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    mask_token: str | None = None
    mask_token_id: int | None = None
    vocabulary: Vocabulary | None = field(default=None, compare=False, repr=False)
    version: int = 1
    max_request_tokens: int | None = None
    truncates: bool | None = None

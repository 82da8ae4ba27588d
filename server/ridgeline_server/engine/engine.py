"""The engine: from a request to its answer, over all served models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from ridgeline_server.config import Overlong, ServerConfig
from ridgeline_server.engine.answer_size import bytes_a_token, check_answer, most_array_bytes
from ridgeline_server.engine.cache import AnswerCache
from ridgeline_server.engine.job import Item, Job
from ridgeline_server.engine.loading import LoadedModel
from ridgeline_server.engine.model import ServedModel
from ridgeline_server.engine.recall import Recall
from ridgeline_server.errors import (
    TOO_LATE,
    DeadlineError,
    InvalidInputError,
    OverloadedError,
    ReplacedError,
    RequestError,
    RequestTooLargeError,
    UnavailableError,
    UnknownModelError,
)
from ridgeline_server.request import BatchRecord, Instants, ModelInfo, Request, Result
from ridgeline_server.sequences import READOUTS, Encoding, Float32Array, Readout, ReadoutKind, Tokens
from ridgeline_server.tasks.pooling import normalize

_MOST_PENDING_CHARACTERS = 64 * 1024 * 1024
_NO_VECTORS = np.zeros((0, 0), dtype=np.float32)
_T = TypeVar("_T")


class Engine:
    """Answers requests. All methods are called from one event loop.

    cache: None = answers are not kept
    """

    def __init__(self, models: Sequence[LoadedModel], config: ServerConfig) -> None:
        self._models = list(models)
        self._by_name = {model.served.name: model for model in models}
        self._config = config
        self.cache = AnswerCache(config.cache_bytes) if config.cache_bytes else None

    async def start(self) -> None:
        """Start all replicas, one after another, so that each measures its peak undisturbed; return when all are ready.

        Raises StartupError when a model cannot be loaded.
        """
        for model in self._models:
            await model.start()

    async def stop(self) -> None:
        """End all workers; requests that are still in the engine get an error."""
        await asyncio.gather(*(model.stop() for model in self._models))

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        """The served models, the default one first."""
        return tuple(self._models)

    def put(self, model: LoadedModel) -> LoadedModel | None:
        """Answer with a model that is ready from now on; the one of its name before, which answers what it has."""
        replaced = self._by_name.get(model.served.name)
        if replaced is None:
            self._models.append(model)
        else:
            self._models[self._models.index(replaced)] = model
        self._by_name[model.served.name] = model
        if self.cache is not None:
            self.cache.forget(model.served.name)
        return replaced

    def take_out(self, name: str) -> LoadedModel:
        """Take in no more requests for a model, which answers what it has. Raises UnknownModelError."""
        model = self._find(name)
        self._models.remove(model)
        del self._by_name[name]
        if self.cache is not None:
            self.cache.forget(name)
        return model

    async def submit(self, request: Request) -> Result:
        """Answer one request; cancelling the caller drops what still waits.

        Raises a RequestError: UnknownModelError, InvalidInputError, OverloadedError, UnavailableError, DeadlineError
        or ExecutionError; ReplacedError when the request was read for another version than the present one.
        """
        instants = Instants(received=request.received)
        try:
            model = self._find(request.model, request.version)
            model.served.check_available()
            self._check_backlog(model, request.deadline)
            return await self._answer(model, request, instants)
        except TimeoutError:
            late = DeadlineError(TOO_LATE)
            late.instants = instants
            raise late from None
        except RequestError as error:
            error.instants = instants
            raise

    async def tokenize(
        self, name: str | None, texts: Sequence[str], special_tokens: bool, deadline: float | None = None
    ) -> list[Encoding]:
        """An encoding for each text, nothing cut off.

        name: a served model's, None = the first
        Raises a RequestError: UnknownModelError, InvalidInputError, OverloadedError or DeadlineError.
        """
        model = self._find(name)
        work = partial(model.tokenizer.tokenizer.encode_whole, texts, special_tokens)
        encodings = await self._run_aside(model, work, sum(map(len, texts)), deadline)
        self._check_total(model, sum(len(encoding.ids) for encoding in encodings))
        return encodings

    async def decode(
        self, name: str | None, ids: Sequence[list[int]], skip_special_tokens: bool, deadline: float | None = None
    ) -> list[str]:
        """A text for each list of token ids; ids without a token are left out. Raises as tokenize."""
        model = self._find(name)
        self._check_total(model, sum(map(len, ids)))
        work = partial(model.tokenizer.tokenizer.decode, ids, skip_special_tokens)
        return await self._run_aside(model, work, sum(map(len, ids)), deadline)

    async def _run_aside(
        self, model: LoadedModel, work: Callable[[], _T], characters: int, deadline: float | None
    ) -> _T:
        """Run what a tokenizer does beside the event loop, whatever its length: its answers are not urgent."""
        if model.tokenizer.pending_characters > _MOST_PENDING_CHARACTERS:
            raise OverloadedError("too many texts wait for the tokenizer; try again in 1 s", 1.0)
        try:
            return await model.tokenizer.run(work, characters, deadline)
        except TimeoutError:
            raise DeadlineError(TOO_LATE) from None

    def models(self) -> list[ModelInfo]:
        """The served models, the default one first."""
        return [model.info() for model in self._models]

    def is_ready(self) -> bool:
        """True when there are models, and every one has a replica that can serve."""
        return bool(self._models) and all(model.served.ready_replicas for model in self._models)

    def retry_after(self, name: str | None = None) -> float | None:
        """Seconds after which to come back when the model's queue is full, else None.

        name: None asks of all models: full when every queue is
        Raises UnavailableError when no replica of the model, or of any model, can serve; UnknownModelError.
        """
        if name is not None:
            model = self._find(name)
            model.served.check_available()
            return self._wait_s(model)
        problem: UnavailableError | None = None
        waits = []
        for model in self._models:
            try:
                model.served.check_available()
            except UnavailableError as error:
                problem = error
                continue
            wait_s = self._wait_s(model)
            if wait_s is None:
                return None
            waits.append(wait_s)
        if not waits:
            raise problem or _nothing_served()
        return min(waits)

    async def _answer(self, model: LoadedModel, request: Request, instants: Instants) -> Result:
        truncate = request.truncate
        if truncate is None:
            truncate = (model.settings.overlong or self._config.overlong) is Overlong.TRUNCATE
        check_readout(model.served.name, model.served.bundle.manifest.task, request.readout)
        if self.cache is not None:
            return await self._answer_from(self.cache, model, request, truncate, instants)
        tokens = await model.tokenizer.encode(request.inputs, truncate, request.deadline, request.reading)
        instants.tokenized = time.monotonic()
        self._check_total(model, sum(len(entry.ids) for entry in tokens), request.readout)
        job = self._enqueue(model, request, tokens, instants)
        arrays = await _in_time(job, request.deadline)
        return _result(model.served, request, instants, tokens, arrays, job.batches)

    def _enqueue(self, model: LoadedModel, request: Request, tokens: list[Tokens], instants: Instants) -> Job:
        model.served.check_available()
        self._check_backlog(model, request.deadline)  # again: many may have been tokenized at the same time
        job = Job(request, asyncio.get_running_loop().create_future(), instants)
        job.most_bytes = most_array_bytes(request.readout, self._config.max_answer_bytes)
        job.items = [Item(job, index, entry) for index, entry in enumerate(tokens)]
        model.served.enqueue(job)
        return job

    async def _answer_from(
        self, cache: AnswerCache, model: LoadedModel, request: Request, truncate: bool, instants: Instants
    ) -> Result:
        """As without a cache, but for what is kept of the inputs' answers."""
        served = model.served
        keys = cache.keys(served, request.inputs, truncate, request.reading, request.readout)
        recall = Recall(cache, keys, request.inputs)
        encode = partial(model.tokenizer.encode, truncate=truncate, deadline=request.deadline, reading=request.reading)
        try:
            tokens = await encode(recall.missing) if recall.missing else []
        except InvalidInputError:
            if recall.hits:  # the refusal names the input by its number in the whole request
                await encode(request.inputs)
            raise
        instants.tokenized = time.monotonic()
        self._check_total(model, recall.read(tokens), request.readout)
        flops = 0.0
        batches: list[BatchRecord] = []
        if tokens:
            job = self._enqueue(model, request, tokens, instants)
            recall.take(await _in_time(job, request.deadline))
            flops, batches = served.costs.sequences([len(entry.ids) for entry in tokens]), job.batches
            if self._by_name.get(served.name) is model:  # else its answers are of no use to anybody
                recall.keep(served.name)
        else:
            instants.started = instants.finished = instants.tokenized
        cached = (recall.hits, len(recall.missing))
        cache.count(served.name, *cached)
        sequences, arrays = recall.answer()
        check_answer(
            sum(array.nbytes for array in arrays), most_array_bytes(request.readout, self._config.max_answer_bytes)
        )
        return _result(served, request, instants, sequences, arrays, batches, flops, cached)

    def _find(self, name: str | None, version: int | None = None) -> LoadedModel:
        if name is None:
            if not self._models:
                raise _nothing_served()
            return self._models[0]
        model = self._by_name.get(name)
        if model is None:
            have = ", ".join(f"'{model.served.name}'" for model in self._models) or "nothing at the moment"
            raise UnknownModelError(f"model '{name[:200]}' is not served here; served: {have}")
        if version is not None and version != model.served.version:
            raise ReplacedError(f"version {version} of model '{name}' was replaced; send the request again", 1.0)
        return model

    def _check_total(self, model: LoadedModel, total: int, readout: Readout | None = None) -> None:
        most = model.settings.max_request_tokens or self._config.max_request_tokens
        if total > most:
            raise RequestTooLargeError(
                f"the inputs hold {total} tokens; one request may hold {most}: send several requests"
            )
        of_token = bytes_a_token(readout, model.served.bundle.manifest, model.shape)
        check_answer(total * of_token, most_array_bytes(readout, self._config.max_answer_bytes))

    def _check_backlog(self, model: LoadedModel, deadline: float | None) -> None:
        wait_s = self._wait_s(model, None if deadline is None else deadline - time.monotonic())
        if wait_s is not None:
            raise OverloadedError(
                f"the queue of model '{model.served.name}' is full, or longer than the request's deadline allows; "
                f"try again in {wait_s:.0f} s",
                wait_s,
            )

    def _wait_s(self, model: LoadedModel, left_s: float | None = None) -> float | None:
        if model.tokenizer.pending_characters > _MOST_PENDING_CHARACTERS:
            return 1.0
        return model.served.retry_after_s(left_s)


def _nothing_served() -> UnavailableError:
    return UnavailableError("no model is served at the moment; try again later", 1.0)


async def _in_time(job: Job, deadline: float | None) -> list[Float32Array]:
    """The job's answer. One timer costs a fraction of asyncio's timeout, which every request would pay."""
    if deadline is None:
        return await job.future
    timer = job.future.get_loop().call_at(deadline, job.fail, DeadlineError(TOO_LATE))
    try:
        return await job.future
    finally:
        timer.cancel()


def check_readout(model: str, task: str, readout: Readout | None) -> None:
    """Raise InvalidInputError when a model of this task gives no such answers."""
    kind = ReadoutKind.VECTOR if readout is None else readout.kind
    allowed = READOUTS[task]
    if kind not in allowed:
        raise InvalidInputError(
            f"model '{model}' is for {task} and gives no {kind.value} for an input; it gives: {', '.join(allowed)}; "
            "GET /v1/models tells what each model is for"
        )


def _result(
    served: ServedModel,
    request: Request,
    instants: Instants,
    tokens: list[Tokens],
    arrays: list[Float32Array],
    batches: Sequence[BatchRecord],
    flops: float | None = None,
    cached: tuple[int, int] | None = None,
) -> Result:
    """flops: None = of all tokens"""
    lengths = [len(entry.ids) for entry in tokens]
    kept: Sequence[Float32Array] | Float32Array
    if request.readout is not None and request.readout.kind is not ReadoutKind.VECTOR:
        outputs, kept = _NO_VECTORS, arrays
    else:
        outputs = arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)
        if served.bundle.manifest.normalize if request.normalize is None else request.normalize:
            outputs = normalize(outputs)
        kept = outputs
    return Result(
        model=served.name,
        outputs=outputs,
        tokens=lengths,
        truncated=sum(entry.is_truncated for entry in tokens),
        flops=served.costs.sequences(lengths) if flops is None else flops,
        instants=instants,
        batches=batches,
        sequences=tokens,
        arrays=kept,
        version=served.version,
        cached=cached,
    )

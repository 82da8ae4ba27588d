"""CPU time of each step that a request takes in the server's process, in isolation, on the real objects.

`python -m experiments.lab.steps BUNDLE TEXTS FLAGS` prints one JSON object: µs for each text, one text a request.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.lab.config import server_config  # first: it sets what numpy reads when it is imported

import numpy as np  # isort: skip
import uvloop  # isort: skip

from experiments.lab.client import embeddings_body
from experiments.lab.timing import seconds_per_await, seconds_per_call

from ridgeline_bench.corpus import corpus_from_file
from ridgeline_server.config import ServerConfig
from ridgeline_server.engine import framing
from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.engine.connection import FrameProtocol
from ridgeline_server.engine.loading import LoadedModel, load_models
from ridgeline_server.engine.messages import Done
from ridgeline_server.engine.scheduler import Queue, Waiting, make_scheduler
from ridgeline_server.http.app import create_app
from ridgeline_server.http.connection import REPLY
from ridgeline_server.http.parsing import inputs_of, json_object
from ridgeline_server.http.reply import as_base64, as_json, contiguous
from ridgeline_server.report.metrics import Metrics
from ridgeline_server.report.report import Report
from ridgeline_server.request import Batch, BatchRecord, Instants, ModelInfo, Request, Result
from ridgeline_server.sequences import Encoding, Tokens
from ridgeline_server.tasks.pooling import normalize

_KEYS = (b'"input"', b'"model"', b'"encoding_format"', b'"dimensions"', b'"user"')
_WAITING = 32


def batch_record(info: ModelInfo, rows: int) -> BatchRecord:
    """A batch as the engine records it."""
    return BatchRecord(
        model=info.name, variant=info.variant, runtime=info.runtime, precision=info.precision, replica=0, rows=rows,
        shape=(rows, 32), real_tokens=200, padded_tokens=256, flops=1e9, executed_flops=1.2e9, started=1.0,
        finished=1.01, peak_flops_per_s=1e12, share=0.5, predicted_s=0.008, bound="compute",
    )  # fmt: skip


class AnsweringEngine:
    """An engine that has every answer already."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        now = time.monotonic()
        outputs = np.random.default_rng(0).standard_normal((1, info.dim)).astype(np.float32)
        batches = [batch_record(info, 1)]
        self.result = Result(info.name, normalize(outputs), [40], 0, 1e9, Instants(now, now, now, now), batches)

    async def submit(self, request: Request) -> Result:
        return self.result

    async def tokenize(
        self, name: str | None, texts: Sequence[str], special_tokens: bool, deadline: float | None = None
    ) -> list[Encoding]:
        raise AssertionError("nobody asks for tokens here")

    async def decode(
        self, name: str | None, ids: Sequence[list[int]], skip_special_tokens: bool, deadline: float | None = None
    ) -> list[str]:
        raise AssertionError("nobody asks for texts here")

    def models(self) -> list[ModelInfo]:
        return [self._info]

    def is_ready(self) -> bool:
        return True

    def retry_after(self, name: str | None = None) -> float | None:
        return None


async def http_steps(model: LoadedModel, config: ServerConfig, texts: Sequence[str]) -> dict[str, float]:
    """Everything between the HTTP server and the engine: the door as a whole, and its parts."""
    engine, metrics = AnsweringEngine(model.info()), Metrics()
    door = create_app(engine, config, Report(), metrics)
    bodies = itertools.cycle([embeddings_body(model.served.name, [text]) for text in texts])

    async def ask() -> None:
        body = next(bodies)
        headers = [(b"host", b"h"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/embeddings",
            "headers": headers,
            "extensions": {REPLY: {}},
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            assert message["status"] == 200, message

        await door(scope, receive, send)

    def parse() -> None:
        body = next(bodies)
        inputs_of(json_object(body, _KEYS)["input"], "input", 2048, b"\\u0000" in body)

    def serialize() -> None:
        rows = contiguous(engine.result.outputs)
        data = [{"object": "embedding", "index": i, "embedding": as_base64(row)} for i, row in enumerate(rows)]
        as_json({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 40, "total_tokens": 40}})

    whole = await seconds_per_await(ask)
    parts = {
        "parse JSON and check": seconds_per_call(parse),
        "serialize the reply": seconds_per_call(serialize),
        "count the request": seconds_per_call(
            lambda: metrics.record_request(
                "/v1/embeddings", 200, 0.01, (0.0, 0.001, 0.002, 0.003, 0.0), model.served.name
            )
        ),
    }
    return {**parts, "door: admit, headers, deadline": whole - sum(parts.values())}


def engine_steps(model: LoadedModel, tokens: Sequence[Tokens]) -> dict[str, float]:
    """Parts of what the engine does for each text; seconds of a batch are shared among its texts."""
    plan, loop_rows = model.served.plan, itertools.count(1)
    costs = BatchCosts(plan.grid, {(rows, length): 1e-3 + 2e-5 * rows * length for rows, length in plan.grid.shapes})
    scheduler: Queue[Tokens] = make_scheduler(plan.grid, 0.075)
    endless = itertools.cycle(tokens)
    sizes: list[int] = []

    def schedule() -> None:
        while scheduler.sequences < _WAITING:
            entry = next(endless)
            scheduler.add(Waiting(len(entry.ids), time.monotonic(), entry))
        sizes.append(len(scheduler.next_batch(time.monotonic(), costs)))

    scheduled = seconds_per_call(schedule)
    rows = round(float(np.mean(sizes)))
    group = list(itertools.islice(endless, rows))
    dim = model.shape.hidden
    outputs = np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)
    done = b"".join(framing.encode(Done(1, outputs, 256, (rows, 32), 0.0, 0.01)))
    received: list[Any] = []
    protocol = FrameProtocol(received.append, lambda message: None)

    def pack() -> None:
        lengths = np.fromiter((len(entry.ids) for entry in group), dtype=np.int32)
        framing.encode(Batch(next(loop_rows), np.concatenate([entry.ids for entry in group]), lengths))

    def receive() -> None:
        protocol.data_received(done)
        for _ in received.pop().outputs:
            pass

    return {
        "schedule": scheduled / rows,
        "pack and encode": seconds_per_call(pack) / rows,
        "decode and split": seconds_per_call(receive) / rows,
        "normalize": seconds_per_call(lambda: normalize(np.stack([outputs[0]]))),
        "count the batch": _count_batch(model, rows) / rows,
    }


def _count_batch(model: LoadedModel, rows: int) -> float:
    report, metrics, record = Report(), Metrics(), batch_record(model.info(), rows)

    def count() -> None:
        report.record_batch(record)
        metrics.record_batch(record)

    return seconds_per_call(count)


def main() -> None:
    """Read the arguments and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path)
    arguments, flags = parser.parse_known_args()
    config = server_config(arguments.bundle, flags)
    texts = corpus_from_file(arguments.texts).texts
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop()
        (model,) = load_models(config, lambda record: None)
        tokenizer = model.tokenizer.tokenizer
        tokens = tokenizer.encode(list(texts), True)
        endless = itertools.cycle(texts)
        steps = runner.run(http_steps(model, config, texts))
        steps["tokenize"] = seconds_per_call(lambda: tokenizer.encode([next(endless)], True))
        steps |= engine_steps(model, tokens)
        model.tokenizer.stop()
    print(json.dumps({name: 1e6 * seconds for name, seconds in steps.items()}))


if __name__ == "__main__":
    main()

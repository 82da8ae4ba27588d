"""`POST /` and `POST /models/{name}`: the model's own task, for clients that know a URL and not what stands behind it.

Two conventions meet here, and a body tells which one it follows. text-embeddings-inference answers `/` as the route of
the model's kind: `/embed`, `/embed_sparse`, `/predict` or `/rerank`, options beside the inputs. Hugging Face's
inference API, which huggingface_hub's InferenceClient speaks, sends `parameters` beside `inputs`, and gets what the
task's pipeline of transformers answers: one input's answer by itself, an array's in an array. There, a classifier's
classes stand in an array of their own even for one text, and zero-shot labels are objects with a score: so the client
reads them. Embeddings, which it asks for with options beside the inputs, are the same in both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.asking import ask, write_json
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import Protocol, WrongModelError, quote
from ridgeline_server.http.exchange import JSON, Exchange
from ridgeline_server.http.parsing import json_object, optional_object
from ridgeline_server.http.routing import InferenceRoute
from ridgeline_server.http.tasks import inputs, parameters
from ridgeline_server.http.tei.embeddings import EMBED_OPTIONS
from ridgeline_server.http.tei.handlers import NUL, Answer
from ridgeline_server.http.tei.kinds import SPARSE, kind_of
from ridgeline_server.http.tei.routes import TextEmbeddingsInference
from ridgeline_server.request import ModelInfo
from ridgeline_server.tasks.registry import TASKS

_KEYS = (b'"inputs"', b'"parameters"', b'"query"', b'"texts"')
_CLASSES, _ZERO_SHOT = "text-classification", "zero-shot-classification"


class Pipeline:
    """Handlers of the routes that name no task."""

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig, tei: TextEmbeddingsInference) -> None:
        self._engine = engine
        self._catalog = catalog
        self._config = config
        self._tei = tei

    def run(self, exchange: Exchange, body: bytes) -> Awaitable[Answer]:
        """`POST /`, `POST /invocations` and `POST /models/{name}`."""
        info = self._catalog.find(exchange.params.get("name"))
        fields = json_object(body, _KEYS)
        answer = self._route(info, fields)
        return answer(exchange, info, fields, NUL in body)

    def _route(
        self, info: ModelInfo, fields: dict[str, Any]
    ) -> Callable[[Exchange, ModelInfo, dict[str, Any], bool], Awaitable[Answer]]:
        given = fields.get("inputs")
        if "inputs" not in fields and ("query" in fields or "texts" in fields):
            return self._tei.classes.rerank_fields
        if type(given) is dict and "source_sentence" in given:
            return self._tei.embeddings.similarity_fields
        if info.task == "feature-extraction":
            return self._embed
        if info.task == _CLASSES and "parameters" not in fields:
            return self._tei.classes.predict_fields
        if kind_of(info) == SPARSE and "parameters" not in fields:
            return self._tei.embeddings.embed_sparse_fields
        return self._run

    def _embed(self, exchange: Exchange, info: ModelInfo, fields: dict[str, Any], has_nul: bool) -> Awaitable[Answer]:
        wanted = optional_object(fields.get("parameters"), "parameters")
        for name in wanted:
            if name not in EMBED_OPTIONS:
                raise parameters.unknown_field(name, EMBED_OPTIONS, "parameters.")
        return self._tei.embeddings.embed_fields(exchange, info, fields | wanted, has_nul)

    async def _run(self, exchange: Exchange, info: ModelInfo, fields: dict[str, Any], has_nul: bool) -> Answer:
        if "inputs" not in fields:
            raise InvalidInputError("the field `inputs` is missing; give what the model's task takes", "inputs")
        wanted = optional_object(fields.get("parameters"), "parameters")
        task = TASKS.get(_ZERO_SHOT if info.task == _CLASSES and "candidate_labels" in wanted else info.task)
        if task is None or info.task not in task.models:
            raise WrongModelError(f"the model {quote(info.name)} is for {info.task}, which has no pipeline here")
        labels = wanted.get("candidate_labels")
        if type(labels) is str:  # as transformers' pipeline takes them too
            wanted["candidate_labels"] = [label.strip() for label in labels.split(",")]
        given = inputs.parse(task, fields["inputs"], info, self._config, has_nul=has_nul)
        work = task.prepare(info, given.inputs, parameters.parse(task.parameters, wanted))
        answers = await ask(self._engine, exchange, info, work)
        if task.name == _ZERO_SHOT:
            answers = [_scored(answer) for answer in answers]
        is_one = given.is_single and task.name != _CLASSES
        return await write_json(exchange, answers[0] if is_one else answers), [JSON]


def model_routes(tei: TextEmbeddingsInference, pipeline: Pipeline) -> list[InferenceRoute]:
    """text-embeddings-inference's routes and those that name no task, of the first model and of named ones."""
    handlers = tei.handlers()
    first = handlers | {"/": pipeline.run, "/invocations": pipeline.run}
    # The bare path of a model comes last: its pattern takes whatever the others leave.
    named = {f"/models/{{name}}{path}": handler for path, handler in handlers.items()} | {
        "/models/{name}": pipeline.run
    }
    return [
        InferenceRoute(path, Protocol.TEI, handler, is_model_in_path=True) for path, handler in (first | named).items()
    ]


def _scored(answer: Any) -> list[dict[str, object]]:
    return [{"label": label, "score": score} for label, score in zip(answer.labels, answer.scores, strict=True)]

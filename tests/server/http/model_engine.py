"""An engine of several small PyTorch models, each with its own task, for the tests of protocols."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ridgeline_server.errors import UnknownModelError
from ridgeline_server.request import Instants, Request, Result
from ridgeline_server.sequences import Encoding
from ridgeline_server.tasks.base import Work
from tests.server.http_fakes import FakeEngine
from tests.server.tasks.classifiers import write_classifier
from tests.server.tasks.torch_engine import TorchEngine

PROMPTS = {"query": "query: ", "passage": "passage: "}
ENTAILMENT = ("contradiction", "neutral", "entailment")


class ModelEngine(FakeEngine):
    """Models by name; the first is the default."""

    def __init__(self, models: dict[str, TorchEngine]) -> None:
        super().__init__([replace(model.info, name=name) for name, model in models.items()])
        self.by_name = models

    async def submit(self, request: Request) -> Result:
        self.seen.append(request)
        name = request.model or self.infos[0].name
        if name not in self.by_name:
            raise UnknownModelError(f"no model {name}")
        work = Work(
            request.inputs,
            lambda _: [],
            request.reading,
            request.readout,
            request.truncate,
            normalize=request.normalize,
        )
        result = self.by_name[name].submit(work)
        now = time.monotonic()
        return replace(result, model=name, instants=Instants(request.received, now, now, now))

    async def tokenize(
        self, name: str | None, texts: Sequence[str], special_tokens: bool, deadline: float | None = None
    ) -> list[Encoding]:
        return self.by_name[name or self.infos[0].name].tokenizer.encode_whole(texts, special_tokens)

    async def decode(
        self, name: str | None, ids: Sequence[list[int]], skip_special_tokens: bool, deadline: float | None = None
    ) -> list[str]:
        return self.by_name[name or self.infos[0].name].tokenizer.decode(ids, skip_special_tokens)


def make_engine(tiny_models: Callable[..., Path], directory: Path) -> ModelEngine:
    """A model of each kind; the first embeds."""
    models = {"dense": TorchEngine(tiny_models("bert", "feature-extraction"), "feature-extraction", prompts=PROMPTS)}
    for name, labels in (("classes", ("good", "bad")), ("ranks", ("relevance",)), ("entails", ENTAILMENT)):
        path = write_classifier(directory / name, "bert", labels)
        models[name] = TorchEngine(path, "text-classification")
    for name, task in (("entities", "token-classification"), ("answers", "question-answering"), ("fills", "fill-mask")):
        models[name] = TorchEngine(tiny_models("bert", task), task)
    models["sparse"] = TorchEngine(tiny_models("bert", "fill-mask"), "fill-mask", pooling="splade")
    return ModelEngine(models)

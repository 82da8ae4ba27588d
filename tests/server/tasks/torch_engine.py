"""An engine for the tests of tasks: answers a Work with a small PyTorch model, each sequence by itself.

All the rest is the server's own: the tokenizer, the reader of inputs, and what is kept of an answer.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ridgeline_server.engine.engine import check_readout
from ridgeline_server.engine.packing import pack
from ridgeline_server.engine.tokenization import TextTokenizer
from ridgeline_server.request import Instants, ModelInfo, Result
from ridgeline_server.runtimes.base import Output, Plan
from ridgeline_server.runtimes.grid import make_grid
from ridgeline_server.runtimes.readouts import read
from ridgeline_server.sequences import OUTPUTS, Float32Array, Readout, ReadoutKind, Tokens
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.pooling import normalize
from tests.models import HEADS


class TorchEngine:
    """One model, asked without HTTP, batches or processes.

    directory:  a model as tests.models.write_model writes it
    truncate:   what the server does with long inputs when a Work does not say
    facts:      fields of ModelInfo that differ, such as pooling, normalize, max_tokens, prompts
    """

    def __init__(self, directory: Path, task: str, *, truncate: bool = True, **facts: Any) -> None:
        config = transformers.AutoConfig.from_pretrained(directory)
        (model_class,) = config.architectures
        assert model_class.endswith(HEADS[task]), f"{model_class} does not fit {task}"
        self.model = getattr(transformers, model_class).from_pretrained(directory).eval()
        info = _info(directory, task, config, facts)
        self.tokenizer = TextTokenizer(directory / "tokenizer.json", info.max_tokens, config.vocab_size)
        known = self.tokenizer.vocabulary
        masks = {"mask_token": known.mask_token, "mask_token_id": known.mask_id} | facts
        self.info = replace(info, vocabulary=known, **masks)
        self.works: list[Work] = []
        self._plan = _plan(directory, task, self.info.max_tokens)
        self._truncate = truncate

    def ask(self, task: Task, inputs: Any, **parameters: Any) -> list[Any]:
        """A task's answers to inputs as its InputKind says; parameters that are not given are absent."""
        work = task.prepare(self.info, inputs, task.parameters(**parameters))
        self.works.append(work)
        return work.finish(self.submit(work))

    def submit(self, work: Work) -> Result:
        """What the engine answers to a Work."""
        check_readout(self.info.name, self.info.task, work.readout)
        truncate = self._truncate if work.truncate is None else work.truncate
        sequences = self.tokenizer.encode(work.inputs, truncate, work.reading)
        readout = work.readout or Readout()
        arrays = [self._answer(tokens, work.readout) for tokens in sequences]
        outputs = np.zeros((0, 0), dtype=np.float32)
        if readout.kind is ReadoutKind.VECTOR:
            outputs = np.stack(arrays)
            if self.info.normalize if work.normalize is None else work.normalize:
                outputs = normalize(outputs)
            arrays = list(outputs)
        return Result(
            model=self.info.name,
            outputs=outputs,
            tokens=[len(tokens.ids) for tokens in sequences],
            truncated=sum(tokens.is_truncated for tokens in sequences),
            flops=0.0,
            instants=Instants(1.0, 2.0, 3.0, 4.0),
            sequences=sequences,
            arrays=arrays,
        )

    def _answer(self, tokens: Tokens, readout: Readout | None) -> Float32Array:
        feed = {"input_ids": torch.from_numpy(tokens.ids.astype(np.int64))[None]}
        if tokens.type_ids is not None:
            feed["token_type_ids"] = torch.from_numpy(tokens.type_ids.astype(np.int64))[None]
        with torch.no_grad():
            answer = self.model(**feed)
        arrays = {name: answer[name].float().numpy() for name in self._plan.outputs}
        output = Output(arrays, len(tokens.ids), (1, len(tokens.ids)), 3.0, 4.0)
        (kept,) = read(output, self._plan, pack(0, [tokens], [readout]), self.info.pooling or "mean")
        return kept


def _plan(directory: Path, task: str, max_tokens: int) -> Plan:
    return Plan(
        variant="fp32",
        runtime="torch",
        graph=directory,
        precision="fp32",
        threads=1,
        concurrency=1,
        grid=make_grid(max_tokens, max_tokens),
        pad_token_id=0,
        outputs=OUTPUTS[task],
        why="for tests",
        task=task,
    )


def _info(directory: Path, task: str, config: Any, facts: dict[str, Any]) -> ModelInfo:
    has_classes = task in ("text-classification", "token-classification")
    known: dict[str, Any] = {
        "name": "tiny",
        "model_id": "example/tiny",
        "revision": None,
        "task": task,
        "pooling": "mean" if task == "feature-extraction" else None,
        "dim": config.hidden_size,
        "max_tokens": 160,
        "vocab_size": config.vocab_size,
        "variant": "fp32",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "created": 1_700_000_000,
        "replicas": 1,
        "ready_replicas": 1,
        "labels": tuple(config.id2label[index] for index in range(len(config.id2label))) if has_classes else None,
        "problem": config.problem_type,
    }
    return ModelInfo(**known | facts)

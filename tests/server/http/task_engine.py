"""A fake engine for every task: a real tokenizer and readouts around random numbers in place of a model's answers."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import ascii_lowercase, digits, punctuation
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from ridgeline_server.engine.packing import pack
from ridgeline_server.engine.tokenization import TextTokenizer
from ridgeline_server.request import Instants, ModelInfo, Request, Result
from ridgeline_server.runtimes.base import Output, Plan
from ridgeline_server.runtimes.grid import make_grid
from ridgeline_server.runtimes.readouts import read
from ridgeline_server.sequences import OUTPUTS, Float32Array, Readout, ReadoutKind, Tokens
from tests.server.http_fakes import DIM, FakeEngine, model_info

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = tuple(ascii_lowercase + digits + punctuation)
VOCABULARY = (*SPECIAL, *CHARACTERS, *(f"##{character}" for character in CHARACTERS))
MASK_ID = SPECIAL.index("[MASK]")
MAX_TOKENS = 96
NLI = ("entailment", "neutral", "contradiction")
NER = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def models() -> list[ModelInfo]:
    """One of each kind; the first embeds."""
    facts: dict[str, Any] = {
        "max_tokens": MAX_TOKENS,
        "vocab_size": len(VOCABULARY),
        "mask_token": "[MASK]",
        "mask_token_id": MASK_ID,
        "vocabulary": tokenizer().vocabulary,
    }
    classifier: dict[str, Any] = {"task": "text-classification", "pooling": None, **facts}
    return [
        model_info("embedder", prompts={"query": "query: "}, **facts),
        model_info("nli", labels=NLI, problem="single_label_classification", **classifier),
        model_info("ranker", labels=("LABEL_0",), **classifier),
        model_info("ner", task="token-classification", pooling=None, labels=NER, **facts),
        model_info("qa", task="question-answering", pooling=None, **facts),
        model_info("mlm", task="fill-mask", pooling=None, **facts),
    ]


@cache
def tokenizer() -> TextTokenizer:
    """A WordPiece tokenizer that knows every ASCII character."""
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    made = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    made.normalizer = BertNormalizer()
    made.pre_tokenizer = BertPreTokenizer()
    made.decoder = WordPieceDecoder()
    made.add_special_tokens(list(SPECIAL))
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        made.save(str(path))
        return TextTokenizer(path, MAX_TOKENS, len(VOCABULARY))


@dataclass
class TaskEngine(FakeEngine):
    """Answers what the served models could."""

    infos: list[ModelInfo] = field(default_factory=models)

    async def submit(self, request: Request) -> Result:
        self.seen.append(request)
        del self.seen[:-8]
        info = next(info for info in self.infos if info.name == request.model)
        sequences = tokenizer().encode(request.inputs, request.truncate is not False, request.reading)
        readout = request.readout or Readout()
        arrays = [_answer(info, tokens, request.readout) for tokens in sequences]
        is_vector = readout.kind is ReadoutKind.VECTOR
        lengths = [len(tokens.ids) for tokens in sequences]
        now = time.monotonic()
        return Result(
            model=info.name,
            outputs=np.stack(arrays) if is_vector else np.zeros((0, 0), dtype=np.float32),
            tokens=lengths,
            truncated=sum(tokens.is_truncated for tokens in sequences),
            flops=1e6 * sum(lengths),
            instants=Instants(request.received, now, now, now),
            sequences=sequences,
            arrays=arrays,
        )


def _answer(info: ModelInfo, tokens: Tokens, readout: Readout | None) -> Float32Array:
    length = len(tokens.ids)
    widths = {"feature-extraction": DIM, "fill-mask": len(VOCABULARY), "question-answering": 0}
    width = widths.get(info.task, len(info.labels or ()))
    shape = {"text-classification": (1, width), "question-answering": (1, length)}.get(info.task, (1, length, width))
    draw = np.random.default_rng(length)
    arrays = {name: draw.normal(size=shape).astype(np.float32) for name in OUTPUTS[info.task]}
    output = Output(arrays, length, (1, length), 3.0, 4.0)
    (kept,) = read(output, _plan(info.task), pack(0, [tokens], [readout]), info.pooling or "mean")
    return kept


@cache
def _plan(task: str) -> Plan:
    return Plan(
        variant="fp32",
        runtime="random",
        graph=Path(),
        precision="fp32",
        threads=1,
        concurrency=1,
        grid=make_grid(MAX_TOKENS, MAX_TOKENS),
        pad_token_id=0,
        outputs=OUTPUTS[task],
        why="for tests",
        task=task,
    )

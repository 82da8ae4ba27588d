"""Tiny random classifiers, what others make of them, and texts that are not what one expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from ridgeline_server.request import Instants, Result
from tests.models import write_model

MAX_TOKENS = 160
LONG = "the batch of tokens that a server reads, number by number, " * 40
TEXTS = (
    "the server reads a batch of tokens",
    "\U0001f469‍\U0001f469‍\U0001f467 cafe\u0301 naïve ﬁ \U0001f1e9\U0001f1ea",
    "東京 は 雨 です。 مرحبا بالعالم שלום",
    "\ttabs\nand\r\nlines\u00a0\u200b\u2028 \x07",
    " ",
    LONG,
)
PAIRS = (
    ("the server reads", "a batch of tokens"),
    ("東京 は 雨", "\U0001f600 \U0001f600"),
    ("the same text", "the same text"),
    (LONG, "short"),
    ("short", LONG),
    (LONG, LONG[7:]),
)


def write_classifier(directory: Path, name: str, labels: Sequence[str], **config: Any) -> Path:
    """A random model of an architecture with a head for these classes."""
    names = dict(enumerate(labels))
    ids = {label: index for index, label in names.items()}
    return write_model(directory, name, "text-classification", id2label=names, label2id=ids, **config)


def make_pipeline(task: str, directory: Path, **options: Any) -> Any:
    """transformers' pipeline of a model, on the CPU, whose tokenizer cuts at MAX_TOKENS."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, model_max_length=MAX_TOKENS)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory)
    return transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu", **options)


def answered(logits: Any) -> Result:
    """An engine's answer of these logits: [sequences, classes]."""
    outputs = np.array(logits, dtype=np.float32)
    return Result("tiny", outputs, [3] * len(outputs), 0, 0.0, Instants(), arrays=outputs)

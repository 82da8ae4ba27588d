"""A model that is asked texts, whether it runs in PyTorch or as a variant of a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.answers import Model, answers_and_vectors, graph_model, torch_model
from ridgeline_export.bundle import Bundle
from ridgeline_export.errors import ModelError, summary
from ridgeline_export.load import LoadedModel
from ridgeline_export.metrics import pool
from ridgeline_export.tokenizer import Text, TextEncoder
from ridgeline_export.verify import BATCH_TEXTS, mask_one_token_each

if TYPE_CHECKING:
    from tokenizers import Encoding

# A batch of long texts has fewer of them: attention's scores grow with the square of the length.
_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and what turns texts into its answers.

    pooling:        of a model that embeds, else None
    labels:         names of the classes by index; None for a model without classes
    is_multi_label: several classes may be right at once
    is_batch_invariant: a text's answer does not depend on what it is batched with
    """

    model: Model
    encoder: TextEncoder
    task: str
    pooling: str | None
    labels: tuple[str, ...] | None
    is_multi_label: bool
    is_batch_invariant: bool = True

    @property
    def is_score(self) -> bool:
        """True for a classifier of a single number: a reranker or a regression."""
        return self.task == "text-classification" and self.labels is not None and len(self.labels) == 1


def subject_of_model(loaded: LoadedModel) -> Subject:
    """A model in PyTorch."""
    return Subject(
        model=torch_model(loaded.model, loaded.task),
        encoder=loaded.encoder,
        task=loaded.task,
        pooling=loaded.modules.pooling if loaded.modules else None,
        labels=loaded.labels,
        is_multi_label=_is_multi_label(loaded.model.config.to_dict()),
    )


def subject_of_variant(bundle: Bundle, name: str) -> Subject:
    """A padded variant of a bundle on ONNX Runtime.

    Raises ModelError when the bundle's tokenizer cannot be read, ConversionError when ONNX Runtime refuses the graph.
    """
    variant = bundle.variant(name)
    manifest = bundle.manifest
    return Subject(
        model=graph_model(bundle.path / variant.graph),
        encoder=_encoder(bundle, variant.inputs),
        task=manifest.task,
        pooling=(manifest.pooling or "mean") if manifest.task == "feature-extraction" else None,
        labels=manifest.labels,
        is_multi_label=_is_multi_label(json.loads((bundle.path / "config.json").read_text(encoding="utf-8"))),
        is_batch_invariant=variant.batch_invariant,
    )


def answers_of(subject: Subject, texts: Sequence[Text]) -> list[NDArray[Any]]:
    """What a model says to each text, cut down to what it is judged by.

    Texts are batched with others of their length, unless answers depend on the batch: then as they come.
    feature-extraction:   a vector [dim] of unit length, float64
    text-classification:  logits [classes]
    token-classification: names of the tokens' classes [tokens]
    question-answering:   the best answer's first and last token [2]
    fill-mask:            the word piece that is put in the mask's place [1]
    Raises UnsupportedModelError when a tokenizer lacks the mask that fill-mask needs.
    """
    found: list[NDArray[Any]] = []
    mask_token_id = subject.encoder.mask_token_id
    encoded = subject.encoder.encode(texts)
    order = list(range(len(encoded)))
    if subject.is_batch_invariant:
        order.sort(key=lambda index: len(encoded[index].ids))
    for encodings in _batches([encoded[index] for index in order]):
        feed = subject.encoder.pad(encodings)
        if subject.task == "fill-mask":
            mask_one_token_each(feed, encodings, mask_token_id)
        rows, vectors = answers_and_vectors(subject.model, subject.task, [feed], mask_token_id)
        if subject.task == "feature-extraction":
            pooled = pool(rows, subject.pooling or "mean") if vectors is None else vectors.astype(np.float64)
            found += list(pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12))
        else:
            found += [_decision(subject, row) for row in rows]
    return [found[at] for at in np.argsort(order)]


def can_be_asked(subject: Subject, text: Text) -> bool:
    """False for a text of special tokens alone, which leaves nothing to mask or to pool."""
    return 0 in subject.encoder.encode([text])[0].special_tokens_mask


def _batches(encodings: Sequence[Encoding]) -> Iterator[list[Encoding]]:
    """Neighbours together."""
    group: list[Encoding] = []
    for encoding in encodings:
        longest = max(len(each.ids) for each in (*group, encoding))
        if group and (len(group) == BATCH_TEXTS or longest * (len(group) + 1) > _BATCH_TOKENS):
            yield group
            group = []
        group.append(encoding)
    if group:
        yield group


def _decision(subject: Subject, rows: NDArray[np.float32]) -> NDArray[Any]:
    if subject.task == "text-classification":
        return np.asarray(rows[0])
    if not np.isfinite(rows).all():
        return np.array(["not finite"])
    if subject.task == "token-classification":
        names = subject.labels or ()
        return np.array([names[index] if index < len(names) else str(index) for index in rows.argmax(axis=-1)])
    if subject.task == "question-answering":
        return np.asarray(rows.argmax(axis=0))
    return np.array([subject.encoder.backend.id_to_token(int(index)) or "" for index in rows.argmax(axis=-1)])


def _encoder(bundle: Bundle, inputs: tuple[str, ...]) -> TextEncoder:
    from tokenizers import Tokenizer

    try:
        backend = Tokenizer.from_file(str(bundle.path / "tokenizer.json"))
        config = json.loads((bundle.path / "tokenizer_config.json").read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"the tokenizer of bundle {bundle.path} cannot be read: {summary(error)}") from error
    mask = config.get("mask_token")
    return TextEncoder(
        backend=backend,
        input_names=inputs,
        config=config,
        pad_token_id=bundle.manifest.pad_token_id,
        mask_token_id=None if mask is None else backend.token_to_id(str(mask)),
    )


def _is_multi_label(config: dict[str, Any]) -> bool:
    return config.get("problem_type") == "multi_label_classification"

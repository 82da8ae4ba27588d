"""How far a graph's answers are from PyTorch's fp32, and whether that passes the gate."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ridgeline_export.answers import Array, Model, answers, answers_and_vectors, torch_model
from ridgeline_export.bundle import Quality
from ridgeline_export.config import Fp32, PackedFp32, VariantConfig
from ridgeline_export.corpus import Corpus, Split
from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.load import LoadedModel
from ridgeline_export.metrics import compare
from ridgeline_export.tokenizer import Feed, Text

if TYPE_CHECKING:
    from tokenizers import Encoding

BATCH_TEXTS = 8
# Gate of fp32 for models that attend by hashes. No two runtimes round alike, a token whose two best buckets are as good
# to the last bit changes places, and what it meets in its new one moves the tokens of the next layers: PyTorch itself
# gives single tokens other states when its embeddings are disturbed by 1e-6, while whole texts' embeddings stay.
HASHED_QUALITY = 0.999


@dataclass(frozen=True, slots=True)
class Exam:
    """Held-out texts in mixed-length padded batches with PyTorch's answers to them.

    expected:     an array [rows, values] a text, see answers.answers
    odd_batches:  batches of unusual shapes that only fp32 is held to, each with PyTorch's outputs
    """

    loaded: LoadedModel
    corpus_name: str
    batches: tuple[Feed, ...]
    expected: tuple[Array, ...]
    odd_batches: tuple[tuple[Feed, dict[str, Array]], ...]

    def grade(self, config: VariantConfig, model: Model) -> Quality:
        """Run a variant on the exam and judge it by its config's gate."""
        from ridgeline_export.form.attention import is_hashed

        loaded = self.loaded
        given, vectors = answers_and_vectors(model, loaded.task, self.batches, loaded.encoder.mask_token_id)
        metric, figures = compare(loaded, self.expected, given, vectors)
        if isinstance(config, Fp32 | PackedFp32):
            odd = max(
                _largest_error(
                    model(feed)[name],
                    array,
                    feed,
                    has_padding=isinstance(config, Fp32) or loaded.task == "text-classification",
                )
                for feed, outputs in self.odd_batches
                for name, array in outputs.items()
            )
            # Where the graph pools by itself, its vectors are what is served.
            vector = figures["embedding_max_abs_error"] if vectors is not None else 0.0
            figures["max_abs_error"] = float(np.max([figures["max_abs_error"], odd, vector]))
            if is_hashed(loaded.model):
                gate = HASHED_QUALITY
            else:
                metric, gate = "max_abs_error", config.max_abs_error * max(1.0, figures["output_scale"])
        else:
            gate = config.min_quality
        return Quality(
            metric=metric,
            value=figures[metric],
            gate=gate,
            corpus=self.corpus_name,
            texts=len(self.expected),
            details=figures,
        )


def _largest_error(given: Array, expected: Array, feed: Feed, has_padding: bool) -> float:
    """The largest difference of two outputs of a batch; of real tokens alone when the graph saw no padding."""
    difference = np.abs(given - expected)
    mask = feed["attention_mask"]
    if not has_padding and expected.shape[:2] == mask.shape:
        difference = difference[mask == 1]
    return float(difference.max())


def prepare_exam(loaded: LoadedModel, corpus: Corpus, texts: int) -> Exam:
    """Tokenize the corpus's quality split and let PyTorch answer it.

    Raises UnsupportedModelError when the texts cannot be made into the task's questions.
    """
    reference = torch_model(loaded.model, loaded.task)
    batches = _batches(loaded, corpus.take(Split.QUALITY, texts))
    expected = answers(reference, loaded.task, batches, loaded.encoder.mask_token_id)
    odd = tuple((feed, dict(reference(feed))) for feed in _odd_batches(loaded))
    return Exam(loaded, corpus.name, tuple(batches), tuple(expected), odd)


def calibration_batches(loaded: LoadedModel, corpus: Corpus, texts: int) -> list[Feed]:
    """One text a batch: padding would pass for real activations and widen their ranges."""
    encodings = loaded.encoder.encode(questions(loaded, corpus.take(Split.CALIBRATION, texts)))
    return [loaded.encoder.pad([encoding]) for encoding in encodings]


def mixed_calibration_batches(loaded: LoadedModel, corpus: Corpus, texts: int) -> list[Feed]:
    """The calibration split in mixed-length batches, for graphs that never see their padding."""
    return _batches(loaded, corpus.take(Split.CALIBRATION, texts))


def _batches(loaded: LoadedModel, texts: Sequence[str]) -> list[Feed]:
    encodings = loaded.encoder.encode(questions(loaded, texts))
    if loaded.task == "fill-mask":
        # A text of special tokens alone leaves nothing to mask.
        encodings = [encoding for encoding in encodings if 0 in encoding.special_tokens_mask]
    groups = [encodings[at : at + BATCH_TEXTS] for at in range(0, len(encodings), BATCH_TEXTS)]
    batches = [loaded.encoder.pad(group) for group in groups]
    if loaded.task == "fill-mask":
        for feed, group in zip(batches, groups, strict=True):
            mask_one_token_each(feed, group, loaded.encoder.mask_token_id)
    return batches


def mask_one_token_each(feed: Feed, encodings: Sequence[Encoding], mask_token_id: int | None) -> None:
    """Put the mask token in place of one real token of each row, chosen by the text's length alone.

    Raises UnsupportedModelError when there is no mask token. Every encoding must have a token that is not special.
    """
    if mask_token_id is None:
        raise UnsupportedModelError("the tokenizer has no mask token, which task 'fill-mask' needs")
    for row, encoding in enumerate(encodings):
        real = [position for position, special in enumerate(encoding.special_tokens_mask) if not special]
        feed["input_ids"][row, random.Random(len(real)).choice(real)] = mask_token_id


class Asked(Protocol):
    """What decides how texts are put to a model: a loaded model says it, and a bundle's manifest."""

    @property
    def task(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...] | None: ...


def questions(model: Asked, texts: Sequence[str]) -> list[Text]:
    """Texts as the model's task is asked: alone, or in pairs for question answering and rerankers (one label)."""
    if model.task == "question-answering" or (model.labels is not None and len(model.labels) == 1):
        return [(" ".join(text.split()[:12]), texts[index - 1]) for index, text in enumerate(texts)]
    return list(texts)


def _odd_batches(loaded: LoadedModel) -> list[Feed]:
    """Random token ids in shapes that show sizes baked into a graph, up to the model's longest input."""
    shapes = [(1, 1), (1, 2), (3, 7), (5, 33), (2, 129), (1, loaded.max_tokens)]
    generator = np.random.default_rng(0)
    vocabulary = int(loaded.model.get_input_embeddings().num_embeddings)
    batches = []
    for rows, length in shapes:
        if length > loaded.max_tokens:
            continue
        ids = generator.integers(0, vocabulary, (rows, length))
        # Models that count positions from the ids, such as RoBERTa, leave out padding ids wherever they stand.
        ids[ids == loaded.encoder.pad_token_id] = (loaded.encoder.pad_token_id + 1) % vocabulary
        mask = np.ones_like(ids)
        mask[rows // 2, (length + 1) // 2 :] = 0
        feed = {
            "input_ids": np.where(mask == 1, ids, loaded.encoder.pad_token_id),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
        }
        batches.append({name: feed[name] for name in loaded.encoder.input_names})
    return batches

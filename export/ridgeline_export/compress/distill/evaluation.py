"""How near a student's answers are to its teacher's on validation texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.distill.masking import masking_of
from ridgeline_export.compress.distill.seen import Wanted, observe
from ridgeline_export.compress.recover.objective import Judgement
from ridgeline_export.compress.recover.tokens import Tokens, sorted_batches, tokenize
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel
from ridgeline_export.metrics import compare, neighbour_recall, pairwise, spearman

LEAST_TEXTS = 16
# As many as the most validation texts have at 256 tokens each: of long documents some are enough, and all take minutes.
MOST_TOKENS = 2**17
_BATCH_TEXTS = 32
_BY_TOKEN = ("token-classification", "question-answering", "fill-mask")


@dataclass(frozen=True)
class Evaluation:
    """Validation texts with the teacher's answers, in fp32.

    loaded:   says the task and pooling of the student
    expected: what `_answers` gives of the teacher
    labels:   the texts' classes, int64 [texts]; None without
    """

    loaded: LoadedModel
    tokens: Tokens
    expected: list[NDArray[Any]]
    labels: NDArray[np.int64] | None

    def judge(self, model: Any) -> Judgement:
        """Judge a student, in evaluation mode; its training mode is given back afterwards."""
        given = _answers(model, self.loaded, self.tokens)
        if not all(np.isfinite(rows).all() for rows in given):
            name = _figure(self.loaded, self.labels is not None)
            return Judgement(name, float("nan"), {name: float("nan")})
        if self.loaded.task == "feature-extraction":
            return _judge_embeddings(np.concatenate(self.expected), np.concatenate(given))
        if self.loaded.task == "fill-mask":
            agreement = float((np.concatenate(self.expected) == np.concatenate(given)).mean())
            return Judgement("label_agreement", agreement, {"label_agreement": agreement})
        name, figures = compare(self.loaded, self.expected, given)
        figures = {key: figures[key] for key in (name, "largest_logit_difference")}
        if self.labels is not None:
            found = np.array([rows[0].argmax() for rows in given])
            name, figures["accuracy"] = "accuracy", float((found == self.labels).mean())
        return Judgement(name, figures[name], figures)


def make_evaluation(
    teacher: LoadedModel, student: LoadedModel, examples: Sequence[Example], max_tokens: int
) -> Evaluation:
    """An evaluation on these examples, cut to max_tokens; on the first ones when all are over MOST_TOKENS together.

    Raises UsageError when there are too few.
    """
    if len(examples) < LEAST_TEXTS:
        raise UsageError(
            f"the data has {len(examples)} validation texts; judging a student needs at least {LEAST_TEXTS}: "
            "give --data more texts"
        )
    tokens = tokenize(student.encoder, examples, max_tokens)
    kept = max(LEAST_TEXTS, int(np.searchsorted(tokens.offsets, MOST_TOKENS, side="right")) - 1)
    tokens, examples = tokens.first(kept), examples[:kept]
    if student.task == "fill-mask":
        tokens = masking_of(student).fixed(tokens)
    return Evaluation(
        loaded=without_model(student),
        tokens=tokens,
        expected=_answers(teacher.model, teacher, tokens),
        labels=_labels(examples, teacher),
    )


def without_model(loaded: LoadedModel) -> LoadedModel:
    """What is said of a model, without its weights: objectives go to other processes."""
    return dataclasses.replace(loaded, model=SimpleNamespace(config=loaded.model.config))


def class_numbers(examples: Sequence[Example], loaded: LoadedModel) -> list[int] | None:
    """Each example's class by the model's number, -1 for one without a label.

    None when the model chooses no class, no example has a label, or a label is none of the model's.
    """
    names = loaded.labels
    is_multi_label = getattr(loaded.model.config, "problem_type", None) == "multi_label_classification"
    if loaded.task != "text-classification" or names is None or len(names) < 2 or is_multi_label:
        return None
    numbers: dict[str | float | None, int] = {name: number for number, name in enumerate(names)} | {None: -1}
    found = [numbers.get(example.label, -2) for example in examples]
    return None if -2 in found or set(found) <= {-1} else found


def _labels(examples: Sequence[Example], loaded: LoadedModel) -> NDArray[np.int64] | None:
    found = class_numbers(examples, loaded)
    return None if found is None or -1 in found else np.array(found, np.int64)


def _answers(model: Any, loaded: LoadedModel, tokens: Tokens) -> list[NDArray[Any]]:
    """An array a text: [1, dim] or [1, classes], [real tokens, values], or the words [masked] that were filled in."""
    import torch

    found: dict[int, NDArray[Any]] = {}
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for chosen in sorted_batches(tokens.lengths, _BATCH_TEXTS):
            inputs = {name: tensor.to(device) for name, tensor in tokens.batch(chosen).inputs.items()}
            answer = observe(model, loaded, inputs, Wanted()).answer
            is_read = inputs["attention_mask"].bool()
            if loaded.task == "fill-mask":
                is_read &= inputs["input_ids"] == loaded.encoder.mask_token_id
                answer = answer.argmax(dim=-1)
            for row, text in enumerate(chosen):
                rows = answer[row][is_read[row]] if loaded.task in _BY_TOKEN else answer[row][None]
                found[int(text)] = rows.cpu().numpy()
    model.train(was_training)
    return [found[text] for text in range(len(tokens))]


def _judge_embeddings(expected: NDArray[Any], given: NDArray[Any]) -> Judgement:
    a, b = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        for x in (expected.astype(np.float64), given.astype(np.float64))
    )
    figures = {"spearman": spearman(pairwise(a), pairwise(b)), "recall_at_10": neighbour_recall(a, b)}
    if a.shape == b.shape:
        figures["mean_cosine"] = float((a * b).sum(axis=1).mean())
    return Judgement("spearman", figures["spearman"], figures)


def _figure(loaded: LoadedModel, has_labels: bool) -> str:
    if loaded.task == "feature-extraction":
        return "spearman"
    return "accuracy" if has_labels else "label_agreement"

"""Training towards labels: classes, or numbers to regress to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.compress.recover.objective import Batch, Judgement
from ridgeline_export.compress.recover.tokens import Tokens, sorted_batches
from ridgeline_export.metrics import spearman

if TYPE_CHECKING:
    from torch import Tensor, nn

_EVALUATION_TEXTS = 64


@dataclass(slots=True)
class LabelObjective:
    """Cross-entropy for classes (of each by itself where a text may have several), squared error for numbers.

    validation:      with labels
    label_smoothing: share s of each label's weight: a text's target is 1 - s + s / classes for its class and
                     s / classes for the others (Szegedy et al. 2016); without effect on numbers
    """

    validation: Tokens
    label_smoothing: float = 0.0

    @property
    def modules(self) -> nn.Module | None:
        """None: the model's own head is what is trained."""
        return None

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Mean over the batch."""
        from torch.nn import functional

        assert batch.labels is not None, "the training set of labels is tokenized with its labels"
        logits = model(**batch.inputs).logits.float()
        if batch.labels.is_floating_point():
            return functional.mse_loss(logits.squeeze(-1), batch.labels)
        if getattr(model.config, "problem_type", None) == "multi_label_classification":
            # Each class is a question of its own; of a text's classes the data has one.
            wanted = functional.one_hot(batch.labels, logits.shape[-1]).to(logits.dtype)
            return functional.binary_cross_entropy_with_logits(logits, wanted)
        return functional.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)

    def evaluate(self, model: Any) -> Judgement:
        """Classes: accuracy, macro-averaged F1 and cross-entropy. Numbers: Spearman, R² and squared error."""
        labels = self.validation.labels
        assert labels is not None
        logits = _logits(model, self.validation)
        if labels.dtype == np.float32:
            return _judge_numbers(logits[:, 0], labels.astype(np.float64))
        return _judge_classes(logits, labels.astype(np.int64))


def _logits(model: Any, tokens: Tokens) -> NDArray[np.float64]:
    """[texts, classes], in the order of the texts."""
    import torch

    device = next(model.parameters()).device
    made: NDArray[np.float64] | None = None
    for chosen in sorted_batches(tokens.lengths, _EVALUATION_TEXTS):
        inputs = {name: tensor.to(device) for name, tensor in tokens.batch(chosen).inputs.items()}
        with torch.no_grad():
            rows = model(**inputs).logits.double().cpu().numpy()
        if made is None:
            made = np.empty((len(tokens), rows.shape[1]))
        made[chosen] = rows
    assert made is not None, "validation has texts"
    return made


def _judge_classes(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Judgement:
    decided = logits.argmax(axis=1)
    largest = logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
    scores = []
    for number in np.union1d(labels, decided):
        hits = int(((labels == number) & (decided == number)).sum())
        scores.append(2 * hits / int((labels == number).sum() + (decided == number).sum()))
    figures = {
        "accuracy": float((decided == labels).mean()),
        "f1": float(np.mean(scores)),
        "cross_entropy": float((log_sums - logits[np.arange(len(labels)), labels]).mean()),
    }
    return Judgement("accuracy", figures["accuracy"], figures)


def _judge_numbers(given: NDArray[np.float64], labels: NDArray[np.float64]) -> Judgement:
    error = float(((given - labels) ** 2).mean())
    variance = float(labels.var())
    figures = {
        "r2": 1 - error / variance if variance else float("nan"),
        "spearman": spearman(given, labels),
        "squared_error": error,
    }
    return Judgement("r2", figures["r2"], figures)

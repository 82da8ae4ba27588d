"""The loss of a student that learns from a teacher, and its judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.data.data import Data, Example
from ridgeline_export.compress.distill import formulas
from ridgeline_export.compress.distill.evaluation import Evaluation, class_numbers, make_evaluation, without_model
from ridgeline_export.compress.distill.examples import asked
from ridgeline_export.compress.distill.losses import Losses, Weights, weights_of
from ridgeline_export.compress.distill.masking import Masking, masking_of
from ridgeline_export.compress.distill.matching import Matching, make_matching
from ridgeline_export.compress.distill.pair import check_pair
from ridgeline_export.compress.distill.seen import Seen, observe
from ridgeline_export.compress.distill.teacher import Teacher, make_teacher
from ridgeline_export.compress.progress import Progress
from ridgeline_export.compress.recover.objective import Batch, Judgement
from ridgeline_export.compress.recover.tokens import tokenize
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Distillation:
    """An Objective: the weighted sum of the losses that a model of its task can give.

    student:  says the task and pooling; its weights are the loop's
    matching: of layers, and the projections of a narrower student
    masking:  for models that fill in words, which see new masks at every step; else None
    labels:   int64 [training texts], -1 without a label; None when labels are not learned
    """

    student: LoadedModel
    teacher: Teacher
    losses: Losses
    weights: Weights
    matching: Matching
    masking: Masking | None
    labels: Tensor | None
    label_smoothing: float
    evaluation: Evaluation

    @property
    def modules(self) -> nn.Module | None:
        """Projections of a narrower student; None when widths agree."""
        return self.matching.projections

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """The batch's loss."""
        import torch

        inputs: Mapping[str, Tensor] = batch.inputs
        is_read = inputs["attention_mask"].bool()
        if self.masking is not None:
            inputs, is_read = self.masking.apply(inputs)
        theirs = self.teacher.see(inputs, batch.indices)
        ours = observe(model, self.student, inputs, self.matching.student)
        device = ours.answer.device
        with torch.autocast(device.type, enabled=False):
            total = self._answer_loss(ours.answer, theirs.answer, is_read)
            if self.labels is not None and self.weights.label:
                labels = self.labels[batch.indices.cpu()].to(device)
                total = total + self.weights.label * _label_loss(ours.answer, labels, self.label_smoothing)
            return total + self._layer_loss(ours, theirs, inputs["attention_mask"].bool())

    def evaluate(self, model: Any) -> Judgement:
        """Judge the model on validation texts, in fp32."""
        return self.evaluation.judge(model)

    def _answer_loss(self, ours: Tensor, theirs: Tensor, is_read: Tensor) -> Tensor:
        weights, losses = self.weights, self.losses
        total = ours.sum() * 0
        if weights.embedding:
            projected = self.matching.project_embedding(ours)
            total = total + weights.embedding * formulas.embedding_loss(projected, theirs, losses.embedding_distance)
        if weights.similarity:
            total = total + weights.similarity * formulas.similarity_loss(ours, theirs)
        if weights.neighbour:
            total = total + weights.neighbour * formulas.neighbour_loss(ours, theirs, losses.neighbour_temperature)
        if weights.logit:
            total = total + weights.logit * self._logit_loss(ours, theirs, is_read)
        return total

    def _logit_loss(self, ours: Tensor, theirs: Tensor, is_read: Tensor) -> Tensor:
        task, temperature = self.student.task, self.losses.temperature
        if task == "question-answering":  # where the answer starts, and where it ends: a choice of a token each
            rows = [
                tensor.masked_fill(~is_read.unsqueeze(-1), float("-inf")).transpose(1, 2).flatten(0, 1)
                for tensor in (ours, theirs)
            ]
            return formulas.logit_loss(rows[0], rows[1], temperature)
        if task in ("token-classification", "fill-mask"):
            return formulas.logit_loss(ours[is_read], theirs[is_read], temperature)
        if ours.shape[-1] == 1:  # a score, not a choice
            return formulas.embedding_loss(ours, theirs, "mse")
        if getattr(self.student.model.config, "problem_type", None) == "multi_label_classification":
            return formulas.multi_label_loss(ours, theirs, temperature)
        return formulas.logit_loss(ours, theirs, temperature)

    def _layer_loss(self, ours: Seen, theirs: Seen, mask: Tensor) -> Tensor:
        weights = self.weights
        total = ours.answer.sum() * 0
        if weights.hidden:
            pairs = zip(ours.hidden, theirs.hidden, strict=True)
            each = [
                formulas.hidden_loss(self.matching.project_hidden(at, states), target, mask)
                for at, (states, target) in enumerate(pairs)
            ]
            total = total + weights.hidden * sum(each) / len(each)
        if weights.attention:
            each = [
                formulas.attention_loss(scores, target, visible & seen)
                for (scores, visible), (target, seen) in zip(ours.scores, theirs.scores, strict=True)
            ]
            total = total + weights.attention * sum(each) / len(each)
        if weights.relation:
            triples = zip(ours.relations, theirs.relations, self.matching.relation_heads, strict=True)
            each = [formulas.relation_loss(states, target, mask, heads) for states, target, heads in triples]
            total = total + weights.relation * sum(each) / len(each)
        return total


def make_objective(
    teacher: LoadedModel,
    student: LoadedModel,
    losses: Losses,
    data: Data,
    training: Training,
    directory: Path,
    progress: Progress,
    *,
    examples: Sequence[Example] | None = None,
) -> Distillation:
    """What a student is trained by to answer as a teacher does.

    teacher:   in evaluation mode; shares no weights with the student's model
    student:   as training begins: narrower ones' projections are fitted to it
    directory: the teacher's outputs are kept there, and used again by the same command after a kill
    examples:  what the loop trains on, in the loop's order; data.training when not given
    Raises UsageError for a student that cannot learn from this teacher, for losses that the two cannot give, and for
    too little text.
    """
    chosen = data.training if examples is None else examples
    if not chosen:
        raise UsageError("the data has no training texts; give --data more texts")
    tokens = tokenize(student.encoder, chosen, training.max_tokens)
    check_pair(teacher, student, int(tokens.lengths.max()))
    labels = class_numbers(chosen, teacher)
    weights = weights_of(losses, teacher, labels is not None)
    evaluation = make_evaluation(teacher, student, asked(student, data.validation), training.max_tokens)
    matching = make_matching(teacher, student, losses, weights, tokens)
    source = make_teacher(
        teacher, matching.teacher, tokens, training, directory, progress, losses.teacher_cache_gb * 1e9
    )
    teacher.model.to("cpu")
    return Distillation(
        student=without_model(student),
        teacher=source,
        losses=losses,
        weights=weights,
        matching=matching,
        masking=masking_of(student) if student.task == "fill-mask" else None,
        labels=_tensor(labels) if weights.label and labels is not None else None,
        label_smoothing=training.label_smoothing,
        evaluation=evaluation,
    )


def _tensor(labels: Sequence[int]) -> Tensor:
    import torch

    return torch.tensor(labels)


def _label_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy, mean over the batch's texts that have a label."""
    import torch.nn.functional as F

    total = F.cross_entropy(logits, labels, ignore_index=-1, label_smoothing=smoothing, reduction="sum")
    return total / (labels >= 0).sum().clamp(min=1)

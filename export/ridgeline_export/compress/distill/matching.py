"""Which of a teacher's layers a student's layers learn from, and how their widths are brought together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ridgeline_export.compress.distill.capture import capture
from ridgeline_export.compress.distill.losses import Losses, Weights, check_layer, map_layers
from ridgeline_export.compress.distill.projection import fit_projection
from ridgeline_export.compress.distill.seen import Seen, Wanted, observe
from ridgeline_export.compress.recover.tokens import Tokens, sorted_batches
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

# Texts that projections are fitted on.
_FIT_TEXTS = 512
_EMBEDDING, _HIDDEN = "embedding", "hidden"


@dataclass(frozen=True)
class Matching:
    """What is compared with what.

    teacher, student: what is wanted of their passes, element by element
    relation_heads:   for queries, keys and values
    projections:      of a narrower student's embeddings and states; None when widths agree
    """

    teacher: Wanted
    student: Wanted
    relation_heads: tuple[int, ...]
    projections: nn.ModuleDict | None
    normalizes: bool

    def project_embedding(self, embeddings: Tensor) -> Tensor:
        """A student's embeddings [batch, dim] in the teacher's width, of unit length where the model's are."""
        import torch.nn.functional as F

        if self.projections is None or _EMBEDDING not in self.projections:
            return embeddings
        projected: Tensor = self.projections[_EMBEDDING](embeddings.float())
        return F.normalize(projected, dim=-1) if self.normalizes else projected

    def project_hidden(self, at: int, states: Tensor) -> Tensor:
        """A student's states [batch, sequence, width], the at-th that are compared, in the teacher's width."""
        name = f"{_HIDDEN}_{at}"
        if self.projections is None or name not in self.projections:
            return states
        projected: Tensor = self.projections[name](states.float())
        return projected


def make_matching(
    teacher: LoadedModel, student: LoadedModel, losses: Losses, weights: Weights, tokens: Tokens
) -> Matching:
    """Match a student that is about to be trained with its teacher.

    tokens: training texts
    Raises UsageError when the losses cannot be computed between the two.
    """
    shortest = tokens.batch([int(tokens.lengths.argmin())]).inputs
    wanted = _wanted(teacher, student, losses, weights, shortest)
    ours, theirs = _see(student, shortest, wanted[1]), _see(teacher, shortest, wanted[0])
    _check_answers(teacher, student, ours, theirs)
    for (scores, _), (target, _) in zip(ours.scores, theirs.scores, strict=True):
        if scores.shape != target.shape:
            raise UsageError(
                f"attention_loss compares head by head, but the student has {scores.shape[1]} heads where the teacher "
                f"has {target.shape[1]}; use relation_loss, which takes any number of heads"
            )
    heads = tuple(
        _relation_heads(losses.relation_heads, int(a.shape[-1]), int(b.shape[-1]), _attention_heads(teacher))
        for a, b in zip(ours.relations, theirs.relations, strict=True)
    )
    return Matching(
        teacher=wanted[0],
        student=wanted[1],
        relation_heads=heads,
        projections=_projections(teacher, student, weights, wanted, ours, theirs, tokens),
        normalizes=bool(student.modules and student.modules.normalize),
    )


def _wanted(
    teacher: LoadedModel, student: LoadedModel, losses: Losses, weights: Weights, inputs: dict[str, Tensor]
) -> tuple[Wanted, Wanted]:
    """Of the teacher's pass, and of the student's."""
    if not (weights.hidden or weights.attention or weights.relation):
        return Wanted(), Wanted()
    of_teacher, of_student = (_layers(loaded, inputs) for loaded in (teacher, student))
    learned = map_layers(losses, of_teacher, of_student)
    hidden = attention = relation = (Wanted(), Wanted())
    last = of_teacher - 1 if losses.relation_layer is None else losses.relation_layer
    check_layer("relation_layer", [last], of_teacher)
    if weights.hidden:
        # The embeddings' output from the embeddings' output, as TinyBERT does.
        hidden = (
            Wanted(hidden=(0, *(number + 1 for number in learned))),
            Wanted(hidden=tuple(range(of_student + 1))),
        )
    if weights.attention:
        attention = (Wanted(scores=learned), Wanted(scores=tuple(range(of_student))))
    if weights.relation:
        relation = (Wanted(relation=last), Wanted(relation=of_student - 1))
    first, second = (
        Wanted(h.hidden, a.scores, r.relation) for h, a, r in zip(hidden, attention, relation, strict=True)
    )
    return first, second


def _layers(loaded: LoadedModel, inputs: dict[str, Tensor]) -> int:
    """How many layers a pass goes through, shared ones counted as often as they are used."""
    import torch

    device = next(loaded.model.parameters()).device
    with torch.no_grad(), capture(loaded.model, hidden=True, attention=False) as captured:
        loaded.model(**{name: tensor.to(device) for name, tensor in inputs.items()})
    return len(captured.hidden) - 1


def _see(loaded: LoadedModel, inputs: dict[str, Tensor], wanted: Wanted) -> Seen:
    import torch

    model = loaded.model
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        seen = observe(model, loaded, {name: tensor.to(device) for name, tensor in inputs.items()}, wanted)
    model.train(was_training)
    return seen


def _check_answers(teacher: LoadedModel, student: LoadedModel, ours: Seen, theirs: Seen) -> None:
    if teacher.task != "feature-extraction" and ours.answer.shape != theirs.answer.shape:
        raise UsageError(
            f"the student's answers have {ours.answer.shape[-1]} values where the teacher's have "
            f"{theirs.answer.shape[-1]}; both must have the same labels or vocabulary"
        )


def _attention_heads(loaded: LoadedModel) -> int:
    return int(getattr(loaded.model.config, "num_attention_heads", 1))


def _relation_heads(given: int | None, ours: int, theirs: int, heads: int) -> int:
    """The heads that were asked for, else as many as the teacher has, or the most below that divide both widths."""
    shared = math.gcd(ours, theirs)
    if given is not None:
        if shared % given:
            raise UsageError(
                f"relation_heads is {given}, which must divide the student's {ours} and the teacher's {theirs} "
                f"dimensions of queries, keys and values; give a divisor of {shared}"
            )
        return given
    return max(number for number in range(1, min(heads, shared) + 1) if shared % number == 0)


def _projections(
    teacher: LoadedModel,
    student: LoadedModel,
    weights: Weights,
    wanted: tuple[Wanted, Wanted],
    ours: Seen,
    theirs: Seen,
    tokens: Tokens,
) -> nn.ModuleDict | None:
    """Projections for what differs in width, fitted on some training texts."""
    from torch import nn

    has_embedding = bool(weights.embedding) and ours.answer.shape[-1] != theirs.answer.shape[-1]
    places = [
        at for at, (a, b) in enumerate(zip(ours.hidden, theirs.hidden, strict=True)) if a.shape[-1] != b.shape[-1]
    ]
    if not has_embedding and not places:
        return None
    pairs = _fit_pairs(teacher, student, wanted, tokens)
    found = nn.ModuleDict()
    if has_embedding:
        found[_EMBEDDING] = _fit([(a.answer, b.answer) for a, b, _ in pairs])
    for at in places:
        found[f"{_HIDDEN}_{at}"] = _fit([(a.hidden[at][mask], b.hidden[at][mask]) for a, b, mask in pairs])
    return found


def _fit_pairs(
    teacher: LoadedModel, student: LoadedModel, wanted: tuple[Wanted, Wanted], tokens: Tokens
) -> list[tuple[Seen, Seen, Tensor]]:
    lengths = tokens.lengths[:_FIT_TEXTS]
    pairs = []
    for chosen in sorted_batches(lengths, 64):
        inputs = tokens.batch(chosen).inputs
        pairs.append((_see(student, inputs, wanted[1]), _see(teacher, inputs, wanted[0]), inputs["attention_mask"] > 0))
    return pairs


def _fit(pairs: Sequence[tuple[Tensor, Tensor]]) -> nn.Linear:
    import torch

    return fit_projection(torch.cat([a.cpu() for a, _ in pairs]), torch.cat([b.cpu() for _, b in pairs]))

"""What a student is asked to match of its teacher: settings, and their weights for a model of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ridgeline_export.compress.setting import setting
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel

DISTANCES = ("cosine", "mse")
_EMBEDDING_LOSSES = ("embedding_loss", "similarity_loss", "neighbour_loss")
_DEFAULTS = {"embedding_loss": 1.0, "similarity_loss": 1.0, "logit_loss": 1.0, "label_loss": 0.5}


@dataclass(frozen=True, slots=True)
class Losses:
    """Weights of the losses that are added up, and their numbers; the formulas are in formulas.py."""

    embedding_loss: float | None = setting(
        None, help="Weight of the distance of embeddings; 1 for embedding models when not given.", least=0
    )
    embedding_distance: str = setting(
        "cosine", help="Of embeddings: cosine, or mse, which also matches their length.", choices=DISTANCES
    )
    similarity_loss: float | None = setting(
        None, help="Weight of the squared error of a batch's pairwise cosines; 1 for embedding models.", least=0
    )
    neighbour_loss: float | None = setting(
        None, help="Weight of the divergence of which texts of a batch are near each text; 0 when not given.", least=0
    )
    neighbour_temperature: float = setting(0.05, help="Of the neighbour loss: lower looks at the nearest.", above=0)
    logit_loss: float | None = setting(
        None, help="Weight of the divergence of softened logits; 1 for models with logits when not given.", least=0
    )
    temperature: float = setting(2.0, help="Softens the logits of teacher and student.", above=0)
    label_loss: float | None = setting(
        None,
        help="Weight of the labels' own loss; 0.5 when the data has the classifier's labels and this is not given.",
        least=0,
    )
    hidden_loss: float = setting(0.0, help="Weight of the error of the layers' states.", least=0)
    attention_loss: float = setting(0.0, help="Weight of the error of attention scores, head by head.", least=0)
    relation_loss: float = setting(
        0.0, help="Weight of the divergence of query, key and value relations; heads and widths may differ.", least=0
    )
    relation_heads: int | None = setting(
        None,
        help="Heads that relations are computed in; as many as the teacher's attention heads if possible.",
        least=1,
    )
    relation_layer: int | None = setting(
        None, help="Teacher layer, from 0, whose relations the student's last layer learns; the last.", least=0
    )
    teacher_layers: tuple[int, ...] | None = setting(
        None, help="Teacher layer, from 0, that each student layer learns from; evenly spread when not given.", least=0
    )
    teacher_cache_gb: float = setting(
        4.0, help="Disk for the teacher's answers and states; what does not fit is computed at every step.", least=0
    )


@dataclass(frozen=True, slots=True)
class Weights:
    """The losses of one model; 0 for those that are not computed."""

    embedding: float
    similarity: float
    neighbour: float
    logit: float
    label: float
    hidden: float
    attention: float
    relation: float


def weights_of(losses: Losses, teacher: LoadedModel, has_labels: bool) -> Weights:
    """The weights for a model of the teacher's task, defaults filled in.

    has_labels: the training data has labels, and they are the teacher's classes
    Raises UsageError for a loss that such a model cannot give, and when nothing is left to learn.
    """
    embeds = teacher.task == "feature-extraction"
    given: dict[str, float | None] = {name: getattr(losses, name) for name in (*_EMBEDDING_LOSSES, "logit_loss")}
    _refuse(given, ("logit_loss",) if embeds else _EMBEDDING_LOSSES, _kind(embeds))
    if losses.label_loss and not has_labels:
        raise UsageError(
            f"label_loss is {losses.label_loss:g}, but the training texts have no labels that this model "
            f"({teacher.task}) has as classes; leave it out, or give --data with those labels"
        )
    chosen = {
        name: (0.0 if value is None and name not in _DEFAULTS else _DEFAULTS[name] if value is None else value)
        for name, value in given.items()
    }
    label = losses.label_loss
    weights = Weights(
        embedding=chosen["embedding_loss"] if embeds else 0.0,
        similarity=chosen["similarity_loss"] if embeds else 0.0,
        neighbour=chosen["neighbour_loss"] if embeds else 0.0,
        logit=0.0 if embeds else chosen["logit_loss"],
        label=(_DEFAULTS["label_loss"] if label is None else label) if has_labels else 0.0,
        hidden=losses.hidden_loss,
        attention=losses.attention_loss,
        relation=losses.relation_loss,
    )
    if not any(getattr(weights, name) for name in Weights.__slots__):
        raise UsageError("all losses have weight 0; give at least one a weight above 0")
    return weights


def map_layers(losses: Losses, teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """Number of the teacher's layer, from 0, that each student layer learns from.

    Spread evenly, the last from the last: student layer s of S learns from teacher layer ceil(s · T / S), both counted
    from 1 (TinyBERT, Jiao et al. 2020, section 3).
    Raises UsageError when the layers that were given do not fit.
    """
    given = losses.teacher_layers
    if given is None:
        return tuple(-(-(number + 1) * teacher_layers // student_layers) - 1 for number in range(student_layers))
    if len(given) != student_layers:
        raise UsageError(
            f"teacher_layers names {len(given)} layers, but the student has {student_layers}; give one for each"
        )
    check_layer("teacher_layers", given, teacher_layers)
    return given


def check_layer(name: str, given: Sequence[int], teacher_layers: int) -> None:
    """Raises UsageError when a teacher has no such layers."""
    wrong = [number for number in given if number >= teacher_layers]
    if wrong:
        raise UsageError(
            f"{name} names layer {wrong[0]}, but the teacher has {teacher_layers} layers: 0 to {teacher_layers - 1}"
        )


def _kind(embeds: bool) -> str:
    return "an embedding model, which has no logits" if embeds else "no embedding model"


def _refuse(given: Mapping[str, float | None], names: Sequence[str], kind: str) -> None:
    for name in names:
        if given[name]:
            raise UsageError(
                f"{name} is {given[name]:g}, but the teacher is {kind}; leave it out: the losses that suit the model "
                "are chosen by themselves"
            )

"""One pass of a teacher or a student: its answer, and of its layers what the losses compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.distill.capture import capture
from ridgeline_export.convert import OUTPUTS
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel
from ridgeline_export.sentence_modules import SentenceModules

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a model's layers is compared.

    hidden:   numbers of states: 0 is the first layer's input, n the output of layer n, counted from 1
    scores:   layers, from 0, whose attention scores are compared
    relation: the layer, from 0, whose queries, keys and values are compared; None for no relations
    """

    hidden: tuple[int, ...] = ()
    scores: tuple[int, ...] = ()
    relation: int | None = None

    @property
    def has_attention(self) -> bool:
        return bool(self.scores) or self.relation is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a pass, in the order that was wanted.

    answer:    embeddings [batch, dim] as they are served; logits [batch, classes]; token by token [batch, sequence,
               values] with a question's start and end logits as two values
    hidden:    [batch, sequence, width] each
    scores:    pairs of attention scores and of which of them are real, [batch, heads, sequence, sequence] each
    relations: queries, keys and values [batch, sequence, heads · head_dim]; empty when not wanted
    """

    answer: Tensor
    hidden: tuple[Tensor, ...] = ()
    scores: tuple[tuple[Tensor, Tensor], ...] = ()
    relations: tuple[Tensor, ...] = ()


def observe(model: Any, loaded: LoadedModel, inputs: Mapping[str, Tensor], wanted: Wanted) -> Seen:
    """Run a model on a padded batch.

    model:  the model itself, or torch's wrapper of it for several devices
    loaded: says its task and pooling; its own model is not run
    Raises UsageError when the model does not show what is wanted.
    """
    own = getattr(model, "module", model)
    mask = inputs["attention_mask"].bool()
    with capture(own, hidden=bool(wanted.hidden), attention=wanted.has_attention) as captured:
        outputs = model(**inputs)
    if wanted.has_attention and not captured.attentions:
        raise UsageError(
            f"'{own.config.model_type}' models compute attention themselves, where it cannot be observed; "
            "leave out attention_loss and relation_loss: hidden_loss and the losses of the answers work"
        )
    last = len(captured.attentions) - 1
    if wanted.has_attention and last < max((*wanted.scores, wanted.relation or 0)):
        raise UsageError(
            f"'{own.config.model_type}' models have layers without attention that could be observed; "
            "leave out attention_loss and relation_loss"
        )
    relations: tuple[Tensor, ...] = ()
    if wanted.relation is not None:
        call = captured.attentions[wanted.relation]
        relations = tuple(each.transpose(1, 2).flatten(2) for each in (call.query, call.key, call.value))
    return Seen(
        answer=answer_of(loaded, outputs, mask),
        hidden=tuple(captured.hidden[number] for number in wanted.hidden),
        scores=tuple(
            (captured.attentions[layer].scores(), captured.attentions[layer].visible(mask)) for layer in wanted.scores
        ),
        relations=relations,
    )


def answer_of(loaded: LoadedModel, outputs: Mapping[str, Tensor], mask: Tensor) -> Tensor:
    """What the task reads of a model's outputs, fp32; see Seen.answer."""
    import torch

    tensors = [outputs[name].float() for name in OUTPUTS[loaded.task]]
    if loaded.modules is not None:
        return pooled(tensors[0], mask, loaded.modules)
    return torch.stack(tensors, dim=-1) if loaded.task == "question-answering" else tensors[0]


def pooled(hidden: Tensor, mask: Tensor, modules: SentenceModules) -> Tensor:
    """Embeddings [batch, dim] as the model declares them, of its states [batch, sequence, dim], padded on the right."""
    import torch
    import torch.nn.functional as F

    if modules.pooling == "mean":
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        vectors = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    elif modules.pooling == "max":
        vectors = hidden.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
    else:
        place = mask.sum(dim=1) - 1 if modules.pooling == "last" else torch.zeros_like(mask[:, 0], dtype=torch.int64)
        vectors = hidden[torch.arange(len(hidden), device=hidden.device), place]
    return F.normalize(vectors, dim=-1) if modules.normalize else vectors

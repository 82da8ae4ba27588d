"""How much the model would lose with each head and each channel, by its weights or by what it answers to texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.prune.answers import Answers, Question, ask, divergence, loss, questions, surprise
from ridgeline_export.compress.prune.gates import Gates
from ridgeline_export.form.layout import Cut, LayerLayout, Layout
from ridgeline_export.load import LoadedModel


def by_magnitude(layout: Layout) -> list[Tensor]:
    """Sum of squares of all weights that go with a unit: the square of how far the weights move.

    returns float32 [units] of each layer's heads, then of each layer's channels
    """
    return [_heads(layer) for layer in layout.layers] + [_channels(layer) for layer in layout.layers]


@dataclass(slots=True)
class Taylor:
    """Importance by what removing a unit does to the answers, expanded to the second order in its gate.

    With g the mean gradient of the loss by the gate and F its Fisher information, the mean squared gradient of answers
    that are drawn from the model's own distribution, closing an open gate costs F / 2 - g. The loss is that of labels,
    where the texts have the model's, else the divergence from the teacher's answers. That is least at the teacher
    itself, so there g = 0 and F alone tells; once gates are closed or weights trained, g says what remains to lose.
    (First order: Molchanov et al., arXiv 1906.10771; the Fisher information of gates: Kwon et al., arXiv 2204.09656,
    Theis et al., arXiv 1801.05787; drawn answers rather than labels in F: Kunstner et al., arXiv 1905.12558.)

    teacher:  the model before anything was removed
    examples: texts to measure on
    """

    teacher: LoadedModel
    examples: Sequence[Example]
    max_tokens: int
    seed: int

    def measure(self, loaded: LoadedModel, gates: Gates) -> list[Tensor]:
        """Importances with the gates, which are installed, as they are; those of closed ones mean nothing.

        returns float32 [units], on the CPU, of each layer's heads, then of each layer's channels
        """
        model = loaded.model
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)
        before = gates.values
        sums = [torch.zeros(len(values), device=device) for values in before]
        was_training = model.training
        model.eval()
        for question in questions(loaded, self.examples, self.max_tokens, self.seed, device):
            texts = len(question.rows)
            leaves = [values.detach().to(device).repeat(texts, 1).requires_grad_() for values in before]
            gates.set(leaves)
            answers = ask(loaded, model, question)
            slopes = _gradients(self._loss(answers, question), leaves)
            draws = _gradients(surprise(answers, generator), leaves)
            for total, slope, drawn in zip(sums, slopes, draws, strict=True):
                total += (drawn.square() / 2 - slope).sum(0)
        gates.set(before)
        model.train(was_training)
        return [total.cpu() / len(self.examples) for total in sums]

    def _loss(self, answers: Answers, question: Question) -> Tensor:
        if question.labels is not None:
            return loss(answers, question.labels)
        with torch.no_grad():
            reference = ask(self.teacher, self.teacher.model.to(question.rows.device), question)
        return divergence(answers, reference)


def _gradients(each: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(each.sum(), leaves, retain_graph=True))


def _heads(layer: LayerLayout) -> Tensor:
    """Keys and values that several heads share count once."""
    size = layer.heads_per_unit
    units = [layer.head_cuts[first : first + size] for first in range(0, layer.heads, size)]
    return torch.stack([_squares_of(_joined([cut for head in unit for cut in head])) for unit in units])


def _channels(layer: LayerLayout) -> Tensor:
    return torch.stack([_squares(cut)[cut.index] for cut in layer.channel_cuts]).sum(0)


def _joined(cuts: Sequence[Cut]) -> list[Cut]:
    """Cuts without rows or columns that another one has too."""
    found: dict[tuple[int, int], list[Cut]] = {}
    for cut in cuts:
        found.setdefault((id(cut.module), cut.dim), []).append(cut)
    merged = []
    for same in found.values():
        index: Tensor = torch.unique(torch.cat([cut.index for cut in same]))
        merged.append(Cut(same[0].module, same[0].dim, index))
    return merged


def _squares_of(cuts: Sequence[Cut]) -> Tensor:
    return torch.stack([_squares(cut)[cut.index].sum() for cut in cuts]).sum()


def _squares(cut: Cut) -> Tensor:
    """Sums of squares of each row, its bias with it, or of each column."""
    weight = cut.module.weight.detach().float().cpu()
    sums = weight.square().sum(1 - cut.dim)
    if cut.dim == 0 and cut.module.bias is not None:
        sums = sums + cut.module.bias.detach().float().cpu().square()
    return sums

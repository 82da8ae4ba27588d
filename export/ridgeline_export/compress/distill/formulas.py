"""The losses themselves: what a student's outputs differ from its teacher's by, in fp32, means over what is real.

mask: bool [batch, sequence], True = real token. A teacher's tensors carry no gradients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def embedding_loss(student: Tensor, teacher: Tensor, distance: str) -> Tensor:
    """Distance of embeddings [batch, dim]: mean of 1 - cosine, or mean squared error."""
    import torch.nn.functional as F

    if distance == "mse":
        return F.mse_loss(student.float(), teacher.float())
    return (1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)).mean()


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of the cosines of all pairs of different texts (Park et al. 2019, relational distillation).

    student, teacher: [batch, dim]; the widths may differ. 0 for a batch of one text.
    """
    import torch

    ours, theirs = _cosines(student), _cosines(teacher)
    pairs = ~torch.eye(len(ours), dtype=torch.bool, device=ours.device)
    return (ours - theirs)[pairs].square().sum() / pairs.sum().clamp(min=1)


def neighbour_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) of softmax(cosines / temperature) over each text's others, mean over texts.

    The teacher's neighbourhoods as soft targets (SEED, Fang et al. 2021, with the batch as the queue).
    student, teacher: [batch, dim]; the widths may differ. 0 for fewer than two texts.
    """
    import torch

    ours, theirs = _cosines(student), _cosines(teacher)
    if len(ours) < 2:
        return ours.sum() * 0
    pairs = ~torch.eye(len(ours), dtype=torch.bool, device=ours.device)
    rows = (len(ours), len(ours) - 1)
    return _divergence(ours[pairs].view(rows) / temperature, theirs[pairs].view(rows) / temperature).mean()


def logit_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), mean over rows (Hinton et al. 2015).

    student, teacher: [rows, classes]; -inf marks what is no class in either
    """
    if not len(student):
        return student.sum() * 0
    return temperature**2 * _divergence(student.float() / temperature, teacher.float() / temperature).mean()


def multi_label_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The same for labels that are independent: T² · KL of two-way choices, mean over rows [rows, labels]."""
    import torch.nn.functional as F

    ours, theirs = student.float() / temperature, teacher.float() / temperature
    target = theirs.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(theirs, target)
    return temperature**2 * (F.binary_cross_entropy_with_logits(ours, target) - entropy)


def hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared error of real tokens' states [batch, sequence, width] ÷ the teacher's mean square.

    Romero et al. 2015; relative, so that layers of any scale weigh the same.
    """
    ours, theirs = student.float()[mask], teacher.float()[mask]
    return (ours - theirs).square().sum() / theirs.square().sum().clamp(min=1e-12)


def attention_loss(student: Tensor, teacher: Tensor, visible: Tensor) -> Tensor:
    """Mean squared error of attention scores before the softmax (TinyBERT, Jiao et al. 2020, equation 7).

    student, teacher: [batch, heads, sequence, sequence]; visible: bool [batch, 1 or heads, sequence, sequence], the
    pairs of a query and a key of real tokens that see each other
    """
    seen = visible.expand_as(student)
    difference = (student.float() - teacher.float()).masked_fill(~seen, 0.0)
    return difference.square().sum() / seen.sum().clamp(min=1)


def relation_loss(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """KL(teacher ‖ student) of softmax(X Xᵀ / √d) in each relation head (MiniLMv2, Wang et al. 2021, equation 4).

    student, teacher: [batch, sequence, width], all heads' queries (or keys, or values) beside each other; widths may
    differ, and heads divides both. Mean over heads and real tokens.
    """
    ours, theirs = _relations(student, mask, heads), _relations(teacher, mask, heads)
    rows = mask[:, None, :].expand(-1, heads, -1)
    return _divergence(ours[rows], theirs[rows]).mean()


def _cosines(embeddings: Tensor) -> Tensor:
    import torch.nn.functional as F

    unit = F.normalize(embeddings.float(), dim=-1)
    return unit @ unit.T


def _relations(states: Tensor, mask: Tensor, heads: int) -> Tensor:
    """[batch, heads, sequence, sequence]; -inf where the other token is padding."""
    batch, length, width = states.shape
    split = states.float().view(batch, length, heads, width // heads).transpose(1, 2)
    scores = split @ split.transpose(-1, -2) / math.sqrt(width // heads)
    return scores.masked_fill(~mask[:, None, None, :], -math.inf)


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """KL(softmax(theirs) ‖ softmax(ours)) of each row [rows]; what is -inf in both counts nothing."""
    absent = theirs == -math.inf
    target = theirs.log_softmax(dim=-1)
    difference = (target - ours.log_softmax(dim=-1)).masked_fill(absent, 0.0)
    return (target.exp() * difference).sum(dim=-1)

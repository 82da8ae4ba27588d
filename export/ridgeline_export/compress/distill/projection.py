"""Maps from a narrower student's states to its teacher's width, trained along and dropped in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

# Of the mean variance of the student's states: enough for fewer texts than dimensions.
_RIDGE = 0.01


def fit_projection(student: Tensor, teacher: Tensor) -> nn.Linear:
    """The linear map that takes a student's states [rows, width] closest to its teacher's [rows, wider].

    Ridge regression on the states before any training: a random map would first have to be learned, and would meanwhile
    pull the student to where it points.
    """
    import torch
    from torch import nn

    ours, theirs = student.double().cpu(), teacher.double().cpu()
    our_mean, their_mean = ours.mean(dim=0), theirs.mean(dim=0)
    ours, theirs = ours - our_mean, theirs - their_mean
    gram = ours.T @ ours
    ridge = _RIDGE * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram + ridge, ours.T @ theirs)
    with torch.random.fork_rng(devices=[]):  # nn.Linear draws weights that are overwritten at once
        linear = nn.Linear(ours.shape[1], theirs.shape[1])
    with torch.no_grad():
        linear.weight.copy_(weight.T)
        linear.bias.copy_(their_mean - our_mean @ weight)
    return linear

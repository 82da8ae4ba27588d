from __future__ import annotations

import math

import pytest
import torch

from ridgeline_export.compress.distill import formulas

GENERATOR = torch.Generator().manual_seed(0)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def kl(theirs: list[float], ours: list[float]) -> float:
    p, q = softmax(theirs), softmax(ours)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / a.norm() / b.norm())


def test_distance_of_embeddings() -> None:
    ours, theirs = random(4, 6), random(4, 6)
    by_hand = sum(1 - cosine(a, b) for a, b in zip(ours, theirs, strict=True)) / 4
    assert formulas.embedding_loss(ours, theirs, "cosine").item() == pytest.approx(by_hand, rel=1e-5)
    squares = [(float(a) - float(b)) ** 2 for a, b in zip(ours.flatten(), theirs.flatten(), strict=True)]
    assert formulas.embedding_loss(ours, theirs, "mse").item() == pytest.approx(sum(squares) / 24, rel=1e-5)


def test_similarities_of_texts_whatever_the_widths() -> None:
    ours, theirs = random(4, 6), random(4, 9)
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    by_hand = sum((cosine(ours[a], ours[b]) - cosine(theirs[a], theirs[b])) ** 2 for a, b in pairs) / len(pairs)
    assert formulas.similarity_loss(ours, theirs).item() == pytest.approx(by_hand, rel=1e-5)
    assert formulas.similarity_loss(ours[:1], theirs[:1]).item() == 0.0


def test_neighbours_of_texts_leave_out_the_text_itself() -> None:
    ours, theirs = random(4, 6), random(4, 9)
    total = 0.0
    for text in range(4):
        others = [other for other in range(4) if other != text]
        rows = [[cosine(x[text], x[other]) / 0.1 for other in others] for x in (theirs, ours)]
        total += kl(*rows) / 4
    assert formulas.neighbour_loss(ours, theirs, 0.1).item() == pytest.approx(total, rel=1e-4)
    assert formulas.neighbour_loss(ours[:1], theirs[:1], 0.1).item() == 0.0


def test_softened_logits() -> None:
    ours, theirs = random(3, 5), random(3, 5)
    rows = [([float(x) / 3 for x in b], [float(x) / 3 for x in a]) for a, b in zip(ours, theirs, strict=True)]
    by_hand = 9 * sum(kl(b, a) for b, a in rows) / 3
    assert formulas.logit_loss(ours, theirs, 3.0).item() == pytest.approx(by_hand, rel=1e-4)
    assert formulas.logit_loss(ours[:0], theirs[:0], 3.0).item() == 0.0


def test_absent_classes_count_nothing_and_have_no_gradient() -> None:
    ours, theirs = random(2, 5).requires_grad_(), random(2, 5)
    absent = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)
    loss = formulas.logit_loss(ours.masked_fill(absent, -math.inf), theirs.masked_fill(absent, -math.inf), 2.0)
    rows = [([float(x) / 2 for x in b[~gone]], [float(x) / 2 for x in a[~gone]])
            for a, b, gone in zip(ours.detach(), theirs, absent, strict=True)]  # fmt: skip
    assert loss.item() == pytest.approx(4 * sum(kl(b, a) for b, a in rows) / 2, rel=1e-4)
    loss.backward()
    assert ours.grad is not None and ours.grad.isfinite().all() and not ours.grad[absent].any()


def test_independent_labels() -> None:
    ours, theirs = random(3, 2), random(3, 2)
    pairs = zip(ours.flatten().tolist(), theirs.flatten().tolist(), strict=True)
    by_hand = 4 * sum(kl([b / 2, 0.0], [a / 2, 0.0]) for a, b in pairs) / 6
    assert formulas.multi_label_loss(ours, theirs, 2.0).item() == pytest.approx(by_hand, rel=1e-4)


def test_states_relative_to_the_teachers_and_without_padding() -> None:
    ours, theirs = random(3, 5, 4), random(3, 5, 4)
    real = [(text, token) for text in range(3) for token in range(5) if MASK[text, token]]
    error = sum(float(((ours[at] - theirs[at]) ** 2).sum()) for at in real)
    scale = sum(float((theirs[at] ** 2).sum()) for at in real)
    assert formulas.hidden_loss(ours, theirs, MASK).item() == pytest.approx(error / scale, rel=1e-5)
    assert formulas.hidden_loss(100 * ours, 100 * theirs, MASK).item() == pytest.approx(error / scale, rel=1e-5)


def test_scores_of_pairs_that_see_each_other() -> None:
    ours, theirs = random(3, 2, 5, 5), random(3, 2, 5, 5)
    visible = MASK[:, None, :, None] & MASK[:, None, None, :]
    ours = ours.masked_fill(~visible, float("nan"))
    places = [(b, h, i, j) for b in range(3) for h in range(2) for i in range(5) for j in range(5)
              if MASK[b, i] and MASK[b, j]]  # fmt: skip
    by_hand = sum(float(ours[at] - theirs[at]) ** 2 for at in places) / len(places)
    assert formulas.attention_loss(ours, theirs, visible).item() == pytest.approx(by_hand, rel=1e-5)


def test_relations_across_widths() -> None:
    ours, theirs = random(3, 5, 8), random(3, 5, 12)
    total, rows = 0.0, 0
    for text in range(3):
        real = int(MASK[text].sum())
        for head in range(2):
            a, b = ours[text, :real, head * 4 : head * 4 + 4], theirs[text, :real, head * 6 : head * 6 + 6]
            for token in range(real):
                mine = [float(a[token] @ a[other]) / math.sqrt(4) for other in range(real)]
                its = [float(b[token] @ b[other]) / math.sqrt(6) for other in range(real)]
                total, rows = total + kl(its, mine), rows + 1
    assert formulas.relation_loss(ours, theirs, MASK, 2).item() == pytest.approx(total / rows, rel=1e-4)


@pytest.mark.parametrize("name", ["similarity_loss", "neighbour_loss"])
def test_what_is_equal_has_no_loss(name: str) -> None:
    x = random(4, 6)
    arguments = (0.05,) if name == "neighbour_loss" else ()
    assert getattr(formulas, name)(x, x, *arguments).item() == pytest.approx(0.0, abs=1e-6)
    assert getattr(formulas, name)(3 * x, x, *arguments).item() == pytest.approx(0.0, abs=1e-6)

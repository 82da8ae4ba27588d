"""Labels and masks as objectives, and the beginning of a new head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.recover.head import initialize_head
from ridgeline_export.compress.recover.labels import LabelObjective
from ridgeline_export.compress.recover.mlm import masked_objective
from ridgeline_export.compress.recover.objective import Batch
from ridgeline_export.compress.recover.tokens import Tokens, tokenize
from ridgeline_export.errors import UsageError
from tests.export.compress.recover.toy import LABELS, labelled, load


class Fixed(nn.Module):
    """Answers each text with the logits that stand for its first token."""

    def __init__(self, rows: list[list[float]], **config: Any) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))
        self.config = SimpleNamespace(**config)

    def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.rows[input_ids[:, 0]])


def batch(labels: list[Any], dtype: torch.dtype = torch.int64) -> Batch:
    ids = torch.arange(len(labels)).unsqueeze(1)
    return Batch({"input_ids": ids}, torch.arange(len(labels)), torch.tensor(labels, dtype=dtype))


def test_losses_of_labels_are_the_formulas() -> None:
    rows = [[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]]
    logs = torch.tensor(rows).log_softmax(-1)
    objective = LabelObjective(validation=None, label_smoothing=0.3)

    smooth = -(0.7 + 0.1) * logs[[0, 1], [0, 2]] - 0.1 * (logs.sum(-1) - logs[[0, 1], [0, 2]])
    assert objective.loss(Fixed(rows), batch([0, 2])).item() == pytest.approx(smooth.mean().item())
    numbers = objective.loss(Fixed([[1.0], [3.0]]), batch([2.0, 3.0], torch.float32))
    assert numbers.item() == pytest.approx(0.5)
    several = LabelObjective(validation=None).loss(
        Fixed(rows, problem_type="multi_label_classification"), batch([0, 2])
    )
    signs = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
    assert several.item() == pytest.approx(-nn.functional.logsigmoid(torch.tensor(rows) * signs).mean().item())


def test_a_classifier_is_judged_by_what_it_decides(tiny_models: Callable[..., Path]) -> None:
    loaded = load(tiny_models("bert", "text-classification"))
    examples = labelled(40)
    judged = LabelObjective(tokenize(loaded.encoder, examples, 160, LABELS)).evaluate(loaded.model)

    logits = []
    for example in examples:
        inputs = loaded.encoder.pad(loaded.encoder.encode([example.text]))
        with torch.no_grad():
            logits.append(loaded.model(**{name: torch.tensor(array) for name, array in inputs.items()}).logits[0])
    wanted = torch.tensor([LABELS.index(str(example.label)) for example in examples])
    stacked = torch.stack(logits)
    assert judged.name == "accuracy" and judged.figure == pytest.approx(
        (stacked.argmax(1) == wanted).float().mean().item()
    )
    assert judged.figures["cross_entropy"] == pytest.approx(
        nn.functional.cross_entropy(stacked, wanted).item(), rel=1e-4
    )


def test_numbers_are_judged_by_order_and_error() -> None:
    model = Fixed([[1.0], [2.0], [4.0]])
    tokens = Tokens(np.arange(3, dtype=np.int32), None, np.arange(4), np.array([1.0, 2.0, 3.0], np.float32), 0)

    judged = LabelObjective(tokens).evaluate(model)

    assert judged.name == "r2" and judged.figure == pytest.approx(1 - (1 / 3) / (2 / 3))
    assert judged.figures["spearman"] == 1 and judged.figures["squared_error"] == pytest.approx(1 / 3)


def test_masks_are_on_ordinary_tokens_in_the_published_shares(tiny_models: Callable[..., Path]) -> None:
    loaded = load(tiny_models("bert", "fill-mask"))
    tokens = tokenize(loaded.encoder, labelled(48), 64)
    objective = masked_objective(loaded, tokens)
    torch.manual_seed(0)

    ids, guessed, masked, same = 0, 0, 0, 0
    for _ in range(20):
        drawn = tokens.batch(range(48))
        given, chosen = objective._mask(drawn, None)
        real = drawn.inputs["input_ids"]
        ordinary = (drawn.inputs["attention_mask"] == 1) & (real > 4)
        assert not (chosen & ~ordinary).any() and torch.equal(given[~chosen], real[~chosen])
        assert torch.equal(chosen.sum(1), (ordinary.sum(1) * 0.15).round().clamp(min=1).long())
        ids, guessed = ids + int(ordinary.sum()), guessed + int(chosen.sum())
        masked += int((given[chosen] == loaded.encoder.mask_token_id).sum())
        same += int((given[chosen] == real[chosen]).sum())
    assert masked / guessed == pytest.approx(0.8, abs=0.03) and same / guessed == pytest.approx(0.1, abs=0.03)


def test_every_text_counts_alike_in_the_loss_of_masks(tiny_models: Callable[..., Path]) -> None:
    loaded = load(tiny_models("bert", "fill-mask"))
    tokens = tokenize(loaded.encoder, labelled(48), 64)
    objective = masked_objective(loaded, tokens)
    torch.manual_seed(1)
    with torch.no_grad():
        loss = objective.loss(loaded.model, tokens.batch([0, 5, 7]))

    torch.manual_seed(1)
    drawn = tokens.batch([0, 5, 7])
    given, chosen = objective._mask(drawn, None)
    with torch.no_grad():
        logs = loaded.model(**{**drawn.inputs, "input_ids": given}).logits.log_softmax(-1)
    right = logs.gather(-1, drawn.inputs["input_ids"].unsqueeze(-1)).squeeze(-1)
    means = [-right[row][chosen[row]].mean() for row in range(3)]
    assert loss.item() == pytest.approx(torch.stack(means).mean().item(), rel=1e-5)
    assert objective.evaluate(loaded.model) == objective.evaluate(loaded.model)


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    loaded: Any = SimpleNamespace(encoder=SimpleNamespace(mask_token_id=None))
    with pytest.raises(UsageError, match="no mask token"):
        masked_objective(loaded, None)


def test_a_new_head_begins_with_what_is_known(tiny_models: Callable[..., Path]) -> None:
    model = load(tiny_models("roberta", "text-classification")).model
    names = [name for name, _ in model.named_parameters() if name.startswith("classifier.")]
    kept = model.roberta.encoder.layer[0].output.dense.weight.clone()

    initialize_head(model, names, np.array([0] * 6 + [1] * 2), seed=3)

    assert torch.equal(model.classifier.dense.weight, torch.eye(32)) and not model.classifier.dense.bias.any()
    # One of each class is added to the counts: 7, 3 and 1 of 11.
    assert model.classifier.out_proj.bias.exp().tolist() == pytest.approx([7 / 11, 3 / 11, 1 / 11])
    assert 0 < model.classifier.out_proj.weight.detach().std().item() < 0.05
    assert torch.equal(model.roberta.encoder.layer[0].output.dense.weight, kept)


def test_a_head_for_a_number_begins_at_the_mean() -> None:
    model = Fixed([[0.0]], num_labels=1)
    model.out = nn.Linear(4, 1)
    labels = tokenize_numbers([1.0, 2.0, 6.0])
    initialize_head(model, ["out.weight", "out.bias"], labels, seed=0)
    assert model.out.bias.item() == pytest.approx(3.0)


def tokenize_numbers(numbers: list[float]) -> Any:
    return np.array([Example("", number).label for number in numbers], np.float32)

"""What a model answers, how far answers are from others, and how sure they are: as importance is measured by.

An answer is a distribution: of classes for a text, a token or a span's ends (softmax, or a Bernoulli each where classes
do not exclude each other), else a Gaussian of unit variance around an embedding of unit length or a number. Divergences
are the Kullback-Leibler divergences of these distributions, which for embeddings is 1 - cosine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.distill.examples import asked
from ridgeline_export.compress.recover.tokens import sorted_batches, tokenize
from ridgeline_export.load import LoadedModel

# Of the tokens of a text: BERT's share.
_MASKED_SHARE = 0.15
_BATCH_TEXTS = 32
# Its logits are as wide as the vocabulary.
_BATCH_MASKED_TEXTS = 8


@dataclass(frozen=True, slots=True)
class Question:
    """A batch of texts as a model is asked.

    inputs: int64 [batch, sequence] by name of the model's argument
    rows:   bool [batch, sequence], True where the model's outputs are read: real tokens, masked ones for fill-mask
    labels: int64 [batch] of classes or float32 [batch] of numbers; None where the data has none for this model
    """

    inputs: dict[str, Tensor]
    rows: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says to a batch.

    values: float32 [rows, outputs]
    kind:   what a row is: "numbers" (Gaussian each), "choice" (softmax over the outputs) or "switches" (Bernoulli each)
    texts:  int64 [rows], the row of the batch that each belongs to
    shares: float32 [rows], what each counts for in its text; they add up to 1 for tokens
    """

    values: Tensor
    kind: str
    texts: Tensor
    shares: Tensor
    batch: int

    def per_text(self, each: Tensor) -> Tensor:
        """[batch]: sums of what rows [rows] come to."""
        return torch.zeros(self.batch, device=each.device).index_add(0, self.texts, each)


def questions(
    loaded: LoadedModel, examples: Sequence[Example], max_tokens: int, seed: int, device: torch.device
) -> Iterator[Question]:
    """All examples in batches of texts of like length; for fill-mask some tokens are masked, always the same ones.

    Plain texts are asked in pairs where the task takes pairs.
    """
    examples = asked(loaded, examples)
    tokens = tokenize(loaded.encoder, examples, max_tokens)
    generator = torch.Generator().manual_seed(seed)
    labels = _labels(loaded, examples)
    special = torch.tensor(loaded.tokenizer.all_special_ids)
    for chosen in sorted_batches(tokens.lengths, _BATCH_MASKED_TEXTS if loaded.task == "fill-mask" else _BATCH_TEXTS):
        inputs = tokens.batch(chosen).inputs
        rows = inputs["attention_mask"].bool()
        if loaded.task == "fill-mask":
            ids = inputs["input_ids"]
            rows = _mask(ids, rows & ~torch.isin(ids, special), int(loaded.encoder.mask_token_id or 0), generator)
        yield Question(
            {name: tensor.to(device) for name, tensor in inputs.items()},
            rows.to(device),
            None if labels is None else labels[torch.from_numpy(chosen)].to(device),
        )


def ask(loaded: LoadedModel, model: Any, question: Question) -> Answers:
    """The model's answers to a batch, with gradients where they are on."""
    outputs = model(**question.inputs)
    rows = question.rows
    if loaded.task == "feature-extraction":
        pooling = loaded.modules.pooling if loaded.modules else "mean"
        return _whole(functional.normalize(_pool(outputs.last_hidden_state, rows, pooling), dim=-1), "numbers")
    if loaded.task == "question-answering":
        ends = torch.cat([outputs.start_logits, outputs.end_logits])
        return _whole(ends.masked_fill(~rows.repeat(2, 1), torch.finfo(ends.dtype).min), "choice", len(rows))
    if loaded.task in ("token-classification", "fill-mask"):
        texts = rows.nonzero()[:, 0]
        shares = 1 / rows.sum(1).float()
        return Answers(outputs.logits[rows].float(), "choice", texts, shares[texts], len(rows))
    problem = getattr(model.config, "problem_type", None)
    if problem == "regression" or outputs.logits.shape[-1] == 1:
        return _whole(outputs.logits, "numbers")
    return _whole(outputs.logits, "switches" if problem == "multi_label_classification" else "choice")


def divergence(answers: Answers, reference: Answers) -> Tensor:
    """Of a model's answers from those of another: [batch], nats; 0 where they are the same."""
    given, expected = answers.values, reference.values
    if answers.kind == "numbers":
        each = (given - expected).square().sum(-1) / 2
    elif answers.kind == "switches":
        target = expected.sigmoid()
        each = (_binary(given, target) - _binary(expected, target)).sum(-1)
    else:
        log_p = expected.log_softmax(-1)
        each = (log_p.exp() * (log_p - given.log_softmax(-1))).sum(-1)
    return answers.per_text(each * answers.shares)


def mean_divergence(
    loaded: LoadedModel, reference: LoadedModel, examples: Sequence[Example], max_tokens: int, seed: int
) -> float:
    """Mean divergence of a model's answers to texts from those of another with the same tokenizer, nats."""
    device = next(loaded.model.parameters()).device
    total = 0.0
    with torch.inference_mode():
        for question in questions(loaded, examples, max_tokens, seed, device):
            expected = ask(reference, reference.model.to(device), question)
            total += float(divergence(ask(loaded, loaded.model, question), expected).sum())
    return total / len(examples)


def loss(answers: Answers, labels: Tensor) -> Tensor:
    """Negative log-likelihood of the texts' labels: [batch], nats, without constants."""
    if answers.kind == "numbers":
        return (answers.values[:, 0] - labels).square() / 2
    return functional.cross_entropy(answers.values, labels, reduction="none")


def surprise(answers: Answers, generator: torch.Generator) -> Tensor:
    """Negative log-likelihood of an answer drawn from the model's own distribution: [batch], without constants.

    The square of its gradient is on average the Fisher information: the curvature of the divergence from the model's
    own answers, whose gradient is zero (Martens, arXiv 1412.1193, section 9.2). Every row is drawn by itself and counts
    by the root of its share, since it is the square that is added up.
    """
    values, device = answers.values, answers.values.device
    certain = values.detach().cpu()
    if answers.kind == "numbers":
        each = -(torch.randn(certain.shape, generator=generator).to(device) * values).sum(-1)
    elif answers.kind == "switches":
        each = _binary(values, torch.bernoulli(certain.sigmoid(), generator=generator).to(device)).sum(-1)
    else:
        drawn = torch.multinomial(certain.softmax(-1), 1, generator=generator)[:, 0].to(device)
        each = functional.cross_entropy(values, drawn, reduction="none")
    return answers.per_text(each * answers.shares.sqrt())


def _whole(values: Tensor, kind: str, batch: int | None = None) -> Answers:
    """Answers of which each row is a text's, or one of several that follow the batch's order."""
    batch = batch or len(values)
    texts = torch.arange(len(values), device=values.device) % batch
    return Answers(values.float(), kind, texts, torch.ones(len(values), device=values.device), batch)


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _labels(loaded: LoadedModel, examples: Sequence[Example]) -> Tensor | None:
    """Labels that the model's head is for: of all examples, or none."""
    given = [example.label for example in examples]
    if loaded.task != "text-classification" or any(label is None for label in given):
        return None
    if getattr(loaded.model.config, "problem_type", None) == "multi_label_classification":
        return None
    names = loaded.labels or ()
    if len(names) == 1:
        numbers = [label for label in given if isinstance(label, float)]
        return torch.tensor(numbers) if len(numbers) == len(given) else None
    if not all(isinstance(label, str) and label in names for label in given):
        return None
    return torch.tensor([names.index(str(label)) for label in given])


def _pool(states: Tensor, rows: Tensor, pooling: str) -> Tensor:
    """Sentence embeddings [batch, dim] of token states [batch, sequence, dim]."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), rows.sum(1) - 1]
    if pooling == "max":
        return states.masked_fill(~rows[..., None], -torch.inf).amax(1)
    return (states * rows[..., None]).sum(1) / rows.sum(1, keepdim=True)


def _mask(ids: Tensor, allowed: Tensor, mask_token_id: int, generator: torch.Generator) -> Tensor:
    """Put the mask token over some tokens, at least one a text, in place; where."""
    draws = torch.rand(ids.shape, generator=generator).masked_fill(~allowed, 2.0)
    chosen = (draws < _MASKED_SHARE) | ((draws == draws.amin(1, keepdim=True)) & allowed)
    ids[chosen] = mask_token_id
    return chosen

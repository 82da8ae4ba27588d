"""One word table for both ends of a model that fills in words (Press and Wolf 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.recovery import copy_of, figures_of, recovery
from ridgeline_export.compress.setting import setting
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import UnsupportedModelError, UsageError

if TYPE_CHECKING:
    from torch import nn

TABLES = ("average", "input", "output")


@dataclass(frozen=True, slots=True)
class Tie:
    """Let the output layer of a model that fills in words use the word embeddings."""

    table: str | None = setting(
        None,
        help="What the common table begins as: the input's, the output's or their average; the average when not given, "
        "or the input's where that is factorized.",
        choices=TABLES,
    )
    recover: bool = setting(True, help="Train the result on the answers of the model as it was.")
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)


@handles(Tie, "share", "tie")
def _tie(config: Tie, job: Job) -> Outcome:
    model = job.loaded.model
    is_factorized = job.form.embedding_rank is not None
    table = config.table or ("input" if is_factorized else "average")
    if is_factorized and table != "input":
        raise UsageError(
            f"table is {table}, but the input's is a product of two, which no other can become; give input"
        )
    before = int(model.num_parameters())
    head = _untied_head(job)
    original = copy_of(job.loaded) if config.recover else None
    with job.progress.stage("Tying the embeddings"):
        _tie_tables(model, head, table, is_factorized=is_factorized)
    figures: dict[str, Any] = {"table": table}
    if original is not None:
        figures["recovery"] = figures_of(recovery(job, original, config.training, config.losses))
    after = int(model.num_parameters())
    figures |= {"parameters_before": before, "parameters": after}
    return Outcome(
        f"Input and output embeddings are one table: {after:,} of {before:,} parameters are "
        "left. The model computes as much as it did: expect a smaller file, no more speed.",
        figures,
    )


def _untied_head(job: Job) -> nn.Linear:
    """The output layer. Raises UsageError when there is none that could read the word table."""
    from torch import nn

    from ridgeline_export.form.factors import FactorizedHead

    model = job.loaded.model
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        raise UsageError(
            f"{job.loaded.architecture} has no output layer over the vocabulary, so there is nothing to tie; models "
            "for fill-mask have one: give --task fill-mask if this one was trained for it"
        )
    if isinstance(head, FactorizedHead) or (not hasattr(embedding, "table") and head.weight is embedding.weight):
        raise UsageError(f"{job.loaded.architecture} has input and output embeddings tied already; nothing is to do")
    shape = embedding.num_embeddings, embedding.embedding_dim
    if not isinstance(head, nn.Linear) or tuple(head.weight.shape) != shape:
        given = " × ".join(map(str, head.weight.shape))
        raise UsageError(
            f"the output layer of {job.loaded.architecture} is {given} and the word table {shape[0]} × {shape[1]}; "
            "only tables of one shape can be tied"
        )
    return head


def _tie_tables(model: Any, head: nn.Linear, table: str, *, is_factorized: bool) -> None:
    import torch

    from ridgeline_export.form.factors import dissolve_factors, factors_of, install_factors

    factors = factors_of(model) if is_factorized else None
    dissolve_factors(model)
    embedding = model.get_input_embeddings()
    bias = None if head.bias is None else head.bias.detach().clone()
    values = {"input": embedding.weight, "output": head.weight, "average": (embedding.weight + head.weight) / 2}[table]
    with torch.no_grad():
        embedding.weight.copy_(values)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    if head.weight is not embedding.weight:
        raise UnsupportedModelError(
            f"'{model.config.model_type}' cannot be saved with input and output embeddings tied: its class has no "
            "such setting"
        )
    if bias is not None:
        # transformers ties the head's bias as well, to one that an untied model does not use.
        with torch.no_grad():
            head.bias.copy_(bias)
    if factors is not None:
        install_factors(model, *factors)

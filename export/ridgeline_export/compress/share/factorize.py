"""The word table as a product of two matrices, as ALBERT's is (Lan et al. 2020): vocab × rank and rank × width.

The table is most of a small model's file and none of its time. Which product comes nearest depends on which words
matter: rows count by how often the data uses their token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.recovery import copy_of, figures_of, recovery
from ridgeline_export.compress.setting import setting
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import TargetError

if TYPE_CHECKING:
    from torch import Tensor

    from ridgeline_export.tokenizer import TextEncoder

_ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class Factorize:
    """Store the word embeddings as a product of two smaller tables."""

    rank: int | None = setting(
        None, help="Width of the table that is left; a quarter of the embeddings' when not given.", least=1
    )
    by_frequency: bool = setting(
        True, help="Keep the rows of tokens that the training texts use often more exactly than those of rare ones."
    )
    recover: bool = setting(True, help="Train the result on the answers of the model as it was.")
    training: Training = field(default_factory=Training)
    losses: Losses = field(default_factory=Losses)


@handles(Factorize, "share", "factorize")
def _factorize(config: Factorize, job: Job) -> Outcome:
    from ridgeline_export.form.dissolve import extras_of
    from ridgeline_export.form.factors import dissolve_factors, install_factors

    model = job.loaded.model
    weight = model.get_input_embeddings().weight.detach()
    rank = _checked(config.rank, weight.shape[0], weight.shape[1], job.form.embedding_rank)
    before = int(model.num_parameters())
    original = copy_of(job.loaded) if config.recover else None
    with job.progress.stage(f"Factorizing {weight.shape[0]} × {weight.shape[1]} embeddings to rank {rank}"):
        counts = token_counts(job.loaded.encoder, job.data.training, len(weight)) if config.by_frequency else None
        table, projection, kept = factors(weight, rank, counts)
        dissolve_factors(model)
        install_factors(model, table, projection)
        job.form = dataclasses.replace(job.form, embedding_rank=rank)
    figures: dict[str, Any] = {"rank": rank, "kept": kept}
    if original is not None:
        figures["recovery"] = figures_of(recovery(job, original, config.training, config.losses))
    job.extras = job.extras | extras_of(model, job.form)
    after = int(model.num_parameters())
    figures |= {"parameters_before": before, "parameters": after}
    return Outcome(
        f"The word embeddings are a product of rank {rank}, which held {kept:.1%} of them before training: "
        f"{after:,} of {before:,} parameters are left. The layers compute what they did: "
        "expect a smaller file, no more speed.",
        figures,
    )


def factors(weight: Tensor, rank: int, counts: Tensor | None) -> tuple[Tensor, Tensor, float]:
    """The product of rank r that is nearest to a table E, each row's squared distance taken count + 1 times.

    With D = diag(√(count + 1)) and D·E = U·S·Vᵀ, the minimum of |D·(E - A·P)|² is P = V_rᵀ, A = E·V_r: the truncated
    singular value decomposition of the scaled table (Eckart and Young 1936) fixes the space that rows are projected
    to, and a row's best place in it does not depend on its weight. The 1 lets tokens that the data lacks have a say.

    weight: [vocab, width]; counts: [vocab], None for rows that count alike
    returns A [vocab, rank], P [rank, width] with orthonormal rows, both of the weight's dtype, and the share of the
    weighted squares that is kept
    """
    import torch

    gram = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
    for rows in range(0, len(weight), _ROWS):
        part = weight[rows : rows + _ROWS].double()
        scale = 1.0 if counts is None else counts[rows : rows + _ROWS, None].double() + 1
        gram += part.t() @ (part * scale)
    values, vectors = torch.linalg.eigh(gram)
    basis = vectors.flip(1)[:, :rank]
    # Of the two signs of each vector the one with which its largest element is positive.
    largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
    basis = (basis * largest.sign()).to(weight.dtype)
    kept = float(values.flip(0)[:rank].sum() / values.sum().clamp(min=1e-300))
    return weight @ basis, basis.t().contiguous(), kept


def token_counts(encoder: TextEncoder, examples: Sequence[Example], vocabulary: int) -> Tensor:
    """How often texts use each token, special ones included: float64 [vocabulary]."""
    import torch

    counts = torch.zeros(vocabulary, dtype=torch.float64)
    for encoding in encoder.encode_each(example.text for example in examples):
        ids = torch.tensor(encoding.ids, dtype=torch.int64)
        counts.index_add_(0, ids, torch.ones(len(ids), dtype=torch.float64))
    return counts


def _checked(rank: int | None, vocabulary: int, width: int, present: int | None) -> int:
    # The largest rank at which both factors together are smaller than the table.
    largest = (vocabulary * width - 1) // (vocabulary + width)
    if present is not None:
        largest = min(largest, present - 1)
    chosen = max(1, width // 4) if rank is None else rank
    if chosen > largest:
        have = f"is a product of rank {present} already" if present is not None else f"is {vocabulary} × {width}"
        allowed = f"give a rank of 1 to {largest}" if largest else "no rank makes it smaller"
        raise TargetError(f"rank {chosen} saves nothing: the word table {have}; {allowed}")
    return chosen

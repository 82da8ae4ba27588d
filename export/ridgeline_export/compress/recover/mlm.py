"""Training a fill-mask model as it was trained at first: masked tokens are to be guessed (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.recover.objective import Batch, Judgement
from ridgeline_export.compress.recover.tokens import Tokens, sorted_batches
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_EVALUATION_TEXTS = 32
_SHARE, _TO_MASK, _TO_OTHER = 0.15, 0.8, 0.1


@dataclass(slots=True)
class MaskedObjective:
    """15 % of each text's tokens, one at least, are guessed: of them 80 % are masked, 10 % another token, 10 % as are.

    Every text counts alike, however long: the loss is the mean over texts of the mean over their guessed tokens.

    validation:  always masked in the same places
    special_ids: tokens that are never guessed, such as [CLS]
    vocabulary:  how many tokens other ones are drawn from
    """

    validation: Tokens
    mask_token_id: int
    special_ids: Sequence[int]
    vocabulary: int

    @property
    def modules(self) -> nn.Module | None:
        """None: the model's own head guesses."""
        return None

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Mean over the batch's texts; where to mask is drawn from torch's random numbers."""
        losses, counts, _ = self._guess(model, batch, None)
        return (losses / counts.clamp(min=1)).mean()

    def evaluate(self, model: Any) -> Judgement:
        """The mean log-likelihood of the guessed tokens, in nats, its perplexity, and how many guesses are right."""
        import torch

        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(0)
        loss = right = count = 0.0
        for chosen in sorted_batches(self.validation.lengths, _EVALUATION_TEXTS):
            batch = self.validation.batch(chosen)
            batch = Batch({name: tensor.to(device) for name, tensor in batch.inputs.items()}, batch.indices)
            with torch.no_grad():
                losses, counts, hits = self._guess(model, batch, generator)
            loss, count = loss + float(losses.sum()), count + float(counts.sum())
            right += float(hits.sum())
        likelihood = -loss / max(count, 1.0)
        figures = {
            "log_likelihood": likelihood,
            "perplexity": float(torch.tensor(-likelihood, dtype=torch.float64).exp()),
            "masked_accuracy": right / max(count, 1.0),
        }
        return Judgement("log_likelihood", likelihood, figures)

    def _guess(self, model: Any, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of each text, float32 [texts]: summed loss, tokens guessed, and how many of them rightly."""
        import torch
        from torch.nn import functional

        device = batch.inputs["input_ids"].device
        ids, guessed = self._mask(batch, generator)
        logits = model(**{**batch.inputs, "input_ids": ids.to(device)}).logits
        rows, columns = guessed.nonzero(as_tuple=True)
        rows, columns = rows.to(device), columns.to(device)
        wanted = batch.inputs["input_ids"][rows, columns]
        chosen = logits[rows, columns].float()
        texts = len(ids)
        losses = functional.cross_entropy(chosen, wanted, reduction="none")
        hits = (chosen.argmax(dim=-1) == wanted).float()
        sums = [
            torch.zeros(texts, device=device).index_add(0, rows, each)
            for each in (losses, torch.ones_like(losses), hits)
        ]
        return sums[0], sums[1], sums[2]

    def _mask(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The ids with masks, int64, and which are to be guessed, bool: both [texts, longest], on the CPU."""
        import torch

        # On the CPU whatever the device: the same seed masks the same tokens everywhere.
        ids = batch.inputs["input_ids"].cpu()
        special = torch.isin(ids, torch.tensor(list(self.special_ids)))
        ordinary = (batch.inputs["attention_mask"].cpu() == 1) & ~special
        drawn = torch.rand(ids.shape, generator=generator).masked_fill(~ordinary, 2.0)
        ranks = drawn.argsort(dim=1).argsort(dim=1)
        guessed = ordinary & (ranks < (ordinary.sum(1, keepdim=True) * _SHARE).round().clamp(min=1))
        fate = torch.rand(ids.shape, generator=generator)
        others = torch.randint(self.vocabulary, ids.shape, generator=generator)
        masked = torch.where(guessed & (fate < _TO_MASK), torch.full_like(ids, self.mask_token_id), ids)
        return torch.where(guessed & (fate >= 1 - _TO_OTHER), others, masked), guessed


def masked_objective(loaded: LoadedModel, validation: Tokens) -> MaskedObjective:
    """The objective for a fill-mask model. Raises UsageError when its tokenizer has no mask."""
    if loaded.encoder.mask_token_id is None:
        raise UsageError("this model's tokenizer has no mask token, so it cannot be trained to fill masks")
    return MaskedObjective(
        validation, loaded.encoder.mask_token_id, tuple(loaded.tokenizer.all_special_ids), len(loaded.tokenizer)
    )

"""Hugging Face's models on the same batches: padded, in fp16, with mean pooling behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ridgeline_kernels.benchmarks.models.catalog import Shape
from ridgeline_kernels.errors import BackendError

KINDS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "transformers eager": ("eager", None),
    "transformers SDPA": ("sdpa", None),
    "transformers SDPA, torch.compile": ("sdpa", {}),
    "transformers SDPA, torch.compile reduce-overhead": ("sdpa", {"mode": "reduce-overhead"}),
}
"""By name: transformers' attention, and arguments of torch.compile, which compiles for each shape anew."""


class Rival:
    """One model of transformers with random weights."""

    def __init__(self, shape: Shape, kind: str, device: torch.device, dtype: torch.dtype):
        """Raises BackendError if transformers is not installed or has no such model."""
        attention, self._compile = KINDS[kind]
        self.module = _module(shape, attention, device).to(dtype)
        self._device = device
        self._vocabulary = shape.vocabulary

    def call(self, lengths: Sequence[int]) -> Callable[[], torch.Tensor]:
        """A call that embeds a batch of texts of these lengths; compiled for its shape when it is first made."""
        longest = max(lengths)
        bounds = torch.tensor(lengths, device=self._device)
        mask = (torch.arange(longest, device=self._device) < bounds[:, None]).long()
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, self._vocabulary, mask.shape, generator=generator).to(self._device) * mask
        # A mask of ones alone only costs.
        given: dict[str, Any] = {"input_ids": ids} | ({} if min(lengths) == longest else {"attention_mask": mask})

        def embed(**inputs: torch.Tensor) -> torch.Tensor:
            hidden = self.module(**inputs).last_hidden_state
            weights = mask[:, :, None].to(hidden.dtype)
            pooled: torch.Tensor = (hidden * weights).sum(dim=1, dtype=torch.float32)
            return pooled / weights.sum(dim=1, dtype=torch.float32)

        if self._compile is not None:
            torch.compiler.reset()
            embed = torch.compile(embed, **self._compile)

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return embed(**given)

        return call


def _module(shape: Shape, attention: str, device: torch.device) -> Any:
    try:
        import transformers
    except ImportError:
        raise BackendError("transformers is not installed, so there is nothing to compare with") from None
    config = transformers.AutoConfig.for_model(shape.model_type, **shape.config)
    torch.manual_seed(0)
    options: dict[str, Any] = {"add_pooling_layer": False} if shape.model_type == "bert" else {}
    try:
        with torch.device(device):
            module = transformers.AutoModel.from_config(config, attn_implementation=attention, **options)
    except (TypeError, ValueError, KeyError) as error:
        raise BackendError(f"transformers {transformers.__version__} has no such {shape.model_type}: {error}") from None
    return module.eval()

"""A model as a packed graph sees it: sequences end to end in, the outputs of the graph's law out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ridgeline_export import convert
from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.packed.attention import Attentions
from ridgeline_export.packed.heads import RowsOfSequences
from ridgeline_export.packed.ops import pool
from ridgeline_export.packed.positions import accepts, base_of

POOLS = {"mean": "mean", "cls": "first", "max": "max", "last": "last"}
OUTPUTS = convert.OUTPUTS | {"text-generation": ("logits",)}


class PackedModule(nn.Module):
    """The model with inputs and outputs as dialect.json's graph has them, by name.

    offset: the model's number for a sequence's first position
    pooling: a key of POOLS or None
    """

    def __init__(
        self, model: Any, task: str, attentions: Attentions, offset: int | None, pooling: str | None, normalize: bool
    ) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.attentions = attentions
        self.offset = offset
        self.pooling = pooling
        self.normalize = normalize

    def forward(
        self,
        input_ids: Tensor,
        cu_seqlens: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        given = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if position_ids is not None:
            given["position_ids"] = position_ids + self.offset if self.offset else position_ids
        self.attentions.cu_seqlens = cu_seqlens
        try:
            with ExitStack() as stack:
                if self.task == "text-classification":
                    stack.enter_context(RowsOfSequences(cu_seqlens, input_ids.shape[1]))
                    stack.enter_context(_mean_pooling(self.model, cu_seqlens))
                stack.enter_context(_into_base(self.model, given))
                named = {name: value for name, value in given.items() if accepts(self.model, name)}
                output = self.model(input_ids=input_ids, **named)
        finally:
            self.attentions.cu_seqlens = None
        return self._outputs(output, cu_seqlens)

    def _outputs(self, output: Any, cu_seqlens: Tensor) -> dict[str, Tensor]:
        answers = {name: output.get(name) for name in OUTPUTS[self.task]}
        missing = [name for name, value in answers.items() if value is None]
        if missing:
            raise UnsupportedModelError(
                f"{type(self.model).__name__} gives {', '.join(output)}; task '{self.task}' needs {', '.join(missing)}"
            )
        if self.pooling is None:
            return answers
        hidden, method = answers["last_hidden_state"], POOLS[self.pooling]
        rows = {"pooled": pool(hidden, cu_seqlens, method)}
        if self.normalize:
            rows["sentence_embedding"] = pool(hidden, cu_seqlens, method, normalize=True)
        return rows | answers


@contextmanager
def _into_base(model: Any, given: dict[str, Tensor]) -> Iterator[None]:
    """Hand the base model the inputs that the head above it has no name for."""
    base = base_of(model)
    extra = {name: value for name, value in given.items() if not accepts(model, name)}
    if base is model or not extra:
        yield
        return

    def add(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | extra

    handle = base.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _mean_pooling(model: Any, cu_seqlens: Tensor) -> Iterator[None]:
    """ModernBERT's classifiers may take the mean: over each sequence, which is then a sequence of one token."""
    if getattr(model.config, "classifier_pooling", None) != "mean":
        yield
        return

    def take_means(module: Any, args: Any, output: Any) -> Any:
        output.last_hidden_state = pool(output.last_hidden_state, cu_seqlens, "mean")[:, None]
        return output

    handle = base_of(model).register_forward_hook(take_means)
    try:
        yield
    finally:
        handle.remove()

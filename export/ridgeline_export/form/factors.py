"""A word table as a product of two smaller matrices; the whole table again for stock transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ridgeline_export.errors import ModelError, UnsupportedModelError

_TABLE = "embeddings.table"
_PROJECTION = "embeddings.projection"
# Of the largest element: sums in another order, by another machine.
_TOLERANCE = 1e-4


class FactorizedEmbedding(nn.Module):
    """Stands in the place of an nn.Embedding [vocab, width].

    table: [vocab, rank], rows by token; projection: a linear from rank to width, without bias
    """

    def __init__(self, table: Tensor, projection: Tensor, padding_idx: int | None) -> None:
        """table: [vocab, rank]; projection: [rank, width]"""
        super().__init__()
        self.table = _embedding(nn.Parameter(table), padding_idx)
        self.projection = _linear(nn.Parameter(projection.t().contiguous()), None)

    @property
    def num_embeddings(self) -> int:
        """Rows of the table."""
        return int(self.table.num_embeddings)

    @property
    def embedding_dim(self) -> int:
        """Width of the product."""
        return int(self.projection.out_features)

    @property
    def padding_idx(self) -> int | None:
        """Row of the padding token."""
        index: int | None = self.table.padding_idx
        return index

    @property
    def weight(self) -> Tensor:
        """The product, [vocab, width], computed anew."""
        product: Tensor = self.projection(self.table.weight)
        return product

    def forward(self, input_ids: Tensor) -> Tensor:
        """Rows of the product: [..., width] for ids [...]."""
        states: Tensor = self.projection(self.table(input_ids))
        return states


class FactorizedHead(nn.Module):
    """Stands in the place of an output layer that multiplies by the word table; its parameters are the table's factors.

    table: [vocab, rank]; projection: [width, rank]; bias: [vocab] or None
    """

    def __init__(self, embedding: FactorizedEmbedding, bias: nn.Parameter | None) -> None:
        super().__init__()
        # The parameters, not the modules: torch.export loses its way among modules that have two places.
        self.table = embedding.table.weight
        self.projection = embedding.projection.weight
        self.bias = bias

    @property
    def in_features(self) -> int:
        """Width of the states."""
        return self.projection.shape[0]

    @property
    def out_features(self) -> int:
        """Tokens of the vocabulary."""
        return self.table.shape[0]

    @property
    def weight(self) -> Tensor:
        """The product, [vocab, width], computed anew."""
        return self.table @ self.projection.t()

    def forward(self, states: Tensor) -> Tensor:
        """Logits [..., vocab] of states [..., width]."""
        return functional.linear(states @ self.projection, self.table, self.bias)


def install_factors(model: Any, table: Tensor, projection: Tensor) -> None:
    """Put a product in the place of the word table, in place; an output layer tied to the table reads it too.

    table: [vocab, rank]; projection: [rank, width]
    Raises UnsupportedModelError when the table is no plain nn.Embedding.
    """
    old = model.get_input_embeddings()
    if not isinstance(old, nn.Embedding) or type(old).forward is not nn.Embedding.forward or old.max_norm is not None:
        raise UnsupportedModelError(
            f"'{model.config.model_type}' looks its words up in a {type(old).__name__}, which cannot be factorized; "
            "a plain table can"
        )
    new = FactorizedEmbedding(table, projection, old.padding_idx)
    for module in list(model.modules()):
        if getattr(module, "weight", None) is not old.weight:
            continue
        if isinstance(module, nn.Embedding):
            _replace(model, module, new)
        elif isinstance(module, nn.Linear):
            _replace(model, module, FactorizedHead(new, module.bias))


def dissolve_factors(model: Any) -> None:
    """The inverse: the whole table in an nn.Embedding, and an output layer tied to it in an nn.Linear; in place."""
    for embedding in [module for module in model.modules() if isinstance(module, FactorizedEmbedding)]:
        weight = nn.Parameter(embedding.weight.detach())
        plain = _embedding(weight, embedding.padding_idx)
        for module in [each for each in model.modules() if isinstance(each, FactorizedHead)]:
            if module.table is embedding.table.weight:
                _replace(model, module, _linear(weight, module.bias))
        _replace(model, embedding, plain)


def restore_factors(model: Any, rank: int, extras: Mapping[str, Tensor]) -> None:
    """Put the factors that lie beside the weights in the word table's place.

    Raises ModelError when there are none, or the table is not their product.
    """
    table, projection = extras.get(_TABLE), extras.get(_PROJECTION)
    if table is None or projection is None:
        raise ModelError(
            "config.json says that the word table is a product, but ridgeline.safetensors beside it has no factors; "
            "copy the whole directory, or compress the model again"
        )
    weight = model.get_input_embeddings().weight.detach()
    shapes = tuple(table.shape), tuple(projection.shape)
    if shapes != ((weight.shape[0], rank), (rank, weight.shape[1])):
        raise ModelError(
            f"ridgeline.safetensors has factors of {shapes[0]} and {shapes[1]}, which make no word table of "
            f"{tuple(weight.shape)} at rank {rank}; compress the model again"
        )
    difference = float((table @ projection - weight).abs().max())
    if not difference <= _TOLERANCE * max(float(weight.abs().max()), 1e-6):
        raise ModelError(
            f"the word table is not the product of its factors (they differ by {difference:.1e}): the weights were "
            "changed after the model was compressed; compress it again"
        )
    install_factors(model, table.to(weight.dtype), projection.to(weight.dtype))


def factors_of(model: Any) -> tuple[Tensor, Tensor]:
    """Copies of table [vocab, rank] and projection [rank, width] of a model whose word table is a product."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, FactorizedEmbedding)
    return embedding.table.weight.detach().clone(), embedding.projection.weight.detach().t().clone()


def factor_extras(model: Any) -> dict[str, Tensor]:
    """The factors by the names that restore_factors reads, on the CPU."""
    table, projection = factors_of(model)
    return {_TABLE: table.cpu(), _PROJECTION: projection.cpu().contiguous()}


def _embedding(weight: nn.Parameter, padding_idx: int | None) -> nn.Embedding:
    """weight: [rows, width]"""
    rows, width = weight.shape
    made = nn.Embedding(rows, width, padding_idx=padding_idx, device="meta")
    made.weight = weight
    return made


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """weight: [out, in]"""
    rows, columns = weight.shape
    made = nn.Linear(columns, rows, bias=False, device="meta")
    made.weight = weight
    made.register_parameter("bias", bias)
    return made


def _replace(model: Any, old: nn.Module, new: nn.Module) -> None:
    """In every place that a module has in the model."""
    for module in model.modules():
        for name, child in module._modules.items():
            if child is old:
                setattr(module, name, new)

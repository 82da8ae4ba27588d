"""A narrower copy of a model: fewer channels of its states, fewer heads, fewer feed-forward channels.

What is kept is copied as it is. Of the states (the residual stream, the same channels in every layer) those channels
are kept that vary most over real text: what a channel carries is its variance, and layer norms, embeddings and every
matrix that reads or writes the stream can be cut to the same channels. A rotation to principal components would keep
more variance, but the element-wise gains of layer norms cannot be rotated. Heads and feed-forward channels are kept by
magnitude, layer by layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.distill.capture import capture
from ridgeline_export.compress.distill.widths import Widths, narrow_config
from ridgeline_export.compress.recover.tokens import sorted_batches, tokenize
from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.form.layout import Cut, LayerLayout, Layout, read_layout
from ridgeline_export.load import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

# Texts that the channels' variance is taken over.
_TEXTS = 256

# By parameter and dimension: the rows or columns that are kept.
_Kept = dict[tuple[str, int], "Tensor"]


def narrow(
    loaded: LoadedModel,
    examples: Sequence[Example],
    max_tokens: int,
    *,
    hidden: int | None = None,
    heads: int | None = None,
    ffn: int | None = None,
) -> LoadedModel:
    """A narrower copy; None keeps the model's heads' size, and its ratio of feed-forward to hidden.

    Raises UsageError for widths that are larger or that the architecture cannot have, UnsupportedModelError when its
    weights cannot be told apart.
    """
    import torch

    layout = read_layout(loaded.model)
    config, widths = narrow_config(loaded.model.config, layout, hidden=hidden, heads=heads, ffn=ffn)
    with torch.random.fork_rng(devices=[]):  # random weights that are overwritten at once
        student = type(loaded.model)._from_config(config, attn_implementation="eager", dtype=torch.float32)
    channels = _largest(_variances(loaded, examples, max_tokens), widths.hidden)
    kept = _inner(loaded.model, layout, widths)
    with torch.no_grad():
        ours, theirs = (dict(model.named_parameters()) for model in (student, loaded.model))
        if ours.keys() != theirs.keys():
            raise _unsupported(loaded, f"{min(ours.keys() ^ theirs.keys())} would come or go")
        for name, parameter in ours.items():
            tensor = theirs[name]
            for dim, size in enumerate(parameter.shape):
                tensor = _select(loaded, name, tensor, dim, int(size), kept, channels, widths)
            parameter.copy_(tensor)
    return dataclasses.replace(loaded, model=student.eval())


def _select(
    loaded: LoadedModel,
    name: str,
    tensor: Tensor,
    dim: int,
    size: int,
    kept: _Kept,
    channels: Tensor,
    widths: Widths,
) -> Tensor:
    """A parameter with the rows or columns of one dimension that the student has."""
    index = kept.get((name, dim))
    if index is None and tensor.shape[dim] == size:
        return tensor
    if index is None and tensor.shape[dim] == widths.hidden_before and size == widths.hidden:
        index = channels
    if index is None or len(index) != size:
        raise _unsupported(loaded, f"what is {tensor.shape[dim]} wide in {name} cannot become {size}")
    return tensor.index_select(dim, index.to(tensor.device))


def _inner(model: Any, layout: Layout, widths: Widths) -> _Kept:
    """Rows and columns of the heads and feed-forward channels that are kept."""
    import torch

    names = {module: name for name, module in model.named_modules()}
    kept: _Kept = {}
    distinct: dict[Any, LayerLayout] = {layer.module: layer for layer in layout.layers}
    strengths = {module: _head_strengths(layer) for module, layer in distinct.items()}
    if any(layer.shared_tables for layer in distinct.values()):  # the same heads everywhere
        total = torch.stack([each / each.sum() for each in strengths.values()]).sum(dim=0)
        strengths = dict.fromkeys(strengths, total)
    for module, layer in distinct.items():
        heads = _largest(strengths[module], widths.heads // layer.heads_per_unit)
        numbers = [
            unit * layer.heads_per_unit + each for unit in heads.tolist() for each in range(layer.heads_per_unit)
        ]
        channels = _largest(_channel_strengths(layer), widths.ffn)
        cuts = [cut for head in numbers for cut in layer.head_cuts[head]]
        cuts += [Cut(cut.module, cut.dim, cut.index[channels]) for cut in layer.channel_cuts]
        merged: dict[tuple[Any, int], list[Tensor]] = {}
        for cut in cuts:
            merged.setdefault((cut.module, cut.dim), []).append(cut.index)
        for (linear, dim), indices in merged.items():
            index = torch.unique(torch.cat(indices))  # sorted, and keys of a group once
            kept[f"{names[linear]}.weight", dim] = index
            if dim == 0:
                kept[f"{names[linear]}.bias", 0] = index
        for table in (*layer.own_tables, *layer.shared_tables):
            kept[f"{names[table.module]}.weight", 1] = table.index[torch.tensor(numbers)].sort().values
    return kept


def _head_strengths(layer: LayerLayout) -> Tensor:
    """Of each unit of heads that go together: norm of what writes it times norm of what reads it."""
    import torch

    heads = torch.stack([_strength(cuts) for cuts in layer.head_cuts])
    return heads.view(-1, layer.heads_per_unit).sum(dim=1)


def _strength(cuts: Sequence[Cut]) -> Tensor:
    import torch

    squares = {dim: torch.zeros((), dtype=torch.float64) for dim in (0, 1)}
    for cut in cuts:
        weight = cut.module.weight.detach().double().cpu()
        squares[cut.dim] = squares[cut.dim] + weight.index_select(cut.dim, cut.index).square().sum()
    return (squares[0] * squares[1]).sqrt()


def _channel_strengths(layer: LayerLayout) -> Tensor:
    """Of each channel [ffn]: norm of the rows that make it times norm of the column that reads it."""
    import torch

    squares = {dim: torch.zeros(layer.ffn, dtype=torch.float64) for dim in (0, 1)}
    for cut in layer.channel_cuts:
        weight = cut.module.weight.detach().double().cpu()
        squares[cut.dim] += weight.index_select(cut.dim, cut.index).square().sum(dim=1 - cut.dim)
    return (squares[0] * squares[1]).sqrt()


def _variances(loaded: LoadedModel, examples: Sequence[Example], max_tokens: int) -> Tensor:
    """Variance of each channel [hidden] over real tokens, as a share of its layer's, summed over the layers."""
    import torch

    tokens = tokenize(loaded.encoder, examples[:_TEXTS], max_tokens)
    device = next(loaded.model.parameters()).device
    sums: list[Tensor] = []
    count = 0
    with torch.no_grad():
        for chosen in sorted_batches(tokens.lengths, 32):
            inputs = {name: tensor.to(device) for name, tensor in tokens.batch(chosen).inputs.items()}
            with capture(loaded.model, hidden=True, attention=False) as captured:
                loaded.model(**inputs)
            mask = inputs["attention_mask"].bool()
            rows = [states[mask].double() for states in captured.hidden]
            found = [torch.stack([row.sum(dim=0), row.square().sum(dim=0)]) for row in rows]
            sums = found if not sums else [a + b for a, b in zip(sums, found, strict=True)]
            count += int(mask.sum())
    variances = [squares / count - (total / count) ** 2 for total, squares in sums]
    return torch.stack([each / each.sum().clamp(min=1e-12) for each in variances]).sum(dim=0).cpu()


def _largest(strengths: Tensor, count: int) -> Tensor:
    """Places of the largest, in ascending order; of equals the first."""
    order = strengths.argsort(descending=True, stable=True)[:count]
    return order.sort().values


def _unsupported(loaded: LoadedModel, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"'{loaded.model.config.model_type}' models cannot be made narrower in this way: {reason}; choose other "
        "widths, take fewer layers, or give a student of your own"
    )

"""From a probe to a LayerLayout: what one layer is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import nn

from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.form.layout import Cut, HeadTable, LayerLayout
from ridgeline_export.form.layout_links import columns_by_head, reached, rows_by_column
from ridgeline_export.form.layout_probe import Attention, Probe, Product


def refuse(model: Any, reason: str) -> NoReturn:
    """Say that a model cannot be taken apart."""
    raise UnsupportedModelError(
        f"'{model.config.model_type}' cannot be taken apart into heads and channels: {reason}; layers must have one "
        "attention and one feed-forward made of nn.Linear, as BERT's have"
    )


class LayerReader:
    """A layer under the probe."""

    def __init__(self, model: Any, probe: Probe, module: nn.Module) -> None:
        self.model = model
        self.module = module
        self.probe = probe
        self.products = probe.inside(module)
        self.linears = [product for product in self.products if isinstance(product.module, nn.Linear)]
        self.name = next(name for name, each in model.named_modules() if each is module)

    def layout(self) -> LayerLayout:
        """Its heads and channels. Raises UnsupportedModelError."""
        attention = self._attention()
        owner = next(module for module in reversed(attention.path) if _has_linears(module) or module is self.module)
        self._check_parameters(owner)
        head_cuts, head_dim = self._head_cuts(attention)
        channel_cuts = self._channel_cuts({cut.module for cuts in head_cuts for cut in cuts})
        return LayerLayout(
            number=0,
            module=self.module,
            attention=owner,
            heads=attention.heads,
            kv_heads=self._units(head_cuts),
            head_dim=head_dim,
            ffn=len(channel_cuts[0].index),
            head_cuts=head_cuts,
            channel_cuts=channel_cuts,
            own_tables=self._tables(attention),
        )

    def _attention(self) -> Attention:
        first, last = self.probe.calls[self.module]
        found = [each for each in self.probe.attentions if first <= each.order <= last]
        if len(found) != 1:
            self._refuse(f"attends {len(found)} times")
        return found[0]

    def _check_parameters(self, owner: nn.Module) -> None:
        names = [name for name, _ in owner.named_parameters(recurse=False)]
        for name, module in owner.named_modules():
            if module not in self.probe.calls:
                continue
            matrices = [each for each in module.parameters(recurse=False) if each.dim() > 1]
            if matrices and not isinstance(module, nn.Linear | nn.Embedding):
                names.append(name)
        if names:
            self._refuse(f"its attention has parameters of its own kind ({', '.join(names)})")

    def _head_cuts(self, attention: Attention) -> tuple[tuple[tuple[Cut, ...], ...], int]:
        result = self._result(attention)
        assert result.read is not None
        columns = columns_by_head(result.read, attention.leaf)
        counts = torch.bincount(torch.cat(columns), minlength=result.read.shape[-1])
        if len({len(each) for each in columns}) != 1 or int(counts.min()) != 1 or int(counts.max()) != 1:
            self._refuse("the results of its heads do not lie apart")
        leaves = [product.leaf for product in self.linears]
        cuts = []
        asking = []
        for head in range(attention.heads):
            only = torch.zeros(attention.heads, 1, 1)
            only[head] = 1
            mine = torch.zeros(result.read.shape[-1])
            mine[columns[head]] = 1
            scores = reached(attention.scores, leaves, only)
            asking.append(torch.cat(scores))
            rows = [both | values for both, values in zip(scores, reached(result.read, leaves, mine), strict=True)]
            cuts.append((*self._row_cuts(rows), Cut(result.module, 1, columns[head])))  # type: ignore[arg-type]
        # Heads may share keys, but not queries.
        own = (torch.stack(asking).sum(dim=0) == 1) & torch.stack(asking)
        if not bool(own.any(dim=1).all()):
            self._refuse("its heads are mixed before they attend")
        return tuple(cuts), len(columns[0])

    def _result(self, attention: Attention) -> Product:
        """The one linear that reads what attention gave."""
        found = [
            product
            for product in self.linears
            if product.order > attention.order
            and product.read is not None
            and bool(reached(product.read, [attention.leaf])[0].any())
        ]
        if len(found) != 1:
            self._refuse(f"{len(found)} linears read what its attention gives")
        return found[0]

    def _row_cuts(self, rows: Sequence[torch.Tensor]) -> list[Cut]:
        """Linears may have been called several times: each is cut where any of its calls says."""
        merged: dict[nn.Module, torch.Tensor] = {}
        for product, mine in zip(self.linears, rows, strict=True):
            merged[product.module] = merged[product.module] | mine if product.module in merged else mine
        return [
            Cut(module, 0, mine.nonzero().flatten())  # type: ignore[arg-type]
            for module, mine in merged.items()
            if bool(mine.any())
        ]

    def _units(self, cuts: Sequence[Sequence[Cut]]) -> int:
        """How many groups of heads have no row in common with each other."""
        groups: list[dict[nn.Module, set[int]]] = []
        for head in cuts:
            rows: dict[nn.Module, set[int]] = {cut.module: set(cut.index.tolist()) for cut in head if cut.dim == 0}
            if groups and any(rows[module] & groups[-1].get(module, set()) for module in rows):
                for module, mine in rows.items():
                    groups[-1].setdefault(module, set()).update(mine)
            else:
                groups.append(rows)
        heads = len(cuts)
        if heads % len(groups):
            self._refuse("its heads share keys and values in groups of several sizes")
        return len(groups)

    def _tables(self, attention: Attention) -> tuple[HeadTable, ...]:
        """Embeddings with a column for each head."""
        tables = []
        given = [
            each
            for each in self.probe.products
            if isinstance(each.module, nn.Embedding) and each.order < attention.order
        ]
        for product in given:
            columns = []
            for head in range(attention.heads):
                only = torch.zeros(attention.heads, 1, 1)
                only[head] = 1
                columns.append(reached(attention.scores, [product.leaf], only)[0].nonzero().flatten())
            if all(len(each) == 1 for each in columns) and len(torch.unique(torch.cat(columns))) == len(columns):
                tables.append(HeadTable(product.module, torch.cat(columns)))  # type: ignore[arg-type]
        return tuple(tables)

    def _channel_cuts(self, attending: set[nn.Linear]) -> tuple[Cut, ...]:
        found = []
        for product in self.linears:
            if product.module in attending or product.read is None:
                continue
            cuts = self._cuts_between(product, attending)
            if cuts:
                found.append((*cuts, Cut(product.module, 1, torch.arange(product.read.shape[-1]))))  # type: ignore[arg-type]
        if len(found) != 1:
            self._refuse(f"{len(found)} feed-forwards were found")
        return found[0]

    def _cuts_between(self, product: Product, attending: set[nn.Linear]) -> list[Cut]:
        """Cuts of the linears whose outputs, each for itself, are all that a linear reads; none when that is not so."""
        assert product.read is not None
        before = [each for each in self.probe.products if each.order < product.order]
        links = reached(product.read, [each.leaf for each in before])
        sources = [each for each, link in zip(before, links, strict=True) if bool(link.any())]
        if not sources or not all(each in self.linears and each.module not in attending for each in sources):
            return []
        cuts: list[Cut] = []
        for source in sources:
            rows = rows_by_column(product.read, source.leaf)
            if rows is None:
                return []
            cuts += [Cut(source.module, 0, rows[:, place].contiguous()) for place in range(rows.shape[1])]  # type: ignore[arg-type]
        return cuts

    def _refuse(self, reason: str) -> NoReturn:
        refuse(self.model, f"in {self.name} {reason}")


def _has_linears(module: nn.Module) -> bool:
    return any(isinstance(child, nn.Linear) for child in module.children())

"""One forward pass that shows what a model's linears and attentions read of each other.

Every output of an nn.Linear or nn.Embedding and every attention matrix is replaced by random numbers of the same shape
that are a graph of their own, so that autograd tells, exactly and without a word about architectures, which of them a
later tensor is computed from: directly, not through another linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ridgeline_export.errors import UnsupportedModelError, summary

if TYPE_CHECKING:
    from torch import Tensor

_BATCH, _TOKENS = 2, 4
_SOFTMAX = (nn.functional.softmax, torch.softmax, torch.Tensor.softmax)


@dataclass(frozen=True, slots=True)
class Product:
    """What a linear or an embedding gave. order: of all products, attentions and calls in the pass

    read: what the linear was given; None for an embedding
    leaf: [..., features], positive and random
    """

    module: nn.Module
    order: int
    read: Tensor | None
    leaf: Tensor


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention matrix. scores, leaf: [batch, heads, tokens, tokens]; path: modules inside which it was computed."""

    path: tuple[nn.Module, ...]
    order: int
    scores: Tensor
    leaf: Tensor

    @property
    def heads(self) -> int:
        return int(self.scores.shape[1])


class Probe(TorchFunctionMode):
    """Records a forward pass. calls: of each module the order in which its first call began and ended."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []
        self.attentions: list[Attention] = []
        self.calls: dict[nn.Module, tuple[int, int]] = {}
        self._path: list[tuple[nn.Module, int]] = []
        self._order = 0
        self._generator = torch.Generator().manual_seed(0)

    def inside(self, module: nn.Module) -> list[Product]:
        """Products of a module's first call, in their order."""
        first, last = self.calls[module]
        return [product for product in self.products if first <= product.order <= last]

    def entered(self, module: nn.Module, args: Any) -> None:
        self._path.append((module, self._next()))

    def left(self, module: nn.Module, args: Any, output: Any) -> Any:
        _, first = self._path.pop()
        order = self._next()
        self.calls.setdefault(module, (first, order))
        if not isinstance(module, nn.Linear | nn.Embedding) or not isinstance(output, torch.Tensor):
            return None
        leaf = self._leaf(output)
        read = args[0] if isinstance(module, nn.Linear) and args else None
        self.products.append(Product(module, order, read, leaf))
        return leaf.clone()  # models may work on it in place

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func not in _SOFTMAX or not args or output.dim() != 4:
            return output
        if output.shape[0] != _BATCH or output.shape[2:] != (_TOKENS, _TOKENS):
            return output
        leaf = self._leaf(output)
        path = tuple(module for module, _ in self._path)
        self.attentions.append(Attention(path, self._next(), args[0], leaf))
        return leaf.clone()

    def _leaf(self, like: Tensor) -> Tensor:
        """Positive, so that no activation has a slope of zero there."""
        numbers = torch.rand(like.shape, generator=self._generator) + 0.5
        return numbers.to(like.device, like.dtype).requires_grad_()

    def _next(self) -> int:
        self._order += 1
        return self._order


def run_probe(model: Any) -> Probe:
    """Run a model of transformers once on a short made-up input, its weights and state left as they are.

    Gradients must be enabled. Raises UnsupportedModelError when the model cannot be run.
    """
    base = model.base_model
    probe = Probe()
    with torch.autocast(model.device.type, enabled=False), _quiet(model), _watched(base, probe):
        try:
            rows = int(base.get_input_embeddings().num_embeddings)
            ids = torch.arange(_BATCH * _TOKENS, device=base.device).reshape(_BATCH, _TOKENS) % rows
            base(input_ids=ids, attention_mask=torch.ones_like(ids))
        except Exception as error:  # a model's own code has errors of any type
            raise UnsupportedModelError(
                f"'{model.config.model_type}' cannot be taken apart into heads and channels: {summary(error)}"
            ) from error
    return probe


@contextmanager
def _quiet(model: Any) -> Iterator[None]:
    """Without dropout and with attention that shows its softmax; afterwards as before."""
    was_training = [module for module in model.modules() if module.training]
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = {key: config._attn_implementation for key, config in configs.items()}
    model.eval()
    try:
        for config in configs.values():
            config._attn_implementation = "eager"
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]
        for module in was_training:
            module.training = True


@contextmanager
def _watched(base: nn.Module, probe: Probe) -> Iterator[None]:
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    handles = [register_module_forward_pre_hook(probe.entered), register_module_forward_hook(probe.left)]
    try:
        with probe:
            yield
    finally:
        for handle in handles:
            handle.remove()

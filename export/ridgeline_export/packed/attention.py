"""transformers' attention calls → the dialect's ops of attention, without a word about architectures.

A model calls its attention function with a mask. On one sequence alone, `observing`, every call's mask is read for what
it means: which distances see each other, and which bias they have. Afterwards the same calls are made as packed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import UnsupportedModelError
from ridgeline_export.packed.approximate import BUFFERS, Approximation, approximation_of
from ridgeline_export.packed.masks import CAUSAL, EVERYTHING, Band, bias_by_distance, read_band
from ridgeline_export.packed.ops import packed_attention

if TYPE_CHECKING:
    from torch import Tensor, nn

IMPLEMENTATION = "ridgeline_packed"
BIAS = "packed_relative_bias"


@dataclass(frozen=True, slots=True)
class Rule:
    """How an attention module sees the tokens of a sequence.

    has_bias:      its buffer BIAS holds the bias by distance
    approximation: what stands in exact attention's place; None for exact attention
    """

    band: Band
    has_bias: bool
    approximation: Approximation | None = None


class Attentions:
    """The attention of one model while it is lowered.

    cu_seqlens: int32 [sequences + 1], set for every packed call; None while the model's own attention is observed
    sees_bias: a bias by position was observed, so a sequence longer than the bias reaches must be observed
    reads_bias: the sequence observed is that long
    """

    def __init__(self, model: nn.Module) -> None:
        self.cu_seqlens: Tensor | None = None
        self.sees_bias = False
        self.reads_bias = False
        self.rules: dict[nn.Module, Rule] = {}
        self._names = {module: name for name, module in model.named_modules()}
        self._bands: dict[int, tuple[Tensor, Band | None]] = {}
        self._tables: list[Tensor] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand in transformers' registries under the name IMPLEMENTATION."""
        from transformers import AttentionInterface, AttentionMaskInterface

        AttentionInterface.register(IMPLEMENTATION, self.attend)
        AttentionMaskInterface.register(IMPLEMENTATION, self.mask)
        try:
            yield
        finally:
            AttentionInterface._global_mapping.pop(IMPLEMENTATION, None)
            AttentionMaskInterface._global_mapping.pop(IMPLEMENTATION, None)
            for module in self._names:
                for name in (BIAS, *BUFFERS):
                    module._buffers.pop(name, None)
                    module._non_persistent_buffers_set.discard(name)

    def name(self, module: nn.Module) -> str:
        """A module's name in the model, for messages."""
        return self._names.get(module) or type(module).__name__

    def note(self, module: nn.Module) -> None:
        """Count a module among those that attend, when its packed op is emitted by an adapter of its own."""
        self.rules[module] = Rule(EVERYTHING, False)

    def mask(self, mask_function: Callable[..., Any], **kwargs: Any) -> Tensor | None:
        """transformers' mask interface: the eager mask, and note what its function means."""
        from transformers.masking_utils import eager_mask

        if self.cu_seqlens is not None:
            return None
        # On a sequence shorter than its window a mask would hide nothing and be left out, and the window with it.
        whole = {**kwargs, "allow_is_bidirectional_skip": False}
        mask: Tensor | None = eager_mask(mask_function=mask_function, **whole)
        if mask is not None:
            try:
                band = read_band(mask_function)
            except Exception:  # a function of the model's own, made for this sequence's shape
                band = None
            self._bands[mask.untyped_storage().data_ptr()] = mask, band
        return mask

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        softcap: float | None = None,
        position_bias: Tensor | None = None,
        is_causal: bool | None = None,
        s_aux: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """transformers' attention interface: q [1, heads, tokens, head_dim] … → [1, tokens, heads, head_dim]."""
        import torch

        q, k, v = (states.transpose(1, 2) for states in (query, key, value))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        if self.cu_seqlens is None:
            self._check(module, query, key, value, scale, s_aux)
            self._observe(module, attention_mask, position_bias, is_causal, query.shape[3])
            self._check_approximate(module, softcap)
            bounds = torch.tensor([0, query.shape[2]], dtype=torch.int32)
        else:
            bounds = self.cu_seqlens
            if module not in self.rules:
                raise UnsupportedModelError(f"{self.name(module)} attends in some inputs only; it cannot be packed")
        rule = self.rules[module]
        if rule.approximation is not None:
            return rule.approximation.attend(module, q, k, v, bounds, float(scale)), None
        out = packed_attention(
            q,
            k,
            v,
            bounds,
            module.get_buffer(BIAS) if rule.has_bias else None,
            scale=float(scale),
            causal=rule.band.is_causal,
            window_left=rule.band.left,
            window_right=rule.band.right,
            softcap=float(softcap or 0.0),
        )
        return out, None

    def _check(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: Any, sinks: Tensor | None) -> None:
        import torch

        reason = None
        if q.shape[0] != 1:
            reason = "splits its input into several rows"
        elif k.shape[2] != q.shape[2]:
            reason = "attends to other tokens than those of its own sequence"
        elif v.shape[3] != q.shape[3]:
            reason = f"has values of {v.shape[3]} dims beside keys of {q.shape[3]}"
        elif sinks is not None:
            reason = "has attention sinks"
        elif isinstance(scale, torch.Tensor):
            reason = "scales its scores by a tensor"
        if reason:
            raise UnsupportedModelError(f"{self.name(module)} {reason}, which packed attention cannot express")

    def _check_approximate(self, module: nn.Module, softcap: float | None) -> None:
        """Raise UnsupportedModelError when approximate attention would have to do what only exact attention can."""
        rule = self.rules[module]
        if rule.approximation is not None and (rule.band != EVERYTHING or rule.has_bias or softcap):
            raise UnsupportedModelError(
                f"{self.name(module)} attends approximately ({rule.approximation.method}) under a mask, a bias or a "
                "cap of its scores, which packed attention cannot express"
            )

    def _observe(
        self, module: nn.Module, mask: Tensor | None, bias: Tensor | None, is_causal: bool | None, head_dim: int
    ) -> None:
        has_bias = bias is not None and bool(bias.any())
        self.sees_bias |= has_bias
        approximation = approximation_of(module, self.name(module), head_dim)
        rule = Rule(self._band(module, mask, is_causal), has_bias and self.reads_bias, approximation)
        if self.rules.setdefault(module, rule) != rule:
            raise UnsupportedModelError(
                f"{self.name(module)} attends in several ways in one pass, which packed attention cannot express"
            )
        if bias is not None and rule.has_bias:
            module.register_buffer(BIAS, self._table(module, bias), persistent=False)

    def _band(self, module: nn.Module, mask: Tensor | None, is_causal: bool | None) -> Band:
        import torch

        if mask is None:
            causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
            return CAUSAL if causal else EVERYTHING
        if mask.untyped_storage().data_ptr() in self._bands:
            band = self._bands[mask.untyped_storage().data_ptr()][1]
        else:
            hides = not mask.all() if mask.dtype == torch.bool else mask.any()
            band = None if hides else EVERYTHING
        if band is None:
            raise UnsupportedModelError(self._inexpressible(module, "mask or bias"))
        return band

    def _table(self, module: nn.Module, bias: Tensor) -> Tensor:
        import torch

        table = bias_by_distance(bias)
        if table is None:
            raise UnsupportedModelError(self._inexpressible(module, "bias"))
        # One tensor for the layers that share a bias, and so one initializer.
        for known in self._tables:
            if torch.equal(known, table):
                return known
        self._tables.append(table)
        return table

    def _inexpressible(self, module: nn.Module, what: str) -> str:
        return (
            f"{self.name(module)} has a {what} that is more than a function of the distance of two tokens, "
            "or one without an end; packed attention cannot express it"
        )

"""Models of transformers that compute attention themselves: their modules are taught to call the packed ops.

An adapter is a function (module, attentions) → forward; it stands in the place of the module's own while a model is
lowered. REACHES holds the distance at which a model's bias by position ends, where its config does not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ridgeline_export.packed.own_attention import deberta_v2, mpnet

if TYPE_CHECKING:
    from torch import nn

    from ridgeline_export.packed.attention import Attentions

    Adapter = Callable[[Any, Attentions], Callable[..., Any]]

ADAPTERS: dict[tuple[str, str], Adapter] = {
    ("transformers.models.mpnet.modeling_mpnet", "MPNetSelfAttention"): mpnet.adapt,
    ("transformers.models.deberta_v2.modeling_deberta_v2", "DisentangledSelfAttention"): deberta_v2.adapt,
}
REACHES = {("transformers.models.mpnet.modeling_mpnet", "MPNetSelfAttention"): mpnet.REACH}
BUFFERS = deberta_v2.BUFFERS


@contextmanager
def adapted(model: nn.Module, attentions: Attentions) -> Iterator[None]:
    """Put the adapters in the places of their modules' forwards."""
    with ExitStack() as undo:
        for module in model.modules():
            adapter = ADAPTERS.get(_key(module))
            if adapter is not None:
                undo.callback(_restore, module, vars(module).get("forward"))
                module.forward = adapter(module, attentions)
        yield


def reach(model: nn.Module) -> int:
    """The distance at which the model's bias by position ends; 0 when nothing tells."""
    declared = [REACHES.get(_key(module), 0) for module in model.modules()]
    declared += [int(getattr(module, "relative_attention_max_distance", 0) or 0) for module in model.modules()]
    return max(declared)


def _key(module: nn.Module) -> tuple[str, str]:
    return type(module).__module__, type(module).__name__


def _restore(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    if forward is None:
        vars(module).pop("forward", None)
    else:
        module.forward = forward
    for name in BUFFERS:
        module._buffers.pop(name, None)
        module._non_persistent_buffers_set.discard(name)

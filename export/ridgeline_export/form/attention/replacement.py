"""The module that attends in an attention module's place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ridgeline_export.form.attention.approximations import make_approximation
from ridgeline_export.form.form import AttentionForm

NAME = "ridgeline_attention"


class Replacement(nn.Module):
    """Approximate attention of one layer, with its tensors: parameters where they are trained, else buffers."""

    def __init__(self, form: AttentionForm, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.form = form
        self.approximation = make_approximation(form)
        for name, tensor in tensors.items():
            copy = tensor.detach().clone()
            if name in self.approximation.trained:
                self.register_parameter(name, nn.Parameter(copy))
            else:
                self.register_buffer(name, copy)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def forward(self, q: Tensor, k: Tensor, v: Tensor, is_token: Tensor, scale: float, dropout: float) -> Tensor:
        """q [batch, heads, tokens, head_dim], k and v with as many heads or a divisor of them → like q."""
        group = q.shape[1] // k.shape[1]
        if group > 1:
            k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
        # Under autocast rotations by position can leave queries and keys in another precision than values.
        dtype = v.dtype if torch.is_autocast_enabled(q.device.type) else q.dtype
        return self.approximation.attend(
            q.to(dtype), k.to(dtype), v.to(dtype), is_token, self.tensors(), scale, dropout
        )


def replacement_of(module: nn.Module) -> Replacement | None:
    """What attends in an attention module's place; None where attention is exact."""
    found = module._modules.get(NAME)
    return found if isinstance(found, Replacement) else None


def attention_of(module: nn.Module) -> AttentionForm | None:
    """The method and settings of an attention module; None where attention is exact.

    settings: nystrom {landmarks, iterations, conv}, linformer {rank, max_length, separate_values}, lsh {chunk,
    key_chunks, buckets, rounds}, local-global {window, global_tokens}; what has its default may be absent. `layers`, of
    the whole model, may be among them
    """
    found = replacement_of(module)
    return None if found is None else found.form


def attention_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Tensors of an attention module by name; none where attention is exact, or needs none.

    nystrom: conv_kernel [1, width], for all heads, when `conv` is set; linformer: key_projection [max_length, rank]
    and, when `separate_values`, value_projection; lsh: rotations [1, rounds, head_dim, buckets / 2]
    """
    found = replacement_of(module)
    return {} if found is None else found.tensors()


def is_hashed(model: nn.Module) -> bool:
    """Whether a model attends by hashes: its answers then jump where rounding moves a token to another bucket."""
    return any(form.method == "lsh" for module in model.modules() if (form := attention_of(module)) is not None)

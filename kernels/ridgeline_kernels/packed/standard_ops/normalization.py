"""Norms and softmax, as nodes that no fused op took in."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ridgeline_kernels.packed.standard_ops.registry import Building, Run, standard


@standard("LayerNormalization")
def _layer_norm(building: Building) -> Run:
    axis, eps = building["axis"], building["epsilon"]
    has_statistics = any(building.node.outputs[1:])

    def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        # Statistics in fp32 whatever the dtype: torch keeps them so.
        shape = x.shape[axis:]
        return F.layer_norm(x, shape, weight.expand(shape), None if bias is None else bias.expand(shape), eps)

    def with_statistics(
        x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        axes = tuple(range(axis % x.dim(), x.dim()))
        wide = x.float()
        mean = wide.mean(axes, keepdim=True)
        inverse = torch.rsqrt((wide - mean).square().mean(axes, keepdim=True) + eps)
        return layer_norm(x, weight, bias), mean, inverse

    return with_statistics if has_statistics else layer_norm


@standard("Softmax", "LogSoftmax")
def _softmax(building: Building) -> Run:
    axis = building["axis"]
    function = torch.softmax if building.node.op_type == "Softmax" else torch.log_softmax
    return lambda x: function(x, axis)


@standard("LpNormalization")
def _unit_length(building: Building) -> Run:
    axis, order = building["axis"], building["p"]

    def unit_length(x: torch.Tensor) -> torch.Tensor:
        # A row of zeros has no direction, and stays.
        norm: torch.Tensor = torch.linalg.vector_norm(x, order, dim=axis, keepdim=True)
        return x / norm.masked_fill(norm == 0, 1)

    return unit_length

"""The tables of cos and sin that `rotary` takes, with the scalings that stretch a model's context.

    angle[position, i] = position · f_i        f_i = theta^(-2i / rotary_dim), scaled

The numbers are those of transformers' `modeling_rope_utils` and of the models' own rotary modules: fp32 throughout, on
the CPU, then moved, so that every device has the same tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ridgeline_kernels.arguments import check_choice, check_range
from ridgeline_kernels.errors import ArgumentError

_WAVE = 2 * math.pi


def rotary_tables(
    rotary_dim: int,
    max_positions: int,
    theta: float = 10000.0,
    scaling: Mapping[str, Any] | None = None,
    *,
    device: torch.device | str = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cos and sin of every position's angles: fp32 [max_positions, rotary_dim / 2] each.

    rotary_dim: elements of a head that turn: head_dim, times the model's partial_rotary_factor
    scaling:    a config's rope_parameters (or rope_scaling): "rope_type" (or "type") is "default", "linear",
                "llama3" or "yarn", beside it that type's numbers; its rope_theta and partial_rotary_factor are not
                looked at. "dynamic" and "longrope" are not taken: their angles depend on the length of each input, so
                no one table holds them.

    Raises ArgumentError.
    """
    check_range("rotary_dim", rotary_dim, 2)
    if rotary_dim % 2:
        raise ArgumentError(f"rotary_dim is {rotary_dim}; it must be even")
    check_range("max_positions", max_positions, 1)
    if not theta > 0:
        raise ArgumentError(f"theta is {theta}; it must be more than 0")
    scaling = scaling or {}
    rope_type = scaling.get("rope_type", scaling.get("type", "default"))
    check_choice("scaling's rope_type", rope_type, tuple(_SCALINGS))
    frequencies, magnitude = _SCALINGS[rope_type](rotary_dim, theta, scaling)
    angles = torch.arange(max_positions, dtype=torch.float32)[:, None] * frequencies
    return (angles.cos() * magnitude).to(device), (angles.sin() * magnitude).to(device)


def _wavelengths(rotary_dim: int, theta: float) -> torch.Tensor:
    """Wavelengths of the pairs over 2π, fp32 [rotary_dim / 2]."""
    powers: torch.Tensor = theta ** (torch.arange(0, rotary_dim, 2).float() / rotary_dim)
    return powers


def _default(rotary_dim: int, theta: float, scaling: Mapping[str, Any]) -> tuple[torch.Tensor, float]:
    return 1.0 / _wavelengths(rotary_dim, theta), 1.0


def _linear(rotary_dim: int, theta: float, scaling: Mapping[str, Any]) -> tuple[torch.Tensor, float]:
    return 1.0 / _wavelengths(rotary_dim, theta) / _number(scaling, "factor"), 1.0


def _llama3(rotary_dim: int, theta: float, scaling: Mapping[str, Any]) -> tuple[torch.Tensor, float]:
    """Llama 3.1: waves that are long against the original context are stretched, short ones kept, a ramp between."""
    factor, original = _number(scaling, "factor"), _number(scaling, "original_max_position_embeddings")
    low, high = _number(scaling, "low_freq_factor"), _number(scaling, "high_freq_factor")
    if not high > low:
        raise ArgumentError(f"scaling's high_freq_factor is {high}; it must be more than low_freq_factor, {low}")
    frequencies = 1.0 / _wavelengths(rotary_dim, theta)
    length = _WAVE / frequencies
    ramp = (original / length - low) / (high - low)
    between = (1 - ramp) * frequencies / factor + ramp * frequencies
    stretched = torch.where(length > original / low, frequencies / factor, between)
    return torch.where(length < original / high, frequencies, stretched), 1.0


def _yarn(rotary_dim: int, theta: float, scaling: Mapping[str, Any]) -> tuple[torch.Tensor, float]:
    """YaRN, arXiv 2309.00071: a ramp over the pairs by how often they turn within the original context."""
    factor, original = _number(scaling, "factor"), _number(scaling, "original_max_position_embeddings")

    def pair_that_turns(times: float) -> float:
        return rotary_dim * math.log(original / (times * _WAVE)) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.get("beta_fast") or 32), pair_that_turns(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    high = high + 0.001 if low == high else high
    kept = 1 - ((torch.arange(rotary_dim // 2).float() - low) / (high - low)).clamp(0, 1)
    wavelengths = _wavelengths(rotary_dim, theta)
    return (1.0 / (factor * wavelengths)) * (1 - kept) + (1.0 / wavelengths) * kept, _yarn_magnitude(factor, scaling)


def _yarn_magnitude(factor: float, scaling: Mapping[str, Any]) -> float:
    def grown(by: float) -> float:
        return 0.1 * by * math.log(factor) + 1.0 if factor > 1 else 1.0

    given = scaling.get("attention_factor")
    if given is not None:
        return float(given)
    by, over = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return grown(by) / grown(over) if by and over else grown(1.0)


def _number(scaling: Mapping[str, Any], key: str) -> float:
    value = scaling.get(key)
    if not isinstance(value, int | float) or not value > 0:
        raise ArgumentError(f"scaling's {key} is {value!r}; it must be a number above 0")
    return value


_SCALINGS: dict[str, Callable[[int, float, Mapping[str, Any]], tuple[torch.Tensor, float]]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}

"""How near a kernel must be to its reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ridgeline_kernels.numerics import computing_in


def as_float64(value: Any) -> Any:
    """Floating-point tensors in float64, in whatever they are nested in; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(as_float64(item) for item in value)
    return value


def assert_as_near_as_reference(
    actual: torch.Tensor,
    reference: Callable[..., torch.Tensor],
    *args: Any,
    low_precision: torch.dtype | None = None,
    factor: float = 2.0,
) -> None:
    """Assert that the kernel's error is at most `factor` times the reference's own.

    Both errors are against the reference in float64 on the same inputs. The reference's own is taken with every
    intermediate in `low_precision` (by default the dtype of `actual`), as a model in that precision computes;
    beside it, one unit in the last place of the largest output is allowed.
    """
    truth = reference(*as_float64(args)).cpu()
    with computing_in(low_precision or actual.dtype):
        own = reference(*args).cpu().double()
    assert actual.shape == truth.shape, f"shape {list(actual.shape)}, expected {list(truth.shape)}"
    assert not actual.isnan().any(), "some outputs were not written, or are NaN"
    if not truth.numel():
        return
    error = (actual.cpu().double() - truth).abs().max().item()
    own_error = (own - truth).abs().max().item()
    allowed = factor * own_error + torch.finfo(actual.dtype).eps * truth.abs().max().item()
    assert error <= allowed, f"error {error:.3e}; the reference's own in {own.dtype} is {own_error:.3e}"


def assert_same_codes(
    codes: torch.Tensor, scale: torch.Tensor, expected: torch.Tensor, expected_scale: torch.Tensor, dtype: torch.dtype
) -> None:
    """The codes of a fused and of an unfused computation, which a GPU's compiler may round differently in fp32."""
    assert codes.dtype == expected.dtype
    if codes.device.type == "cpu":
        assert torch.equal(scale, expected_scale)
        assert torch.equal(codes.float(), expected.float())
    torch.testing.assert_close(scale, expected_scale, rtol=2 * torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(
        codes.float() * scale[:, None], expected.float() * expected_scale[:, None], rtol=0.13, atol=float(scale.max())
    )

"""Launches: run, recorded, or nothing to run; and what launchers are told of a device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from ridgeline_kernels.devices import Chip, chip_of, describing
from ridgeline_kernels.launching import launch, recording


@triton.jit
def _double_kernel(x_ptr, out_ptr, size, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < size, other=0.0)
    tl.store(out_ptr + offs, 2 * x, mask=offs < size)


def test_a_launch_runs_the_kernel(device: torch.device) -> None:
    x = torch.randn(100, device=device)
    out = torch.empty_like(x)
    launch(_double_kernel, (4,), x, out, 100, BLOCK=32, num_warps=1)
    torch.testing.assert_close(out, 2 * x)


@pytest.mark.parametrize("grid", [(0,), (3, 0), (0, 2, 2)])
def test_an_empty_grid_launches_nothing(device: torch.device, grid: tuple[int, ...]) -> None:
    x, out = torch.randn(100, device=device), torch.zeros(100, device=device)
    launches: list[tuple[Any, ...]] = []
    launch(_double_kernel, grid, x, out, 100, BLOCK=32, num_warps=1)
    with recording(lambda *launch: launches.append(launch)):
        launch(_double_kernel, grid, x, out, 100, BLOCK=32, num_warps=1)
    assert not out.any()
    assert launches == []


def test_a_recorder_gets_launches_instead_of_the_device() -> None:
    launches: list[tuple[Any, ...]] = []
    x = torch.randn(8)
    with recording(lambda *launch: launches.append(launch)):
        launch(_double_kernel, (2, 1), x, x, 8, BLOCK=4, num_warps=2)
    [(kernel, grid, args, options)] = launches
    assert kernel is _double_kernel
    assert grid == (2, 1)
    assert args[0] is x
    assert args[2] == 8
    assert options["BLOCK"] == 4
    assert options["num_warps"] == 2


def test_recording_ends_with_its_block() -> None:
    launches: list[Any] = []
    with pytest.raises(RuntimeError), recording(lambda *launch: launches.append(launch)):
        raise RuntimeError
    with pytest.raises(TypeError):
        launch(object(), (1,))
    assert not launches


def test_a_device_may_be_described() -> None:
    chip = Chip(capability=120, multiprocessors=7)
    before = chip_of(torch.device("cpu"))
    with describing(chip):
        assert chip_of(torch.device("cpu")) is chip
        assert chip_of(torch.device("meta")) is chip
    assert chip_of(torch.device("cpu")) == before
    assert before.multiprocessors > 1


@pytest.mark.gpu
def test_a_gpu_s_chip_is_its_own() -> None:
    chip = chip_of(torch.device("cuda"))
    assert chip.capability >= 80
    assert chip.multiprocessors == torch.cuda.get_device_properties(0).multi_processor_count

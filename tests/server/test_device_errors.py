"""Which errors lose a GPU's context, and that a worker ends with it and is replaced."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from ridgeline_server.runtimes.device_errors import is_device_lost, names_sticky_error
from ridgeline_server.runtimes.devices import CPU, Device
from tests.server.faulty_model import answer, plan, served, submit
from tests.server.lost_device_worker import LOSE_DEVICE, MARK_VARIABLE

ROOT = Path(__file__).parents[2]
WORKER = (sys.executable, "-m", "tests.server.lost_device_worker")


@pytest.mark.parametrize(
    ("message", "is_sticky"),
    [
        ("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered ; GPU=0", True),
        ("CUDA failure 719: unspecified launch failure ; GPU=1 ; hostname=x", True),
        ("CUDA failure 214: uncorrectable ECC error encountered", True),
        ("Non-zero status code returned while running X: misaligned address", True),
        ("CUDA failure 2: out of memory ; GPU=0", False),
        ("Failed to allocate memory for requested buffer of size 1073741824", False),
        ("CUDA failure 7000: no such thing", False),
        ("[ShapeInferenceError] Incompatible dimensions", False),
    ],
)
def test_messages_that_name_a_sticky_error(message: str, is_sticky: bool) -> None:
    assert names_sticky_error(message) is is_sticky


def test_a_cpu_is_never_lost() -> None:
    assert not is_device_lost(CPU, RuntimeError("CUDA failure 700: an illegal memory access was encountered"))


def test_a_gpu_that_is_not_there_does_not_answer() -> None:
    """The installed ONNX Runtime knows no such device, so that copying to it fails as on a lost one."""
    assert is_device_lost(Device("cuda", 99), RuntimeError("something else"))


async def test_a_worker_whose_device_is_lost_is_replaced_and_the_work_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(MARK_VARIABLE, str(mark))
    async with served([plan()], command=WORKER) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        first = model.replicas[0].pid
        assert await answer(submit(model, [1, 3])) == [2]
        # Its worker ends with the device; the next one, whose device is sound, runs the batch again.
        assert await answer(submit(model, [LOSE_DEVICE])) == [LOSE_DEVICE]
        assert not mark.exists()
        assert model.replicas[0].pid not in (None, first)

"""A machine with GPUs that are too old for packed batches, beside others."""

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from ridgeline_export.bundle import Bundle
from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes import gpus, triton_packages
from ridgeline_server.runtimes.choice import is_usable
from tests.server.test_packed_selection import bundle, machine, plans, without

__all__ = ["bundle", "machine"]

Capabilities = tuple[tuple[int, int] | None, ...]


def has(machine: pytest.MonkeyPatch, *capabilities: tuple[int, int] | None) -> None:
    machine.setattr(triton_packages, "compute_capabilities", lambda: capabilities)


def chosen(bundle: Bundle, **flags: str) -> list[tuple[str, str]]:
    return [(plan.runtime, str(plan.device)) for plan in plans(bundle, **flags)]


@pytest.mark.parametrize("flags", [{}, {"runtime": "triton"}, {"variant": "packed-int8"}])
def test_auto_leaves_them_out_and_says_so(flags: dict[str, str], bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    has(machine, (7, 5), (9, 0))
    (plan,) = plans(bundle, **flags)
    assert (plan.runtime, str(plan.device), plan.device_share) == ("triton", "cuda:1", 1.0)
    assert "; cuda:0 is left out, older than compute capability 8.0 (Ampere), which triton needs" in plan.why


def test_only_gpus_that_are_served_have_to_be_new(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    has(machine, (8, 0), (7, 5))
    assert chosen(bundle, devices="cuda:0,cuda:0") == [("triton", "cuda:0")] * 2
    assert "left out" not in plans(bundle, devices="cuda:0")[0].why
    assert chosen(bundle, devices="cuda:0", runtime="triton") == [("triton", "cuda:0")]


@pytest.mark.parametrize("devices", ["cuda:1", "cuda:0,cuda:1"])
def test_those_that_are_named_are_served_padded(devices: str, bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    has(machine, (8, 0), (7, 5))
    found = plans(bundle, devices=devices)
    assert [str(plan.device) for plan in found] == devices.split(",")
    assert {(plan.variant, plan.runtime) for plan in found} == {("fp16", "onnxruntime")}
    assert "capability 8.0 (Ampere) or newer, which cuda:1 is not; name others with --devices" in found[0].why
    for flags in ({"runtime": "triton"}, {"variant": "packed-fp16"}):
        with pytest.raises(StartupError, match="which cuda:1 is not"):
            plans(bundle, devices=devices, **flags)


def test_where_all_are_old_onnxruntime_serves_on_all(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    has(machine, (7, 0), (7, 5))
    assert chosen(bundle) == [("onnxruntime", "cuda:0"), ("onnxruntime", "cuda:1")]
    with pytest.raises(StartupError, match="which cuda:0 and cuda:1 are not"):
        plans(bundle, runtime="triton")


def test_padded_batches_need_no_new_gpus(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    has(machine, (9, 0), (7, 5))
    everywhere = [("onnxruntime", "cuda:0"), ("onnxruntime", "cuda:1")]
    assert chosen(bundle, runtime="onnxruntime") == everywhere
    assert chosen(bundle, variant="fp16") == everywhere
    assert chosen(without(bundle, "packed-fp16", "packed-bf16")) == everywhere


def test_a_gpu_that_cannot_be_asked_is_not_called_old(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    has(machine, (9, 0), None)
    assert chosen(bundle) == [("triton", "cuda:0"), ("triton", "cuda:1")]


def test_triton_is_usable_for_what_is_asked_of_it(machine: pytest.MonkeyPatch) -> None:
    has(machine, (7, 5), (9, 0))
    assert is_usable("triton", "cuda") and is_usable("triton", "cuda", (1,))
    assert not is_usable("triton", "cuda", (0,)) and not is_usable("triton", "cuda", (0, 1))


@pytest.mark.parametrize(("failing", "found"), [((), (8, 6)), (("device",), None), ((75,), None), ((76,), None)])
def test_the_driver_is_asked_for_the_capability(
    failing: tuple[object, ...], found: tuple[int, int] | None, asked_again: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Driver:
        def cuDeviceGet(self, device: Any, index: int) -> int:
            return int("device" in failing)

        def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:
            value._obj.value = {75: 8, 76: 6}[attribute]
            return int(attribute in failing)

    monkeypatch.setattr(gpus, "_open", lambda: (Driver(), 2))
    assert gpus.compute_capabilities() == (found, found)


@pytest.fixture
def asked_again() -> Iterator[None]:
    gpus.compute_capabilities.cache_clear()
    yield
    gpus.compute_capabilities.cache_clear()

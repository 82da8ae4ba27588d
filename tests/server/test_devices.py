"""`--devices`: which lists are allowed, and which part of the machine each replica gets."""

from __future__ import annotations

import os
import threading

import pytest

from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes import cores, placement
from ridgeline_server.runtimes.devices import Device, parse_devices
from ridgeline_server.runtimes.placement import Placement, place


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("auto", None),
        ("cpu", [("cpu", 0)]),
        ("cpu:0, cpu:1", [("cpu", 0), ("cpu", 1)]),
        ("cuda", [("cuda", 0)]),
        ("cuda:1,cuda:0", [("cuda", 1), ("cuda", 0)]),
        ("cuda:0,cuda:0", [("cuda", 0), ("cuda", 0)]),
    ],
)
def test_allowed_lists(text: str, devices: list[tuple[str, int]] | None) -> None:
    assert parse_devices(text) == (None if devices is None else tuple(Device(*each) for each in devices))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "device '' is not available; allowed: auto"),
        ("tpu:0", "device 'tpu:0' is not available"),
        ("cuda:-1", "device 'cuda:-1' is not available"),
        ("cuda:x", "cuda:0,cuda:1,… "),
        ("cpu:1,", "device '' is not available"),
        ("cpu,cpu:0", "name a device twice"),
        ("auto,cpu", "name auto beside others"),
        ("auto,auto", "name auto beside others"),
        ("cpu,cuda:0", "mix cpu and cuda"),
    ],
)
def test_refused_lists(text: str, said: str) -> None:
    with pytest.raises(StartupError, match=said):
        parse_devices(text)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five CPUs of which a quota allows three cores' time, and two GPUs."""
    monkeypatch.setattr(placement, "usable_cpus", lambda: (0, 4, 1, 5, 2))
    monkeypatch.setattr(placement, "available_cores", lambda: 3)
    monkeypatch.setattr(placement, "cuda_devices", lambda: ("NVIDIA X", "NVIDIA Y"))


@pytest.mark.usefixtures("machine")
def test_one_cpu_replica_has_everything_and_is_bound_to_nothing() -> None:
    assert place([Device("cpu", 0)]) == [Placement(Device("cpu", 0), 3)]


@pytest.mark.usefixtures("machine")
def test_cpu_replicas_have_cpus_of_their_own_and_share_the_quota() -> None:
    first, second = place([Device("cpu", 0), Device("cpu", 1)])
    assert (first.threads, first.cores) == (2, (0, 4, 1))
    assert (second.threads, second.cores) == (1, (5, 2))


@pytest.mark.usefixtures("machine")
def test_more_cpu_replicas_than_cores_are_refused() -> None:
    with pytest.raises(StartupError, match="ask for 4 replicas, but there are 3 cores"):
        place([Device("cpu", index) for index in range(4)])


@pytest.mark.usefixtures("machine")
def test_replicas_on_one_gpu_share_it_and_none_is_bound() -> None:
    placements = place([Device("cuda", 0), Device("cuda", 1), Device("cuda", 0)])
    assert [place.device_share for place in placements] == [0.5, 1.0, 0.5]
    assert {(place.threads, place.cores) for place in placements} == {(1, None)}


@pytest.mark.usefixtures("machine")
def test_a_gpu_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(StartupError, match=r"device cuda:2 does not exist: .*cuda:0 \(NVIDIA X\), cuda:1 \(NVIDIA Y\)"):
        place([Device("cuda", 0), Device("cuda", 2)])


@pytest.mark.usefixtures("machine")
def test_without_a_gpu_the_cpu_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "cuda_devices", lambda: ())
    with pytest.raises(StartupError, match=r"no NVIDIA GPU.*--devices cpu"):
        place([Device("cuda", 0)])


def test_cpus_are_dealt_out_in_runs_without_loss() -> None:
    assert cores.split_cpus(range(7), 3) == [(0, 1, 2), (3, 4), (5, 6)]
    assert cores.split_cpus([9, 8], 1) == [(9, 8)]


def test_threads_of_one_core_and_cores_of_one_socket_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sockets of two cores of two threads, numbered as Linux does: second threads last."""
    sockets = {cpu: (cpu // 2 % 2, cpu % 4) for cpu in range(8)}
    monkeypatch.setattr(cores, "_place", lambda cpu: (*sockets[cpu], cpu))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert cores.usable_cpus() == (0, 4, 1, 5, 2, 6, 3, 7)


def test_binding_survives_threads_that_end_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_threads", lambda: [2**22 + 1, threading.get_native_id()])
    before = os.sched_getaffinity(0)
    try:
        cores.bind((max(before),))
        assert os.sched_getaffinity(0) == {max(before)}
    finally:
        cores.bind(tuple(before))


def test_binding_reaches_threads_that_run_and_threads_to_come() -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    release = threading.Event()
    running = threading.Thread(target=release.wait)
    running.start()
    found: list[set[int]] = []
    try:
        cores.bind((cpu,))
        assert running.native_id is not None
        found.append(os.sched_getaffinity(running.native_id))
        later = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        later.start()
        later.join()
        assert cores.available_cores() == 1
    finally:
        cores.bind(tuple(before))
        release.set()
        running.join()
    assert found == [{cpu}, {cpu}]
    cores.bind(None)
    assert os.sched_getaffinity(0) == before

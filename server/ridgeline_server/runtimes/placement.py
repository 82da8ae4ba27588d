"""Which device and which share of the machine each replica gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes.cores import available_cores, split_cpus, usable_cpus
from ridgeline_server.runtimes.devices import Device
from ridgeline_server.runtimes.gpus import cuda_devices


@dataclass(frozen=True, slots=True)
class Placement:
    """One replica's place.

    threads:      CPU threads that it may use
    cores:        CPUs that its process binds itself to, None = wherever the system puts it
    device_share: its share of the device: 1/n when n replicas share a GPU
    """

    device: Device
    threads: int
    cores: tuple[int, ...] | None = None
    device_share: float = 1.0


def place(devices: Sequence[Device], own: tuple[int, ...] | None = None) -> list[Placement]:
    """A place for each replica, on devices of one kind: on the CPU they share what this process may use evenly.

    own: the CPUs that they may use alone, None = all that this process may use
    Raises StartupError when there are fewer cores than CPU replicas, or when a GPU or a core does not exist.
    """
    if own is not None:
        check_cores(own)
    if devices[0].kind == "cuda":
        return _on_gpus(devices, own)
    cores = available_cores() if own is None else min(available_cores(), len(own))
    if len(devices) > cores:
        raise StartupError(
            f"devices '{_names(devices)}' ask for {len(devices)} replicas, but there are {cores} cores; name fewer"
        )
    if len(devices) == 1:
        return [Placement(devices[0], cores, own)]
    # A quota may allow less time than there are CPUs: then all of them are dealt out, and threads are what is short.
    threads = split_cpus(range(cores), len(devices))
    cpus = split_cpus(own or usable_cpus(), len(devices))
    return [Placement(*each) for each in zip(devices, map(len, threads), cpus, strict=True)]


def check_cores(cores: Sequence[int]) -> None:
    """Raises StartupError for CPUs that this process may not use."""
    usable = usable_cpus()
    missing = [core for core in cores if core not in usable]
    if missing:
        raise StartupError(
            f"core{'s' * (len(missing) > 1)} {_numbers(missing)} cannot be used: this process may use "
            f"{_numbers(usable)}; name some of these"
        )


def _on_gpus(devices: Sequence[Device], own: tuple[int, ...] | None) -> list[Placement]:
    names = cuda_devices()
    for device in devices:
        if device.index >= len(names):
            have = ", ".join(f"cuda:{index} ({name})" for index, name in enumerate(names))
            raise StartupError(
                f"device {device} does not exist: this machine has "
                + (f"{have}; name one of these" if names else "no NVIDIA GPU that the driver shows; use --devices cpu")
            )
    threads = max(1, (available_cores() if own is None else min(available_cores(), len(own))) // len(devices))
    return [Placement(device, threads, own, 1.0 / devices.count(device)) for device in devices]


def _numbers(cores: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def _names(devices: Sequence[Device]) -> str:
    return ",".join(map(str, devices))

"""What of a machine decides which plan is fastest on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from ridgeline_estimate.host import cpu_name
from ridgeline_server.runtimes.cores import available_cores
from ridgeline_server.runtimes.gpus import cuda_devices

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino")


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine, as far as a process may use it.

    cores:    by affinity and quota
    gpus:     names, in CUDA's order
    packages: versions of the installed runtimes by package
    """

    cpu: str
    cores: int
    gpus: tuple[str, ...]
    packages: Mapping[str, str]

    def difference(self, here: Machine) -> str | None:
        """How the machine of a measurement differs from the one here, in words; None when it does not."""
        if self.cpu != here.cpu:
            return f"it was made on {self.cpu}, and this is {here.cpu}"
        if self.cores != here.cores:
            return f"it was made with {_count(self.cores, 'core')}, and here {_are(here.cores)} {here.cores}"
        if self.gpus != here.gpus:
            return f"it was made with {_list(self.gpus)}, and here is {_list(here.gpus)}"
        for name in sorted({*self.packages, *here.packages}):
            was, now = self.packages.get(name), here.packages.get(name)
            if was != now:
                return f"it was made {_with(name, was)}, and here is {f'{name} {now}' if now else 'none'}"
        return None


def this_machine() -> Machine:
    """The machine that this process runs on."""
    found = {name: installed for name in _PACKAGES if (installed := _version(name)) is not None}
    return Machine(cpu_name(), available_cores(), cuda_devices(), found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "no GPU"


def _with(name: str, was: str | None) -> str:
    return f"with {name} {was}" if was else f"without {name}"

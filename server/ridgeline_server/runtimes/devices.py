"""The devices that replicas run on, as `--devices` names them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ridgeline_server.errors import StartupError

AUTO = "auto"
_ALLOWED = "allowed: auto, cpu, cpu:0,cpu:1,… (replicas that share the cores), cuda:0,cuda:1,… (a GPU each)"


@dataclass(frozen=True, slots=True)
class Device:
    """One device.

    kind:  "cpu" or "cuda"
    index: number of the GPU as CUDA counts them; of a CPU replica merely its name
    """

    kind: str
    index: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}"


CPU = Device("cpu", 0)


def parse_devices(text: str) -> tuple[Device, ...] | None:
    """Devices of a list such as "cpu:0,cpu:1" or "cuda:0,cuda:0", one a replica; None for "auto".

    A GPU may be named twice: two replicas on one GPU. Raises StartupError for anything else that is not allowed.
    """
    names = [name.strip() for name in text.split(",")]
    if names == [AUTO]:
        return None
    devices = tuple(_parse(name, text) for name in names)
    kinds = {device.kind for device in devices}
    if len(kinds) > 1:
        raise StartupError(
            f"devices '{text}' mix cpu and cuda, which run different variants, so that answers would differ from one "
            "request to the next; name one kind"
        )
    if "cpu" in kinds and len(set(devices)) != len(devices):
        raise StartupError(f"devices '{text}' name a device twice; give each replica its own, as cpu:0,cpu:1")
    return devices


def _parse(name: str, text: str) -> Device:
    if name == AUTO:
        raise StartupError(f"devices '{text}' name auto beside others; give auto alone, or the devices one by one")
    found = re.fullmatch(r"(cpu|cuda)(?::(\d{1,4}))?", name)
    if found is None:
        raise StartupError(f"device '{name}' is not available; {_ALLOWED}")
    return Device(found[1], int(found[2] or 0))

"""The devices that a training run is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgeline_export.errors import UsageError

if TYPE_CHECKING:
    import torch


def check_devices(names: tuple[str, ...]) -> tuple[torch.device, ...]:
    """torch's devices of these names.

    Raises UsageError when one does not exist here, when kinds are mixed, or when a GPU is named twice.
    """
    import torch

    if not names:
        raise UsageError("--devices is empty; give cpu, cuda:0, or several such as cuda:0,cuda:1")
    devices = tuple(_device(name) for name in names)
    if len({device.type for device in devices}) > 1:
        raise UsageError(f"--devices {','.join(names)} mixes kinds; give only GPUs, or only cpu")
    if devices[0].type == "cuda" and len(set(devices)) < len(devices):
        raise UsageError(f"--devices {','.join(names)} names a GPU twice; give each once")
    if len(devices) > 1 and not torch.distributed.is_available():
        raise UsageError("this build of PyTorch has no torch.distributed; give one of --devices")
    return devices


def _device(name: str) -> torch.device:
    import torch

    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UsageError(f"--devices has '{name}'; a device is cpu, cuda or cuda:NUMBER")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        there = f"PyTorch sees {count} GPUs here" if count else "PyTorch sees no GPU here"
        raise UsageError(
            f"--devices has '{name}', but {there}; give {'cpu' if not count else f'cuda:0 to {count - 1}'}"
        )
    return torch.device("cuda", int(number or 0))

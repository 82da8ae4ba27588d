"""What `ridgeline devices --calibrate` measured on this machine: devices, and the efficiency of each way to run there.

One file a machine lies in `calibrated` of the cache directory; calibrating again replaces what was measured in the same
way before. A file that cannot be read is as good as none, and a warning says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.hardware import Bandwidth, Device, Peak
from ridgeline_estimate.host import cache_directory, cpu_name, write_whole
from ridgeline_estimate.roofline import Efficiency

log = logging.getLogger(__name__)

_FORMAT = 1
_SHARES = ("matmul", "attention", "elementwise", "memory")
_AGAIN = "run `ridgeline devices --calibrate` again"
_DIGEST_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Host:
    """A machine, as far as it decides what is measured on it.

    cores:    that processes may use
    gpus:     names, in CUDA's order
    packages: versions of the runtimes by package
    """

    cpu: str
    cores: int
    gpus: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calibration:
    """One way to run models on a machine, measured.

    precision:   "fp32", "bf16", "fp16", "int8", or "int8-dynamic" where activations are quantized while it runs
    threads:     of the CPU, all that the replica has
    concurrency: batches at once; the device is the share that one of them has, and the runs had all of them busy
    device:      peaks and bandwidths of that share
    median_error, p90_error: of the fit: how far it is from the runs that it was fitted to, as a share of them
    created:     Unix seconds
    """

    host: Host
    runtime: str
    precision: str
    threads: int
    concurrency: int
    device: Device
    efficiency: Efficiency
    median_error: float
    p90_error: float
    created: float

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What tells it from the others of its machine."""
        return self.device.name, self.runtime, self.precision, self.threads, self.concurrency


def keep_calibrations(made: Sequence[Calibration]) -> Path:
    """Add calibrations of one machine to its file, whole or not at all. Raises OSError."""
    path = _directory() / _file_name(made[0].host)
    kept = {each.key: each for each in _read(path)} if path.exists() else {}
    kept |= {each.key: each for each in made}
    text = json.dumps({"format": _FORMAT, "calibrations": [asdict(each) for each in kept.values()]}, indent=2) + "\n"
    write_whole(path, text)
    return path


def read_calibrations(host: Host | None = None) -> list[Calibration]:
    """All calibrations of a machine, the newest first; empty when there are none.

    host: None = this machine whatever its cores and packages, told by its CPU's name
    """
    try:
        directory = _directory()
        if host is None:
            paths = sorted(directory.glob("*.json")) if directory.is_dir() else []
            cpu = cpu_name()
            found = [each for path in paths for each in _read(path) if each.host.cpu == cpu]
        else:
            path = directory / _file_name(host)
            found = _read(path) if path.is_file() else []
    except (OSError, RuntimeError) as error:  # pathlib raises RuntimeError for a user without a home
        log.warning(
            "calibrations are ignored: the cache directory cannot be read (%s); name another in RIDGELINE_CACHE", error
        )
        return []
    return sorted(found, key=lambda each: -each.created)


def find_calibration(
    calibrations: Iterable[Calibration],
    precision: str,
    *,
    runtime: str | None = None,
    kind: str = "cpu",
    name: str | None = None,
    threads: int | None = None,
    concurrency: int | None = None,
) -> Calibration | None:
    """The calibration for a way to run, None when it was not measured; what is None may be any.

    name: of the device, for machines with GPUs of several kinds
    Where several fit, that of most threads a batch comes first, then that of the highest peak.
    """
    fitting = [
        each
        for each in calibrations
        if (each.precision, each.device.kind) == (precision, kind)
        and name in (None, each.device.name)
        and runtime in (None, each.runtime)
        and threads in (None, each.threads)
        and concurrency in (None, each.concurrency)
    ]
    return max(fitting, key=_preference, default=None)


def _preference(calibration: Calibration) -> tuple[float, float, float]:
    peaks = [peak.flops_per_s for peak in calibration.device.peaks.values()]
    return calibration.threads / calibration.concurrency, max(peaks, default=0.0), calibration.created


def _directory() -> Path:
    return cache_directory() / "calibrated"


def _file_name(host: Host) -> str:
    described = json.dumps(asdict(host), sort_keys=True)
    return f"{hashlib.sha256(described.encode()).hexdigest()[:_DIGEST_CHARACTERS]}.json"


def _read(path: Path) -> list[Calibration]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != _FORMAT:
            raise ValueError(f"format {raw['format']}, not {_FORMAT}")
        return [_parse(each) for each in raw["calibrations"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EstimateError) as error:
        log.warning("the calibrations in %s are ignored: they cannot be read (%s); %s", path, error, _AGAIN)
        return []


def _parse(raw: Mapping[str, Any]) -> Calibration:
    """A calibration from its JSON. Raises KeyError, TypeError, ValueError or AttributeError when it is none."""
    host = raw["host"]
    efficiency = {**raw["efficiency"]}
    numbers = {name: float(value) for name, value in efficiency.items() if name not in ("source", "skips_hidden")}
    if not all(value > 0 if name in _SHARES else value >= 0 for name, value in numbers.items()):
        raise ValueError(f"an efficiency that is impossible: {numbers}")
    threads, concurrency = int(raw["threads"]), int(raw["concurrency"])
    if min(threads, concurrency) < 1:
        raise ValueError(f"{threads} threads, {concurrency} batches at once")
    return Calibration(
        host=Host(str(host["cpu"]), int(host["cores"]), tuple(map(str, host["gpus"])), dict(host["packages"])),
        runtime=str(raw["runtime"]),
        precision=str(raw["precision"]),
        threads=threads,
        concurrency=concurrency,
        device=_parse_device(raw["device"]),
        efficiency=Efficiency(**{**efficiency, **numbers}),
        median_error=float(raw["median_error"]),
        p90_error=float(raw["p90_error"]),
        created=float(raw["created"]),
    )


def _parse_device(raw: Mapping[str, Any]) -> Device:
    return Device(
        name=str(raw["name"]),
        kind=str(raw["kind"]),
        peaks={dtype: Peak(**peak) for dtype, peak in raw["peaks"].items()},
        bandwidth=_parse_bandwidth(raw["bandwidth"]),
        memory_bytes=raw["memory_bytes"],
        runtime=raw["runtime"],
        cache_bandwidth=_parse_bandwidth(raw["cache_bandwidth"]),
        cache_bytes=raw["cache_bytes"],
    )


def _parse_bandwidth(raw: Mapping[str, Any] | None) -> Bandwidth | None:
    return None if raw is None else Bandwidth(**raw)

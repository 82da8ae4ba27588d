"""The device that a question names, and how much of its peaks runs reach there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ridgeline_estimate.calibrated import Calibration, find_calibration, read_calibrations
from ridgeline_estimate.datasheets import find_device
from ridgeline_estimate.hardware import Device
from ridgeline_estimate.roofline import IDEAL, Efficiency

THIS = "this"
_HOW = "measure it with `ridgeline devices --calibrate`, or name one with --device, such as --device h100"


@dataclass(frozen=True, slots=True)
class Machine:
    """A device and the efficiency that is reached on it.

    source:        a sentence on where both come from
    is_calibrated: the efficiency was fitted to measured runs
    """

    device: Device
    efficiency: Efficiency
    source: str
    is_calibrated: bool


def find_machine(name: str | None, precision: str) -> Machine | str:
    """The device of that name, in a precision as calibrations call it; a sentence when nothing is known of it.

    name: of a data sheet; "this", "this:cpu" or "this:cuda" = this machine as it was measured; None = as "this"
    Raises EstimateError for a name that is not in the table.
    """
    if name is None or name == THIS or name.startswith(f"{THIS}:"):
        return _this_machine(name, precision)
    device = find_device(name)
    return Machine(device, IDEAL, _sheet_sentence(device), is_calibrated=False)


def _this_machine(name: str | None, precision: str) -> Machine | str:
    kinds = (name.partition(":")[2],) if name and ":" in name else ("cuda", "cpu")
    known = [each for each in read_calibrations() if each.device.kind in kinds]
    for kind in kinds:
        found = find_calibration(known, precision, kind=kind)
        if found is not None:
            return Machine(found.device, found.efficiency, _calibration_sentence(found), is_calibrated=True)
    if precision.startswith("packed-"):
        return "packed graphs are not calibrated on this machine; name a GPU with --device, such as --device h100"
    if known:
        others = ", ".join(sorted({each.precision for each in known}))
        return f"this machine was measured in {others}, not in {precision}; {_HOW}"
    return (
        f"no device is given and this machine was not measured; {_HOW}"
        if name is None
        else (f"this machine was not measured; {_HOW}")
    )


def _sheet_sentence(device: Device) -> str:
    sources = dict.fromkeys([peak.source for peak in device.peaks.values()])
    sheet = min(sources, key=len) if sources else (device.bandwidth.source if device.bandwidth else "none")
    return (
        f"{device.name}: peaks of its data sheet ({sheet}), reached in full and without launch overhead; real runs "
        "take longer, so this latency is a lower bound"
    )


def _calibration_sentence(found: Calibration) -> str:
    when = datetime.fromtimestamp(found.created, UTC).strftime("%Y-%m-%d")
    return (
        f"{found.device.name}: peaks and efficiencies measured here through {found.runtime} on {when}, {found.threads} "
        f"threads, {found.concurrency} at once; the fit's median error is {100 * found.median_error:.0f} %"
    )

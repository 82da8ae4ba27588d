"""`ridgeline devices`: what this machine has and can do, and the command that measures it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ridgeline_estimate.calibrated import Calibration
    from ridgeline_estimate.hardware import Bandwidth, Device, Peak
    from ridgeline_server.runtimes.machine import Machine

_STOPPED = 130
_WIDTH = 150
_UNKNOWN = "run: ridgeline devices --calibrate"
_DAY_S = 86_400
# A fit that misses its own runs by more than this was disturbed while they ran.
_DISTURBED = 0.12

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def devices(
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure the devices through every runtime in use, and keep the figures."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show this machine's devices: peaks and bandwidths, and how near to them models run, each figure with its source.

    Calibrating takes about half a minute on a CPU of two cores that does nothing else meanwhile. `ridgeline estimate`
    and the server's reports use what it finds.

    Exit code 0: shown. 1: measuring failed.
    """
    from rich.console import Console

    messages = Console(stderr=True)
    try:
        if calibrate:
            _calibrate(messages)
        _show(as_json)
    except typer.Exit:
        raise
    except Exception as error:  # runtimes raise classes of their own
        messages.print(
            f"Error: the devices could not be measured: {error}; end other programs that use them, and check that "
            "`ridgeline serve` starts here",
            style="red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        messages.print("Stopped; what was measured before is as it was.")
        raise typer.Exit(_STOPPED) from None


def _calibrate(messages: Console) -> None:
    from ridgeline_estimate.calibrated import keep_calibrations
    from ridgeline_server.progress import Progress
    from ridgeline_server.runtimes.calibration import calibrate, cpu_setups, gpu_setups

    setups = [*cpu_setups(), *gpu_setups()]
    if not setups:
        raise RuntimeError("no runtime is installed; run: pip install 'ridgeline[cpu]'")
    with Progress(messages, "starting") as progress:
        made = calibrate(setups, progress.step)
    messages.print(f"Kept in {keep_calibrations(made)}", highlight=False, markup=False, soft_wrap=True)
    worst = max(each.median_error for each in made)
    if worst > _DISTURBED:
        messages.print(
            f"The fit misses half of its own runs by more than {worst:.0%}: other programs ran meanwhile; calibrate "
            "again when the machine is idle.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _show(as_json: bool) -> None:
    from ridgeline_estimate.calibrated import read_calibrations
    from ridgeline_server.runtimes.calibration import host_of
    from ridgeline_server.runtimes.machine import this_machine

    machine = this_machine()
    calibrations = read_calibrations(host_of(machine))
    if as_json:
        typer.echo(json.dumps(_as_json(machine, calibrations), indent=2))
        return
    console = _console()
    for name, kind in _names(machine):
        own = [
            each for each in calibrations if each.device.kind == kind and (kind == "cpu" or each.device.name == name)
        ]
        console.print(_figures(name, kind, machine, own))
        if own:
            console.print(_efficiencies(own))


def _names(machine: Machine) -> list[tuple[str, str]]:
    return [(machine.cpu, "cpu"), *((name, "cuda") for name in dict.fromkeys(machine.gpus))]


def _figures(name: str, kind: str, machine: Machine, calibrations: Sequence[Calibration]) -> Table:
    """A row for each peak and bandwidth: measured through each runtime, and from the data sheet."""
    from rich.table import Table

    count = machine.cores if kind == "cpu" else machine.gpus.count(name)
    noun = ("core that may be used" if count == 1 else "cores that may be used") if kind == "cpu" else "of them"
    table = Table("figure", "through", "value", "age", "source", title=f"{name}: {count} {noun}", title_justify="left")
    whole = [each.device for each in calibrations if each.concurrency == 1]
    rows: dict[tuple[str, ...], tuple[str, ...]] = {}
    for device in whole:
        for row in _rows(device):
            rows.setdefault(row[:2], row)
    sheet = _data_sheet(name)
    for row in [*sorted(rows.values()), *(_rows(sheet) if sheet else [])]:
        table.add_row(*row)
    if not rows:
        table.add_row("peaks, bandwidth", "", "unknown", "", _UNKNOWN)
    return table


def _rows(device: Device) -> list[tuple[str, ...]]:
    through = device.runtime or "data sheet"
    rows: list[tuple[str, ...]] = [
        (f"peak {dtype}", through, _rate(peak.flops_per_s, "FLOP/s"), *_origin(peak))
        for dtype, peak in device.peaks.items()
    ]
    # Measured bandwidth is that of the cores, whatever runtime uses them.
    of = "data sheet" if device.runtime is None else "all" if device.kind == "cpu" else through
    for name, bandwidth in (("bandwidth", device.bandwidth), ("bandwidth in cache", device.cache_bandwidth)):
        if bandwidth is not None:
            rows.append((name, of, _rate(bandwidth.bytes_per_s, "bytes/s"), *_origin(bandwidth)))
    if device.memory_bytes is not None:
        rows.append(("memory", of, f"{device.memory_bytes / 1e9:.0f} GB", "", ""))
    return rows


def _origin(figure: Peak | Bandwidth) -> tuple[str, str]:
    return "" if figure.measured_at is None else _age(figure.measured_at), figure.source


def _efficiencies(calibrations: Sequence[Calibration]) -> Table:
    """A row for each way to run: shares of the peaks that models reach, overheads, and how far the fit is off."""
    from rich.table import Table

    titles = ("through", "precision", "batches at once", "matmul", "attention", "other", "bytes")
    table = Table(
        *titles, "a call", "an operation", "off by median", "p90", "age",
        title="Shares of the peaks that models reach here", title_justify="left",
    )  # fmt: skip
    for each in sorted(calibrations, key=lambda each: each.key):
        found = each.efficiency
        shares = (found.matmul, found.attention, found.elementwise, found.memory)
        table.add_row(
            each.runtime, each.precision, str(each.concurrency), *(f"{share:.0%}" for share in shares),
            f"{1e6 * found.call_s:.0f} µs", f"{1e6 * found.op_s:.1f} µs",
            f"{each.median_error:.0%}", f"{each.p90_error:.0%}", _age(each.created),
        )  # fmt: skip
    return table


def _as_json(machine: Machine, calibrations: Sequence[Calibration]) -> dict[str, Any]:
    found = []
    for name, kind in _names(machine):
        sheet = _data_sheet(name)
        found.append(
            {
                "name": name,
                "kind": kind,
                "data_sheet": None if sheet is None else asdict(sheet),
                "calibrations": [
                    asdict(each)
                    for each in calibrations
                    if each.device.kind == kind and (kind == "cpu" or each.device.name == name)
                ],
            }
        )
    return {"machine": asdict(machine), "devices": found}


def _data_sheet(name: str) -> Device | None:
    from ridgeline_estimate.datasheets import find_device
    from ridgeline_estimate.errors import EstimateError

    try:
        return find_device(name)
    except EstimateError:
        return None


def _rate(value: float, unit: str) -> str:
    for factor, letter in ((1e12, "T"), (1e9, "G")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}"


def _age(measured_at: float) -> str:
    age_s = max(0.0, time.time() - measured_at)
    if age_s < 120:
        return "just now"
    if age_s < 7200:
        return f"{age_s / 60:.0f} min"
    return f"{age_s / 3600:.0f} h" if age_s < 2 * _DAY_S else f"{age_s / _DAY_S:.0f} days"


def _console() -> Console:
    """Standard output, wide enough for the tables where no terminal says how wide it is."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)

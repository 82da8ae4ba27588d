"""Speed and memory through the server's own runtimes, measured by the server in processes of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline_export.bundle import Bundle
from ridgeline_export.compress.report.exporting import Exported
from ridgeline_export.compress.report.settings import ReportSettings, Shape
from ridgeline_export.errors import ExportError
from ridgeline_export.tokenizer import Text

_MODULE = "ridgeline_server.measuring"
_X86 = ("x86_64", "amd64")


@dataclass(frozen=True, slots=True)
class Plan:
    """A variant of a model on a runtime. model: "before" or "after"."""

    model: str
    variant: str
    runtime: str

    @property
    def name(self) -> str:
        return f"{self.model} {self.variant} on {self.runtime}"


def choose_plans(before: Exported, after: Exported, settings: ReportSettings) -> list[Plan]:
    """Plans to measure, the original's first of all; each of the original beside that of the compressed model.

    ONNX Runtime is given one int8 variant: static int8 is slower there than dynamic int8, where there is one.
    Raises ExportError when no runtime that is asked for is installed.
    """
    runtimes = [runtime for runtime in settings.runtimes if _is_installed(runtime)]
    if not runtimes:
        raise ExportError(
            f"none of the runtimes {', '.join(settings.runtimes)} is installed; run: pip install 'ridgeline[cpu]'"
        )
    plans = []
    for runtime in runtimes:
        for name in _variants(settings, runtime):
            for model, exported in (("before", before), ("after", after)):
                variant = exported.bundle.manifest.variants.get(name)
                if variant is not None and runtime in variant.runtimes:
                    plans.append(Plan(model, name, runtime))
    plans.sort(key=lambda plan: plan != Plan("before", "fp32", runtimes[0]))
    return plans


def measure(
    plans: Sequence[Plan], bundles: dict[str, Bundle], texts: Sequence[Text], shapes: Sequence[Shape],
    settings: ReportSettings,
) -> dict[str, Any]:  # fmt: skip
    """What `python -m ridgeline_server.measuring` says of these plans, in their order.

    Raises ExportError with its sentence when it cannot measure.
    """
    with tempfile.TemporaryDirectory(prefix="ridgeline-report-") as scratch:
        directory = Path(scratch)
        (directory / "texts.json").write_text(json.dumps(list(texts)), encoding="utf-8")
        spec = {
            "plans": [
                {
                    "name": plan.name,
                    "bundle": str(bundles[plan.model].path.resolve()),
                    "variant": plan.variant,
                    "runtime": plan.runtime,
                }
                for plan in plans
            ],
            "texts": str(directory / "texts.json"),
            "shapes": [list(shape) for shape in shapes],
            "passes": settings.passes,
            "pass_s": settings.pass_s,
            "max_tokens": common_tokens(bundles),
            "parent": os.getpid(),
        }
        (directory / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        return _run(directory / "spec.json")


def common_tokens(bundles: Mapping[str, Bundle]) -> int:
    """What texts are cut to, so that all models have the same to do: the tokens that each of them takes."""
    return min(bundle.manifest.max_tokens for bundle in bundles.values())


def _run(spec: Path) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", _MODULE, str(spec)]
    # A session of its own: Ctrl-C is for this process, which then ends that one.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        answer, news = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        last = (news.strip().splitlines() or [f"it ended with exit code {process.returncode}"])[-1]
        raise ExportError(f"the models cannot be measured: {last.removeprefix('Error: ')}")
    found: dict[str, Any] = json.loads(answer)
    return found


def _variants(settings: ReportSettings, runtime: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(("fp32", *settings.variants)))
    if runtime == "onnxruntime" and "int8-dynamic" in names:
        return tuple(name for name in names if name != "int8")
    return names


def _is_installed(runtime: str) -> bool:
    has_package = importlib.util.find_spec(runtime) is not None
    return has_package and (runtime != "openvino" or platform.machine().lower() in _X86)

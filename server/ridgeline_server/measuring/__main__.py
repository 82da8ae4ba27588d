"""`python -m ridgeline_server.measuring SPEC.json`: figures of plans as JSON on stdout, progress as lines on stderr.

Exit code 0: measured; a plan that failed says why. 1: no plan runs. 2: the specification makes no sense.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ridgeline_server.measuring.errors import MeasuringError, SpecError
from ridgeline_server.measuring.figures import Measured, as_json
from ridgeline_server.measuring.preparing import prepare_all
from ridgeline_server.measuring.rounds import Progress, measure
from ridgeline_server.measuring.spec import Spec, read_spec
from ridgeline_server.runtimes.machine import this_machine

_STOPPED = 130
_WATCH_S = 0.5
FORMAT = 1


def run(spec: Spec, progress: Progress) -> dict[str, Any]:
    """Measure everything that a specification asks for. Raises MeasuringError."""
    prepared = prepare_all(spec)
    plans = [Measured(wanted, prepare) for wanted, prepare in zip(spec.plans, prepared, strict=True)]
    amounts = measure(plans, spec, progress)
    return {
        "format": FORMAT,
        "machine": asdict(this_machine()),
        "texts": {"given": len(spec.texts), "of_a_pass": amounts.texts, "alone": amounts.alone},
        "passes": spec.passes,
        "plans": [as_json(plan, plans[0]) for plan in plans],
    }


def main() -> int:
    """Run the command; returns its exit code."""
    try:
        if len(sys.argv) != len(("program", "SPEC")):
            raise SpecError("give one JSON file that says what to measure: python -m ridgeline_server.measuring SPEC")
        spec = read_spec(Path(sys.argv[1]))
        if spec.parent is not None:
            threading.Thread(target=_end_with, args=(spec.parent,), daemon=True).start()
        print(json.dumps(run(spec, _show), indent=2))
    except MeasuringError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return _STOPPED
    return 0


def _end_with(parent: int) -> None:
    """End this process when its parent is gone; those of the plans end with it, as their connections do."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(_STOPPED)


def _show(description: str, done: int, turns: int) -> None:
    print(f"{done + 1}/{turns} {description}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Runs client programs in one process, which spares their imports: with an API key, and with one that nobody has.

    python run.py '{"RIDGELINE_URL": …, "RIDGELINE_GRPC": …, "RIDGELINE_KEY": …}' PROGRAM…

Prints {"answers": {program: what it printed}, "refusals": {program: "the exception's class: its message"}}.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any


def answer(program: Path) -> Any:
    """The JSON that a program prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(program), run_name="__main__")
    return json.loads(printed.getvalue())


def refusal(program: Path) -> str:
    """The exception that a program ends with, "" for one that has an answer."""
    try:
        answer(program)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    os.environ.update(json.loads(sys.argv[1]))
    programs = [Path(name) for name in sys.argv[2:]]
    answers = {program.stem: answer(program) for program in programs}
    os.environ["RIDGELINE_KEY"] = "rk_a-key-that-nobody-has"
    refusals = {program.stem: refusal(program) for program in programs}
    print(json.dumps({"answers": answers, "refusals": refusals}))


if __name__ == "__main__":
    main()

"""What a benchmark leaves in its folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_files(directory: Path, name: str, figures: Any, markdown: str, plot: Callable[[], object]) -> None:
    """Write `name`.json and `name`.md, and let `plot` write pictures beside them, if matplotlib is there."""
    directory.mkdir(parents=True, exist_ok=True)
    content = json.dumps(figures, indent=1, ensure_ascii=False)
    (directory / f"{name}.json").write_text(content + "\n", encoding="utf-8")
    (directory / f"{name}.md").write_text(markdown, encoding="utf-8")
    try:
        plot()
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)

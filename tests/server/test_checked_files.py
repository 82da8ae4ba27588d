"""Files that a worker loads again are those that were checked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ridgeline_export.bundle import read_bundle
from ridgeline_server.config import ServerConfig
from ridgeline_server.runtimes.checked_files import check_unchanged
from ridgeline_server.runtimes.selection import choose_plans, load_runtime


def test_a_plan_loads_the_files_that_it_was_made_for_and_no_others(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = read_bundle(shutil.copytree(tiny_bundle, tmp_path / "mini"))
    (plan,) = choose_plans(bundle, ServerConfig(bundles=(bundle.path,)))
    assert {file.path for file in plan.files} == {bundle.path / name for name in bundle.variant(plan.variant).files}
    check_unchanged(plan.files)
    os.utime(plan.graph, (1, 1))
    check_unchanged(plan.files)  # touched, and still the same
    data = plan.graph.read_bytes()
    plan.graph.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match="was replaced since the model was loaded; load it again"):
        load_runtime(plan)
    plan.graph.unlink()
    with pytest.raises(OSError):
        load_runtime(plan)

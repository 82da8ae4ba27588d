"""Memory that is left, by the machine and by cgroups."""

from __future__ import annotations

from pathlib import Path

import psutil

from ridgeline_server.runtimes.memory import free_bytes


def cgroup(folder: Path, most: str, current: int, inactive: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_the_tightest_cgroup_counts_and_remembered_files_are_free(tmp_path: Path) -> None:
    listed = tmp_path / "cgroup"
    listed.write_text("1:cpu:/x\n0::/pod/box\n")
    mount = tmp_path / "mount"
    cgroup(mount / "pod", "9000", 5000, 1000)
    cgroup(mount / "pod/box", "max", 5000, 0)
    assert free_bytes(listed, mount) == 5000
    cgroup(mount / "pod/box", "6000", 5900, 0)
    assert free_bytes(listed, mount) == 100
    cgroup(mount / "pod/box", "6000", 7000, 0)
    assert free_bytes(listed, mount) == 0
    listed.write_text("0::/../elsewhere\n")
    cgroup(mount, "800", 300, 0)
    assert free_bytes(listed, mount) == 500


def test_without_cgroups_the_machine_counts(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "none", tmp_path)
    assert 0 < free <= psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("garbage")
    assert free_bytes(tmp_path / "none", tmp_path) > 0

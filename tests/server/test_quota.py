"""CPU quotas of cgroups, in trees of files as Linux shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_server.runtimes.quota import quota_cores

TREES = {
    "none": ("0::/\n", {}, None),
    "version 2, root of a container": ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
    "version 2, unlimited": ("0::/\n", {"cpu.max": "max 100000"}, None),
    "version 2, the process's own": (
        "0::/system.slice/ridgeline.service\n",
        {"system.slice/cpu.max": "max 100000", "system.slice/ridgeline.service/cpu.max": "200000 100000"},
        2.0,
    ),
    "version 2, the least of parents": (
        "0::/kubepods/pod1/container1\n",
        {
            "kubepods/cpu.max": "800000 100000",
            "kubepods/pod1/cpu.max": "300000 100000",
            "kubepods/pod1/container1/cpu.max": "400000 100000",
        },
        3.0,
    ),
    "version 2, a host's path inside a container": ("0::/docker/1f\n", {"cpu.max": "400000 100000"}, 4.0),
    "version 2, outside the namespace": ("0::/../../other\n", {"cpu.max": "50000 100000"}, 0.5),
    "version 1": (
        "4:cpu,cpuacct:/a/b\n1:name=systemd:/\n0::/\n",
        {
            "cpu,cpuacct/a/cpu.cfs_quota_us": "600000",
            "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
        },
        6.0,
    ),
    "version 1, other controllers do not count": (
        "3:cpuset:/a\n",
        {"cpuset/a/cpu.cfs_quota_us": "100000", "cpuset/a/cpu.cfs_period_us": "100000"},
        None,
    ),
    "garbage": ("0::/a\n", {"a/cpu.max": "what\n"}, None),
}


@pytest.mark.parametrize(("process", "files", "cores"), TREES.values(), ids=TREES)
def test_the_least_quota_counts(process: str, files: dict[str, str], cores: float | None, tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    for name, content in files.items():
        path = mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "self").write_text(process)
    assert quota_cores(tmp_path / "self", mount) == cores


def test_a_system_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert quota_cores(tmp_path / "absent", tmp_path / "absent") is None

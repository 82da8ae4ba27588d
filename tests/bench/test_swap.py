"""What the experiment with new versions under load computes, prepares and draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import swap
from experiments.lab.markdown import write
from experiments.lab.task_requests import Part
from experiments.lab.verdicts import report


def figures(swaps: int = 3, version: int = 4, failed: int = 0, refused: int = 0) -> dict[str, Any]:
    told = [
        {"at_s": 2.0 * number + 0.5, "seconds": 1.0, "version": number + 2, "bundle": "version-1"}
        for number in range(swaps)
    ]
    series = [
        {"second": at, "seconds": 1.0, "replies": 9, "refused": 0, "errors": 0, "p50_s": 0.01, "p99_s": p99_s}
        for at, p99_s in enumerate([0.05, 0.04, 0.06, None, 0.01, 0.02, 0.03, 0.09])
    ]
    found = {
        "requests": 72, "succeeded": 72, "failed": failed, "refused": refused, "unfinished": 0,
        "throughput_requests_per_s": 9.0, "latency_s": {"p50": 0.01, "p99": 0.05}, "per_second": series,
    }  # fmt: skip
    p99 = swap.around_swaps(series, told)
    return {"results": found, "swaps": told, "p99": p99, "version": version, "load": "m: fill-mask"}


def test_no_request_may_be_lost_to_a_swap(tmp_path: Path) -> None:
    good = figures()
    judged = swap.verdicts(good)
    assert all(verdict.is_met for verdict in judged)
    assert report(tmp_path, "swap", {}, good, judged, lambda: swap.draw(good)) == 0
    write(tmp_path / "swap.md", "Swaps", {}, swap.tables(good), judged)
    assert "| 2 | version-1 | 0.5 | 1.00 |" in (tmp_path / "swap.md").read_text(encoding="utf-8")
    for wrong, missed in (
        (figures(failed=1), "requests that failed"),
        (figures(refused=1), "requests that were refused (429)"),
        (figures(version=3), "versions that are not the expected one"),
        (figures(swaps=2, version=3), "swaps under load"),
    ):
        assert [verdict.name for verdict in swap.verdicts(wrong) if not verdict.is_met] == [missed]


def test_seconds_with_a_swap_are_told_apart() -> None:
    # Swaps take from 0.5 to 1.5, 2.5 to 3.5 and 4.5 to 5.5.
    assert figures()["p99"] == {"during_s": 0.06, "else_s": 0.09}
    assert swap.around_swaps([], []) == {"during_s": None, "else_s": None}


def test_a_repository_holds_each_version_whole(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "fp32").mkdir(parents=True)
    (bundle / "fp32" / "model.onnx").write_bytes(b"weights")
    for _ in range(2):  # an earlier run's is replaced
        assert swap.make_repository(tmp_path / "repository", [bundle, bundle]) == ["version-1", "version-2"]
    copies = [tmp_path / "repository" / name / "fp32" / "model.onnx" for name in ("version-1", "version-2")]
    assert [copy.read_bytes() for copy in copies] == [b"weights"] * 2
    assert not any(copy.is_symlink() for copy in copies)


def test_requests_bring_the_key() -> None:
    (request,) = Part("m", "fill-mask", "texts", "[MASK]").requests(80, ["a b c"], 1, "rk_1")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[1] == b"Authorization: Bearer rk_1"
    assert b"Authorization" not in body and f"Content-Length: {len(body)}".encode() in head

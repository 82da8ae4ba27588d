"""What tuning kept: found when it fits, ignored with a sentence when not, never fatal."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import pytest

from ridgeline_export.bundle import Bundle, read_bundle
from ridgeline_server.config import ServerConfig
from ridgeline_server.runtimes import tuned
from ridgeline_server.runtimes.machine import Machine, this_machine
from ridgeline_server.runtimes.selection import choose_plans
from ridgeline_server.runtimes.tuned import Tuning, keep_tuning, manifest_digest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def tuning(bundle: Bundle, **changes: object) -> Tuning:
    kept = Tuning(
        bundle=str(bundle.path.resolve()),
        manifest=manifest_digest(bundle),
        machine=this_machine(),
        created="2026-11-21",
        reason="fastest of 14 plans with cosine ≥ 0.99 (843 texts/s offline)",
        kind="cpu",
        variant="fp32",
        runtime="onnxruntime",
        precision="fp32",
        float_precision="fp32",
        threads=this_machine().cores,
        concurrency=1,
        max_batch_tokens=512,
    )
    return dataclasses.replace(kept, **changes)


def config(bundle: Bundle, **flags: object) -> ServerConfig:
    return dataclasses.replace(ServerConfig(bundles=(bundle.path,), devices="cpu"), **flags)


def test_serving_uses_the_tuned_plan_and_says_why(cache: Path, bundle: Bundle) -> None:
    path = keep_tuning(tuning(bundle))
    assert path.is_relative_to(cache)
    (plan,) = choose_plans(bundle, config(bundle))
    assert (plan.variant, plan.runtime, plan.concurrency) == ("fp32", "onnxruntime", 1)
    assert max(rows * length for rows, length in plan.grid.shapes) <= 512
    assert plan.why == (
        "tuned on 2026-11-21: fastest of 14 plans with cosine ≥ 0.99 (843 texts/s offline); "
        "it computes in fp32, batches of 512 tokens, 1 at once"
    )


def test_a_newer_tuning_replaces_the_older_and_leaves_nothing_else(cache: Path, bundle: Bundle) -> None:
    keep_tuning(tuning(bundle))
    path = keep_tuning(tuning(bundle, reason="a better reason"))
    assert list(path.parent.iterdir()) == [path]
    assert "a better reason" in choose_plans(bundle, config(bundle))[0].why


def test_a_renamed_bundle_keeps_its_tuning(cache: Path, bundle: Bundle, tmp_path: Path) -> None:
    keep_tuning(tuning(bundle))
    shutil.copytree(bundle.path, tmp_path / "renamed")
    assert choose_plans(read_bundle(tmp_path / "renamed"), config(bundle))[0].why.startswith("tuned on")


@pytest.mark.parametrize(
    "flags", [{"tuned": False}, {"variant": "fp32"}, {"runtime": "onnxruntime"}, {"max_batch_tokens": 64}]
)
def test_flags_go_before_a_tuning(cache: Path, bundle: Bundle, flags: dict[str, object]) -> None:
    keep_tuning(tuning(bundle))
    assert "tun" not in choose_plans(bundle, config(bundle, **flags))[0].why


def _machine(**changes: object) -> Machine:
    return dataclasses.replace(this_machine(), **changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"manifest": "0" * 64}, "the bundle has changed since"),
        ({"machine": _machine(cores=999)}, "it was made with 999 cores, and here"),
        ({"machine": _machine(cpu="An Other CPU")}, "it was made on An Other CPU, and this is"),
        ({"machine": _machine(gpus=("A GPU",))}, "it was made with A GPU, and here is"),
        ({"machine": _machine(packages={"onnxruntime": "0.1"})}, "it was made with onnxruntime 0.1, and here is"),
        ({"variant": "int4"}, "it names a plan that this bundle does not have"),
        ({"precision": "fp8"}, "it names a plan that this bundle does not have"),
        ({"runtime": "tvm"}, "its runtime 'tvm' is none of onnxruntime, openvino, tensorrt"),
        ({"runtime": "tensorrt"}, "tensorrt cannot be used here any more"),
    ],
)
def test_a_tuning_that_does_not_fit_is_ignored_with_a_sentence(
    cache: Path, bundle: Bundle, changes: dict[str, object], why: str
) -> None:
    keep_tuning(tuning(bundle, **changes))
    (plan,) = choose_plans(bundle, config(bundle))
    assert f"the tuning of 2026-11-21 was ignored: {why}" in plan.why
    assert "run `ridgeline tune` again" in plan.why


@pytest.mark.parametrize("kind", ["cuda", "tpu"])
def test_a_tuning_for_another_kind_of_device_is_ignored_with_a_sentence(cache: Path, bundle: Bundle, kind: str) -> None:
    path = keep_tuning(tuning(bundle))
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": kind}))
    (plan,) = choose_plans(bundle, config(bundle))
    assert f"was ignored: it is for '{kind}' and not for cpu; run `ridgeline tune` again" in plan.why


def test_a_runtime_that_is_gone(cache: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_tuning(tuning(bundle))
    monkeypatch.setattr(tuned, "is_usable", lambda runtime, kind, gpus: False)
    assert "onnxruntime cannot be used here any more" in choose_plans(bundle, config(bundle))[0].why


@pytest.mark.skipif(this_machine().cores < 2, reason="two CPU replicas need two cores")
def test_a_tuning_for_all_cores_is_not_for_replicas_that_share_them(cache: Path, bundle: Bundle) -> None:
    keep_tuning(tuning(bundle))
    plans = choose_plans(bundle, config(bundle, devices="cpu:0,cpu:1"))
    assert all("it is for one replica on all cores, and 2 share them" in plan.why for plan in plans)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": 1',
        '{"format": 2}',
        pytest.param(None, id="a field garbled"),
    ],
)
def test_a_damaged_file_is_ignored_with_a_warning(
    cache: Path, bundle: Bundle, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    path = keep_tuning(tuning(bundle))
    if text is None:
        text = json.dumps({**json.loads(path.read_text()), "concurrency": -1})
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        (plan,) = choose_plans(bundle, config(bundle))
    assert "tun" not in plan.why
    assert caplog.text.count(f"the tuning in {path} is ignored: it cannot be read") == 1


def test_a_cache_that_cannot_be_read_is_no_cache(
    cache: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep_tuning(tuning(bundle))

    def fail(*_: object) -> str:
        raise PermissionError("permission denied")

    monkeypatch.setattr(tuned, "_newest", fail)
    assert "tun" not in choose_plans(bundle, config(bundle))[0].why
    assert "the cache directory cannot be read" in caplog.text

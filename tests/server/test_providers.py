"""The options that plans give ONNX Runtime's providers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ridgeline_server.runtimes.devices import Device
from ridgeline_server.runtimes.grid import make_grid
from ridgeline_server.runtimes.providers import (
    available_providers,
    engine_directory,
    needed_provider,
    plan_providers,
    tensorrt_options,
)
from tests.server.small_graph import small_plan

GPU = Device("cuda", 1)


def test_the_cpu_provider_stands_alone() -> None:
    assert plan_providers(small_plan(Path("x")), "") == [("CPUExecutionProvider", {})]
    assert "CPUExecutionProvider" in available_providers()


def test_cuda_runs_on_its_gpu_in_true_fp32_with_the_cpu_behind_it() -> None:
    (name, options), rest = plan_providers(small_plan(Path("x"), device=GPU), "NVIDIA X")
    assert (name, options["device_id"], options["use_tf32"]) == ("CUDAExecutionProvider", 1, 0)
    assert rest == ("CPUExecutionProvider", {})


def test_tensorrt_has_cuda_behind_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RIDGELINE_CACHE", str(tmp_path))
    providers = plan_providers(small_plan(Path("x"), "tensorrt", device=GPU), "NVIDIA X")
    assert [name for name, _ in providers] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    directory = Path(providers[0][1]["trt_engine_cache_path"])
    assert directory.parent == tmp_path / "tensorrt"
    assert not directory.exists()


@pytest.mark.parametrize(("precision", "is_half"), [("fp16", True), ("fp32", False)])
def test_tensorrt_builds_one_engine_for_the_whole_grid(precision: str, is_half: bool, tmp_path: Path) -> None:
    plan = small_plan(Path("x"), "tensorrt", device=GPU, precision=precision, grid=make_grid(64, 256))
    options = tensorrt_options(plan, tmp_path)
    assert options["trt_fp16_enable"] is is_half
    assert options["trt_engine_cache_enable"] and options["trt_engine_cache_path"] == str(tmp_path)

    def shape(bound: str) -> tuple[int, int]:
        shapes = dict(part.split(":") for part in options[f"trt_profile_{bound}_shapes"].split(","))
        assert set(shapes) == {"input_ids", "attention_mask"}
        (given,) = set(shapes.values())
        rows, length = given.split("x")
        return int(rows), int(length)

    least, usual, most = shape("min"), shape("opt"), shape("max")
    assert usual in plan.grid.shapes
    for rows, length in plan.grid.shapes:
        assert least[0] <= rows <= most[0] and least[1] <= length <= most[1]
        assert rows * length <= usual[0] * usual[1]


def test_engines_of_different_weights_grids_precisions_and_gpus_lie_apart() -> None:
    plans = [
        (small_plan(Path("x")), "NVIDIA X"),
        (small_plan(Path("x")), "NVIDIA Y"),
        (small_plan(Path("x"), fingerprint="g"), "NVIDIA X"),
        (small_plan(Path("x"), precision="fp16"), "NVIDIA X"),
        (small_plan(Path("x"), grid=make_grid(64, 256)), "NVIDIA X"),
    ]
    assert len({engine_directory(plan, gpu) for plan, gpu in plans}) == len(plans)
    assert engine_directory(*plans[0]) == engine_directory(small_plan(Path("y"), threads=2), "NVIDIA X")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIDGELINE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert engine_directory(small_plan(Path("x")), "").parent == Path("/x/ridgeline/tensorrt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert engine_directory(small_plan(Path("x")), "").parent == Path("/home/someone/.cache/ridgeline/tensorrt")


@pytest.mark.parametrize(
    ("runtime", "kind", "provider"),
    [("onnxruntime", "cpu", "CPU"), ("onnxruntime", "cuda", "CUDA"), ("tensorrt", "cuda", "Tensorrt")],
)
def test_the_provider_that_a_runtime_needs(runtime: str, kind: str, provider: str) -> None:
    assert needed_provider(runtime, kind) == f"{provider}ExecutionProvider"

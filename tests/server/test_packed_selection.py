"""When a bundle is served packed, on what, and what the sentences say."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ridgeline_export.bundle import Bundle, Quality, Variant, read_bundle
from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes import choice, placement, triton_packages
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.devices import CPU, Device
from ridgeline_server.runtimes.selection import choose_plans
from ridgeline_server.runtimes.token_grid import TokenGrid
from ridgeline_server.tuning.candidates import Goal, Surroundings, candidates

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def quality(value: float = 0.9995) -> Quality:
    return Quality("mean_cosine", value, 0.99, "texts", 100)


def packed(fp32: Variant, precision: str, value: float = 0.9995) -> Variant:
    name = f"packed-{precision}"
    return replace(
        fp32, name=name, precision=precision, runtimes=("triton",), outputs=("pooled",), quality=quality(value)
    )


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    """A bundle with fp32, fp16 and packed variants, of which fp32 alone has files."""
    found = read_bundle(tiny_bundle)
    fp32 = found.variant("fp32")
    fp16 = replace(fp32, name="fp16", precision="fp16", quality=quality())
    more = [packed(fp32, precision) for precision in ("fp16", "bf16", "int8", "fp8")]
    return with_variants(found, fp32, fp16, *more)


def with_variants(bundle: Bundle, *variants: Variant) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, variants={each.name: each for each in variants}))


def without(bundle: Bundle, *names: str) -> Bundle:
    return with_variants(bundle, *(each for name, each in bundle.manifest.variants.items() if name not in names))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Four cores, two GPUs of compute capability 9.0, everything installed."""
    monkeypatch.setattr(choice, "available_providers", lambda: PROVIDERS)
    for module in (choice, placement):
        monkeypatch.setattr(module, "cuda_devices", lambda: ("NVIDIA X", "NVIDIA Y"))
    monkeypatch.setattr(triton_packages, "compute_capabilities", lambda: ((9, 0), (9, 0)))
    monkeypatch.setattr(triton_packages, "has_cuda_torch", lambda: True)
    monkeypatch.setattr(triton_packages, "has_compiler", lambda: True)
    monkeypatch.setattr(placement, "available_cores", lambda: 4)
    return monkeypatch


def plans(bundle: Bundle, **flags: Any) -> list[Plan]:
    return choose_plans(bundle, ServerConfig(**{"bundles": (bundle.path,), **flags}))


def no_gpus(machine: pytest.MonkeyPatch) -> None:
    for module in (choice, placement):
        machine.setattr(module, "cuda_devices", lambda: ())


def test_auto_takes_the_packed_variant_to_all_gpus(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    first, second = plans(bundle)
    assert (first.variant, first.runtime, first.precision) == ("packed-fp16", "triton", "fp16")
    assert (first.device, second.device) == (Device("cuda", 0), Device("cuda", 1))
    assert isinstance(first.grid, TokenGrid) and first.grid == second.grid and first.grid.most_tokens == 16_384
    assert (first.concurrency, first.parallel, first.share) == (2, 1, 1.0)
    assert (first.outputs, first.pools_as) == (("pooled",), "mean")
    assert first.why == (
        "packed-fp16 passed its gate (mean cosine 0.9995, gate 0.99) and runs without padding; "
        "triton is the fastest installed runtime for it"
    )


def test_auto_needs_no_onnxruntime_for_gpus(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(choice, "available_providers", lambda: ("CPUExecutionProvider",))
    assert {plan.runtime for plan in plans(bundle)} == {"triton"}


def test_a_variant_that_missed_its_gate_is_not_picked(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    fp32, fp16 = bundle.variant("fp32"), bundle.variant("fp16")
    missed = packed(fp32, "fp16", 0.9)
    assert plans(with_variants(bundle, fp32, fp16, missed, packed(fp32, "bf16")))[0].variant == "packed-bf16"
    assert plans(with_variants(bundle, fp32, fp16, missed, packed(fp32, "int8")))[0].variant == "fp16"


@pytest.mark.parametrize(
    ("variant", "rest"), [("packed-int8", "fp16"), ("packed-fp8", "fp16"), ("packed-bf16", "bf16")]
)
def test_other_packed_variants_are_for_those_who_ask(
    variant: str, rest: str, bundle: Bundle, machine: pytest.MonkeyPatch
) -> None:
    plan, other = plans(bundle, variant=variant, devices="cuda:1,cuda:1")
    assert (plan.variant, plan.runtime, plan.float_precision) == (variant, "triton", rest)
    assert (str(plan.device), plan.device_share, other.device) == ("cuda:1", 0.5, plan.device)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
def test_a_padded_runtime_that_is_asked_for_gets_a_padded_variant(
    runtime: str, bundle: Bundle, machine: pytest.MonkeyPatch
) -> None:
    machine.setattr(choice, "available_providers", lambda: ("TensorrtExecutionProvider", *PROVIDERS))
    plan = plans(bundle, runtime=runtime)[0]
    assert (plan.variant, plan.runtime, plan.pools_as, plan.share) == ("fp16", runtime, None, 0.5)


def test_without_a_cuda_torch_onnxruntime_serves_and_says_why(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(triton_packages, "has_cuda_torch", lambda: False)
    plan = plans(bundle)[0]
    assert (plan.variant, plan.runtime, plan.device.kind) == ("fp16", "onnxruntime", "cuda")
    assert "packed-fp16 would be faster, but runtime triton needs a torch that is built for CUDA" in plan.why
    with pytest.raises(StartupError, match="the installed one is not; replace it: pip uninstall torch"):
        plans(bundle, runtime="triton")
    with pytest.raises(StartupError, match="needs a torch that is built for CUDA"):
        plans(bundle, variant="packed-int8")


def test_triton_needs_a_compiler(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(triton_packages, "has_compiler", lambda: False)
    plan = plans(bundle)[0]
    assert plan.runtime == "onnxruntime" and "finds no C compiler or no Python headers here" in plan.why
    with pytest.raises(StartupError, match="apt-get install gcc libc6-dev python3-dev"):
        plans(bundle, runtime="triton")


def test_a_compiler_is_what_cc_names_or_gcc_or_clang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(triton_packages.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(triton_packages.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert not triton_packages.has_compiler()
    monkeypatch.setenv("CC", "cc")
    assert triton_packages.has_compiler()
    (tmp_path / "Python.h").unlink()
    assert not triton_packages.has_compiler()


@pytest.mark.parametrize("missing", [("triton",), ("torch", "onnx")])
def test_what_is_missing_is_named_with_the_extra(
    missing: tuple[str, ...], bundle: Bundle, machine: pytest.MonkeyPatch
) -> None:
    found = triton_packages.find_spec
    machine.setattr(triton_packages, "find_spec", lambda name: None if name in missing else found(name))
    verb = "are" if len(missing) > 1 else "is"
    for devices in ("cpu", "cuda:0"):
        with pytest.raises(StartupError) as raised:
            plans(bundle, runtime="triton", devices=devices)
        said = f"needs {', '.join(missing)}, which {verb} not installed; install the extra: "
        assert f"{said}pip install 'ridgeline[kernels]'" in str(raised.value)


@pytest.mark.parametrize(
    "flags", [{"runtime": "triton", "devices": "cpu"}, {"variant": "packed-fp16"}, {"runtime": "triton"}]
)
def test_a_cpu_runs_it_on_request_and_warns(
    flags: dict[str, str], bundle: Bundle, machine: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    no_gpus(machine)
    with caplog.at_level(logging.WARNING):
        (plan,) = plans(bundle, **flags)
    assert (plan.variant, plan.runtime, plan.device, plan.concurrency) == ("packed-fp16", "triton", CPU, 1)
    assert "its reference ops, which are for tests, run it slowly" in plan.why
    assert "its reference ops, which are for tests, run it slowly; serve it on an NVIDIA GPU" in caplog.text


def test_auto_never_takes_it_to_a_cpu(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    no_gpus(machine)
    assert [(plan.variant, plan.device) for plan in plans(bundle)] == [("fp32", CPU)]


@pytest.mark.parametrize(
    ("left", "flags", "said"),
    [
        (("fp32", "fp16"), {"runtime": "triton"}, "no packed variant that 'auto' picks for triton; it has: fp16, fp32"),
        (("fp32", "packed-int8"), {"runtime": "triton"}, "name its packed one with --variant, or export"),
        (("fp32",), {"runtime": "triton", "variant": "fp32"}, "variant 'fp32' does not run on triton; allowed: "),
        (("fp32", "packed-fp16"), {"runtime": "openvino", "variant": "packed-fp16"}, "does not run on openvino"),
    ],
)
def test_what_cannot_be_is_refused(
    left: tuple[str, ...], flags: dict[str, str], said: str, bundle: Bundle, machine: pytest.MonkeyPatch
) -> None:
    others = set(bundle.manifest.variants) - set(left)
    with pytest.raises(StartupError, match=said):
        plans(without(bundle, *others), **flags)


def test_a_graph_without_pooling_is_pooled_by_the_runtime(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    states = replace(bundle.variant("packed-fp16"), outputs=("last_hidden_state",))
    manifest = replace(bundle.manifest, variants={states.name: states}, pooling=None)
    plan = plans(replace(bundle, manifest=manifest))[0]
    assert (plan.outputs, plan.pools_as) == (("last_hidden_state",), "mean")


def test_tuning_times_packed_variants_on_gpus_alone(bundle: Bundle) -> None:
    def found(*runtimes: tuple[str, str]) -> set[tuple[str, str, str, str]]:
        surroundings = Surroundings(4, frozenset(), frozenset(runtimes))
        made = candidates(bundle.manifest.variants, surroundings, Goal.THROUGHPUT)
        return {
            (each.arithmetic.variant, each.arithmetic.runtime, each.arithmetic.float_precision, each.kind)
            for each in made
        }

    cpu = ("onnxruntime", "cpu")
    assert found(cpu, ("triton", "cpu")) == {("fp32", "onnxruntime", "fp32", "cpu")}
    assert found(cpu, ("triton", "cpu"), ("triton", "cuda")) == {
        ("packed-fp16", "triton", "fp16", "cuda"),
        ("packed-bf16", "triton", "bf16", "cuda"),
        ("packed-int8", "triton", "fp16", "cuda"),
        ("packed-fp8", "triton", "fp16", "cuda"),
    }


@pytest.mark.parametrize(
    ("version", "is_cuda"),
    [
        ("cuda: Optional[str] = '12.8'\n", True),
        ("cuda = '13.0'\n", True),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n", False),
        (None, False),
    ],
)
def test_the_build_of_torch_is_read_without_importing_it(
    version: str | None, is_cuda: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError")
    if version is not None:
        (tmp_path / "torch" / "version.py").write_text(f"__version__ = '2.11.0'\n{version}")
    spec = type("Spec", (), {"origin": str(tmp_path / "torch" / "__init__.py")})
    monkeypatch.setattr(triton_packages, "find_spec", lambda name: spec)
    assert triton_packages.has_cuda_torch() is is_cuda

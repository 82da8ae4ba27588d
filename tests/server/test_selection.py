"""Which variant, runtime, device and precision a bundle is served with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ridgeline_export.bundle import Bundle, FileEntry, Quality, Variant, read_bundle
from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes import choice, cores, placement
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.devices import CPU, Device
from ridgeline_server.runtimes.selection import check_servable, choose_plans, load_runtime, make_plan, precisions
from ridgeline_server.sequences import OUTPUTS

GPU = Device("cuda", 0)
ALL_FLOATS = frozenset({"avx512_bf16", "avx512_fp16"})
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    """A bundle with fp32, fp16 and int8, of which fp32 alone has files."""
    found = read_bundle(tiny_bundle)
    fp32 = found.variant("fp32")
    variants = {
        "fp32": fp32,
        "fp16": replace(fp32, name="fp16", precision="fp16", quality=passed()),
        "int8": replace(fp32, name="int8", precision="int8", quality=passed()),
    }
    return replace(found, manifest=replace(found.manifest, variants=variants))


def passed() -> Quality:
    return Quality("mean_cosine", 0.9995, 0.99, "texts", 100)


def without(bundle: Bundle, *names: str) -> Bundle:
    variants = {name: variant for name, variant in bundle.manifest.variants.items() if name not in names}
    return replace(bundle, manifest=replace(bundle.manifest, variants=variants))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Four cores with every instruction set, two GPUs, every runtime."""
    monkeypatch.setattr(choice, "cpu_flags", lambda: ALL_FLOATS)
    monkeypatch.setattr(choice, "has_fast_int8", lambda: True)
    monkeypatch.setattr(choice, "is_x86", lambda: True)
    monkeypatch.setattr(choice, "available_providers", lambda: PROVIDERS)
    for module in (choice, placement):
        monkeypatch.setattr(module, "cuda_devices", lambda: ("NVIDIA X", "NVIDIA Y"))
    monkeypatch.setattr(placement, "available_cores", lambda: 4)
    monkeypatch.setattr(placement, "usable_cpus", lambda: (0, 1, 2, 3))
    return monkeypatch


def plans(bundle: Bundle, **flags: Any) -> list[Plan]:
    return choose_plans(bundle, ServerConfig(**{"bundles": (bundle.path,), **flags}))


def test_auto_takes_all_gpus_with_fp16(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    first, second = plans(bundle)
    assert (first.variant, first.runtime, first.precision) == ("fp16", "onnxruntime", "fp16")
    assert (first.device, second.device) == (Device("cuda", 0), Device("cuda", 1))
    assert 8192 <= max(rows * length for rows, length in first.grid.shapes) <= 16_384
    assert first.grid == second.grid and first.concurrency == 2 and first.cores is None
    assert first.why.startswith("fp16 passed its gate (mean cosine 0.9995, gate 0.99)")


def test_auto_takes_fp32_to_gpus_when_there_is_no_fp16(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    assert {(plan.variant, plan.precision) for plan in plans(without(bundle, "fp16"))} == {("fp32", "fp32")}


@pytest.mark.parametrize(
    ("absent", "flags"),
    [
        (("fp16", "fp32"), {}),
        ((), {"variant": "int8"}),
        ((), {"runtime": "openvino"}),
        ((), {"devices": "cpu"}),
    ],
)
def test_auto_takes_the_cpu_when_gpus_cannot_be_used(
    absent: tuple[str, ...], flags: dict[str, str], bundle: Bundle, machine: pytest.MonkeyPatch
) -> None:
    (plan,) = plans(without(bundle, *absent), **flags)
    assert (plan.device, plan.variant, plan.runtime) == (CPU, "int8", "openvino")
    assert (plan.threads, plan.concurrency, plan.float_precision) == (4, 4, "fp32")


def test_auto_takes_the_cpu_without_a_gpu_or_its_provider(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(choice, "available_providers", lambda: ("CPUExecutionProvider",))
    assert [plan.device for plan in plans(bundle)] == [CPU]
    machine.setattr(choice, "available_providers", lambda: PROVIDERS)
    machine.setattr(choice, "cuda_devices", lambda: ())
    assert [plan.device for plan in plans(bundle)] == [CPU]


def test_fp16_on_a_cpu_runs_where_it_is_computed_in_fp16(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    (plan,) = plans(bundle, devices="cpu", variant="fp16")
    assert (plan.runtime, plan.precision) == ("openvino", "fp16")
    (plan,) = plans(bundle, devices="cpu", variant="fp16", runtime="onnxruntime")
    assert (plan.runtime, plan.precision) == ("onnxruntime", "fp32")


def test_tensorrt_means_the_gpus(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    assert [(plan.runtime, plan.device.kind) for plan in plans(bundle, runtime="tensorrt")] == [
        ("tensorrt", "cuda")
    ] * 2
    machine.setattr(choice, "cuda_devices", lambda: ())
    machine.setattr(placement, "cuda_devices", lambda: ())
    with pytest.raises(StartupError, match="cuda:0 does not exist"):
        plans(bundle, runtime="tensorrt")


def test_two_replicas_on_one_gpu_share_it(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    assert [(plan.device, plan.device_share) for plan in plans(bundle, devices="cuda:0,cuda:0")] == [(GPU, 0.5)] * 2


def test_cpu_replicas_have_their_own_cores_and_one_grid(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(placement, "available_cores", lambda: 3)
    first, second = plans(bundle, devices="cpu:0,cpu:1", runtime="onnxruntime")
    assert (first.threads, first.cores, second.threads, second.cores) == (2, (0, 1), 1, (2, 3))
    assert first.grid == second.grid


def test_several_bundles_say_that_they_share(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    (plan,) = plans(bundle, devices="cpu", bundles=(Path("a"), Path("b"), Path("c")))
    assert plan.why.endswith("; planned with the whole device, which it shares with 2 other bundles")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"devices": "cuda:0", "variant": "int8"}, "variant 'int8' is for the CPU; on GPUs serve fp16 or fp32"),
        ({"devices": "cuda:0", "runtime": "openvino"}, "openvino does not run on cuda; allowed: onnxruntime, tensorrt"),
        ({"devices": "cpu", "runtime": "tensorrt"}, "tensorrt does not run on cpu; allowed: onnxruntime, openvino"),
        (
            {"devices": "cpu", "runtime": "vllm"},
            "'vllm' is unknown; allowed: auto, onnxruntime, openvino, tensorrt, triton",
        ),
        ({"variant": "int3"}, "has no variant 'int3'; it has: fp16, fp32, int8; choose one with --variant"),
    ],
)
def test_what_cannot_be_is_refused(
    flags: dict[str, str], said: str, bundle: Bundle, machine: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StartupError, match=said):
        plans(bundle, **flags)


def test_a_variant_not_made_for_a_runtime_is_refused(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    variant = replace(bundle.variant("int8"), runtimes=("onnxruntime",))
    only = replace(bundle, manifest=replace(bundle.manifest, variants={"int8": variant}))
    with pytest.raises(StartupError, match="variant 'int8' does not run on openvino; allowed: onnxruntime"):
        plans(only, runtime="openvino", devices="cpu")


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime"])
def test_an_onnxruntime_for_cpus_says_which_package_gpus_need(
    runtime: str, bundle: Bundle, machine: pytest.MonkeyPatch
) -> None:
    machine.setattr(choice, "available_providers", lambda: ("CPUExecutionProvider",))
    with pytest.raises(StartupError, match=r"has no CUDAExecutionProvider.*pip install 'ridgeline\[gpu\]'"):
        plans(bundle, devices="cuda:0", runtime=runtime)


def test_a_missing_runtime_says_which_extra_brings_it(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(choice, "find_spec", lambda name: None)
    for flags in ({"runtime": "openvino"}, {"runtime": "auto"}, {"runtime": "onnxruntime"}):
        with pytest.raises(StartupError, match=r"pip install 'ridgeline\[cpu\]'"):
            plans(bundle, devices="cpu", **flags)


def test_a_bundle_without_a_variant_for_auto_is_refused(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartupError, match="no variant that 'auto' picks for cuda; it has: int8"):
        plans(without(bundle, "fp32", "fp16"), devices="cuda:0")


@pytest.mark.parametrize(
    ("variant", "runtime", "kind", "flags", "expected"),
    [
        ("fp32", "openvino", "cpu", ALL_FLOATS, ("fp32", "bf16", "fp16")),
        ("fp16", "openvino", "cpu", ALL_FLOATS, ("fp16", "fp32", "bf16")),
        ("fp16", "openvino", "cpu", frozenset({"avx2"}), ("fp32",)),
        ("fp32", "openvino", "cpu", frozenset({"amx_bf16"}), ("fp32", "bf16")),
        ("int8", "openvino", "cpu", ALL_FLOATS, ("int8",)),
        ("fp32", "onnxruntime", "cpu", ALL_FLOATS, ("fp32",)),
        ("fp16", "onnxruntime", "cpu", ALL_FLOATS, ("fp32",)),
        ("fp16", "onnxruntime", "cuda", ALL_FLOATS, ("fp16",)),
        ("fp16", "tensorrt", "cuda", ALL_FLOATS, ("fp16",)),
    ],
)
def test_precisions_follow_the_runtime_and_the_machine(
    variant: str,
    runtime: str,
    kind: str,
    flags: frozenset[str],
    expected: tuple[str, ...],
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "cpu_flags", lambda: flags)
    assert precisions(bundle.variant(variant), runtime, kind) == expected


def planned(bundle: Bundle, variant: Variant, runtime: str = "openvino", **changes: Any) -> Plan:
    fields = {"precision": variant.precision, "device": CPU, "threads": 2, "concurrency": 2, "max_batch_tokens": 64}
    return make_plan(bundle, variant, runtime, why="", **{**fields, **changes})


def test_a_plan_says_what_floating_point_runs_in(bundle: Bundle, machine: pytest.MonkeyPatch) -> None:
    fp32, int8 = bundle.variant("fp32"), bundle.variant("int8")
    assert planned(bundle, fp32, precision="bf16").float_precision == "bf16"
    assert planned(bundle, int8).float_precision == "fp32"
    assert planned(bundle, int8, float_precision="bf16").float_precision == "bf16"
    with pytest.raises(StartupError, match="'int8' does not run in bf16 on onnxruntime here; allowed: fp32"):
        planned(bundle, int8, "onnxruntime", float_precision="bf16")
    with pytest.raises(StartupError, match="'fp32' does not run in int8 on openvino here; allowed: fp32, bf16, fp16"):
        planned(bundle, fp32, precision="int8")


def for_task(bundle: Bundle, task: str, pooling: str | None = None, vocab: int = 30_522) -> Bundle:
    shape = {**bundle.manifest.shape, "vocab": vocab}
    return replace(bundle, manifest=replace(bundle.manifest, task=task, pooling=pooling, shape=shape))


@pytest.mark.parametrize("task", list(OUTPUTS))
def test_a_plan_reads_the_outputs_of_its_task(task: str, bundle: Bundle) -> None:
    plan = planned(for_task(bundle, task), bundle.variant("fp32"), "onnxruntime")
    assert (plan.task, plan.outputs, plan.pools_as) == (task, OUTPUTS[task], None)


@pytest.mark.parametrize(
    ("task", "vocab", "runtime", "asked", "most"),
    [
        ("fill-mask", 30_522, "onnxruntime", 65_536, 1048),
        ("fill-mask", 30_522, "triton", 65_536, 1048),
        ("fill-mask", 30_522, "onnxruntime", 256, 256),
        # The longest sequence has to fit, whatever its logits take.
        ("fill-mask", 1_000_000, "onnxruntime", 65_536, 160),
        ("fill-mask", 1_000_000, "triton", 65_536, 160),
        ("token-classification", 30_522, "triton", 65_536, 65_536),
        ("feature-extraction", 30_522, "triton", 65_536, 65_536),
    ],
)
def test_logits_over_a_vocabulary_bound_a_batch(
    task: str, vocab: int, runtime: str, asked: int, most: int, bundle: Bundle
) -> None:
    variant = replace(bundle.variant("fp32"), runtimes=("triton",) if runtime == "triton" else ("onnxruntime",))
    plan = planned(for_task(bundle, task, vocab=vocab), variant, runtime, max_batch_tokens=asked)
    assert plan.grid.is_packed is (runtime == "triton")
    assert plan.pools_as == ("mean" if plan.grid.is_packed and task == "feature-extraction" else None)
    assert plan.grid.most_tokens == most if plan.grid.is_packed else 160 <= plan.grid.most_tokens <= most


@pytest.mark.parametrize(("vocab", "streams"), [(1_000, 8), (100_000, 4), (1_000_000, 1)])
def test_logits_over_a_vocabulary_bound_all_streams_together(vocab: int, streams: int, bundle: Bundle) -> None:
    filler = for_task(bundle, "fill-mask", vocab=vocab)
    plan = planned(filler, bundle.variant("fp32"), max_batch_tokens=512, concurrency=8)
    assert plan.concurrency == streams
    assert streams * plan.grid.most_tokens * 4 * vocab <= max(256_000_000, 160 * 4 * vocab)
    assert planned(bundle, bundle.variant("fp32"), concurrency=8).concurrency == 8


def test_replicas_whose_logits_bound_them_differently_share_the_smaller_grid(
    bundle: Bundle, machine: pytest.MonkeyPatch
) -> None:
    machine.setattr(placement, "available_cores", lambda: 3)
    filler = for_task(bundle, "fill-mask", vocab=150_000)
    first, second = plans(filler, devices="cpu:0,cpu:1", runtime="openvino", max_batch_tokens=512)
    assert (first.concurrency, second.concurrency) == (2, 1) and first.grid == second.grid


def test_pooling_matters_to_what_embeds_alone(bundle: Bundle) -> None:
    check_servable(for_task(bundle, "text-classification", "weighted"))
    with pytest.raises(StartupError, match="has pooling 'weighted'; this version knows: mean, cls, max, last"):
        check_servable(for_task(bundle, "feature-extraction", "weighted"))
    with pytest.raises(StartupError, match="is for the task 'translation'; this version serves: feature-extraction, "):
        check_servable(for_task(bundle, "translation", "weighted"))


def test_a_fingerprint_changes_with_any_file_of_the_variant(bundle: Bundle) -> None:
    variant = bundle.variant("fp32")
    changed = replace(variant, files={**variant.files, "fp32/model.onnx.data": FileEntry(1, "0" * 64)})
    prints = {planned(bundle, each).fingerprint for each in (variant, replace(variant, name="x"), changed)}
    assert len(prints) == 2


def test_loading_binds_the_process_to_the_plan_s_cores(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[tuple[int, ...] | None] = []
    monkeypatch.setattr("ridgeline_server.runtimes.selection.bind", bound.append)
    plan = planned(bundle, bundle.variant("fp32"), "onnxruntime", cores=cores.usable_cpus()[:1])
    load_runtime(plan)
    assert bound == [plan.cores]

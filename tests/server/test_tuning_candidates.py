"""Which plans are worth timing: bounded, each once, and none that the machine cannot run."""

import dataclasses

import pytest

from ridgeline_export.bundle import Bundle, Manifest, Quality, Variant
from ridgeline_server.runtimes.selection import GPU_CONCURRENCY
from ridgeline_server.tuning.candidate import Candidate
from ridgeline_server.tuning.candidates import Goal, Surroundings, candidates, choose_variants
from ridgeline_server.tuning.errors import TuneUsageError

BOTH = frozenset({("openvino", "cpu"), ("onnxruntime", "cpu")})
ORT = frozenset({("onnxruntime", "cpu")})
AMX = frozenset({"avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"})
FP16_ONLY = frozenset({"avx512_fp16"})
PLAIN = frozenset({"avx2"})
GPU = frozenset({*BOTH, ("onnxruntime", "cuda"), ("tensorrt", "cuda")})


def variant(name: str, precision: str, runtimes: tuple[str, ...] = ("openvino", "onnxruntime")) -> Variant:
    return Variant(
        name=name,
        precision=precision,
        graph=f"{name}/model.onnx",
        files={},
        nodes=1,
        opset=18,
        ir_version=10,
        inputs=("input_ids",),
        outputs=("last_hidden_state",),
        runtimes=runtimes,
        batch_invariant=name != "int8-dynamic",
        quality=Quality("mean_cosine", 0.999, 0.99, "texts", 256),
    )


FP32, INT8, FP16 = variant("fp32", "fp32"), variant("int8", "int8"), variant("fp16", "fp16")
DYNAMIC = variant("int8-dynamic", "int8", ("onnxruntime",))


def arithmetics(found: list[Candidate]) -> set[tuple[str, str, str]]:
    return {(c.arithmetic.variant, c.arithmetic.runtime, c.arithmetic.precision_in_words) for c in found}


@pytest.mark.parametrize(
    ("variants", "flags", "runtimes", "expected"),
    [
        pytest.param(
            [FP32, INT8, DYNAMIC],
            AMX,
            BOTH,
            {
                ("fp32", "openvino", "bf16"),
                ("fp32", "openvino", "fp32"),
                ("int8", "openvino", "int8"),
                ("int8", "openvino", "int8+bf16"),
                ("fp32", "onnxruntime", "fp32"),
                ("int8", "onnxruntime", "int8"),
                ("int8-dynamic", "onnxruntime", "int8"),
            },
            id="amx",
        ),
        pytest.param([FP32], PLAIN, BOTH, {("fp32", "openvino", "fp32"), ("fp32", "onnxruntime", "fp32")}, id="plain"),
        pytest.param([INT8], PLAIN, BOTH, {("int8", "openvino", "int8"), ("int8", "onnxruntime", "int8")}, id="int8"),
        pytest.param(
            [FP32],
            FP16_ONLY,
            BOTH,
            {("fp32", "openvino", "fp16"), ("fp32", "openvino", "fp32"), ("fp32", "onnxruntime", "fp32")},
            id="fp16 without bf16",
        ),
        pytest.param(
            [FP32, FP16],
            PLAIN,
            BOTH,
            {("fp32", "openvino", "fp32"), ("fp32", "onnxruntime", "fp32")},
            id="the fp16 variant adds nothing on a CPU",
        ),
        pytest.param(
            [FP32, INT8], AMX, ORT, {("fp32", "onnxruntime", "fp32"), ("int8", "onnxruntime", "int8")}, id="ort"
        ),
        pytest.param(
            [FP32, FP16, INT8],
            AMX,
            GPU,
            {
                ("fp16", "tensorrt", "fp16"),
                ("fp16", "onnxruntime", "fp16"),
                ("fp32", "tensorrt", "fp32"),
                ("fp32", "onnxruntime", "fp32"),
            },
            id="gpu",
        ),
        pytest.param(
            [INT8],
            PLAIN,
            GPU,
            {("int8", "openvino", "int8"), ("int8", "onnxruntime", "int8")},
            id="nothing for the gpu",
        ),
        pytest.param([FP32], AMX, frozenset(), set(), id="no runtime"),
    ],
)
def test_arithmetics(
    variants: list[Variant],
    flags: frozenset[str],
    runtimes: frozenset[tuple[str, str]],
    expected: set[tuple[str, str, str]],
) -> None:
    found = candidates({v.name: v for v in variants}, Surroundings(2, flags, runtimes), Goal.THROUGHPUT)
    assert arithmetics(found) == expected


@pytest.mark.parametrize("goal", Goal)
@pytest.mark.parametrize("runtimes", [BOTH, ORT, GPU])
@pytest.mark.parametrize("cores", [1, 2, 3, 8, 96])
def test_candidates_are_few_and_each_is_one(cores: int, runtimes: frozenset[tuple[str, str]], goal: Goal) -> None:
    variants = {v.name: v for v in (FP32, INT8, DYNAMIC, FP16)}
    found = candidates(variants, Surroundings(cores, AMX, runtimes), goal)
    assert 0 < len(found) <= 20
    assert len(set(found)) == len(found)
    assert all(each.threads == cores for each in found)
    assert all(each.kind == "cuda" or 1 <= each.streams <= cores for each in found)


def test_streams_and_sizes_on_eight_cores() -> None:
    found = candidates({"int8": INT8}, Surroundings(8, PLAIN, frozenset({("openvino", "cpu")})), Goal.THROUGHPUT)
    assert [(c.streams, c.max_batch_tokens) for c in found] == [(8, 256), (8, 512), (8, 1024), (4, 512), (1, 1024)]


def test_for_latency_only_the_streams_differ() -> None:
    found = candidates({"int8": INT8}, Surroundings(8, PLAIN, frozenset({("openvino", "cpu")})), Goal.LATENCY)
    assert [(c.streams, c.max_batch_tokens) for c in found] == [(1, 256), (4, 256), (8, 256)]


def test_every_arithmetic_comes_before_the_second_choice_of_any() -> None:
    found = candidates({"fp32": FP32, "int8": INT8}, Surroundings(2, AMX, BOTH), Goal.THROUGHPUT)
    first = len({candidate.arithmetic for candidate in found})
    assert len({candidate.arithmetic for candidate in found[:first]}) == first


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2"}, {"fp32"}),
        ({"avx512_bf16", "avx512_fp16"}, {"fp32", "bf16", "fp16"}),
        ({"amx_bf16", "avx512_fp16"}, {"fp32", "bf16"}),
        ({"amx_bf16", "amx_fp16"}, {"fp32", "bf16", "fp16"}),
    ],
)
def test_fp16_on_vector_units_is_left_out_beside_bf16_on_matrix_units(flags: set[str], expected: set[str]) -> None:
    found = candidates({"fp32": FP32}, Surroundings(4, frozenset(flags), BOTH), Goal.THROUGHPUT)
    assert {c.arithmetic.precision for c in found if c.arithmetic.runtime == "openvino"} == expected


def test_on_a_gpu_as_many_batches_run_at_once_as_without_a_tuning() -> None:
    found = candidates({"fp16": FP16}, Surroundings(4, PLAIN, GPU), Goal.THROUGHPUT)
    assert {candidate.streams for candidate in found} == {GPU_CONCURRENCY}


def test_variants_are_chosen_by_name(tiny_exports) -> None:
    bundle: Bundle = tiny_exports("bert", "feature-extraction").bundle
    manifest: Manifest = dataclasses.replace(bundle.manifest, variants={"fp32": FP32, "int8": INT8})
    bundle = dataclasses.replace(bundle, manifest=manifest)
    assert list(choose_variants(bundle, None)) == ["fp32", "int8"]
    assert list(choose_variants(bundle, ("int8",))) == ["int8"]
    with pytest.raises(TuneUsageError, match=r"names 'int4', which .* does not have; it has: fp32, int8"):
        choose_variants(bundle, ("int4",))

"""Equal weights are stored once, in every variant, and nothing else changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir
import onnxruntime
import openvino
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ridgeline_export.cli import app
from ridgeline_export.config import ExportOptions, Fp32, Int8Dynamic, Int8Static, PackedInt8
from ridgeline_export.convert import save_graph
from ridgeline_export.deduplicate import SMALLEST_BYTES, deduplicate, shared_bytes
from ridgeline_export.export import Report, export
from ridgeline_export.quiet import quiet
from ridgeline_kernels.packed.executor import PackedModel
from tests.conftest import Exported
from tests.models import write_model

VARIANTS = (Fp32(), Int8Dynamic(), Int8Static(calibration_texts=20), PackedInt8(calibration_texts=20))
# A layer's matrices: four of attention, 32 × 32, and two of the feed-forward, 32 × 64.
LAYER_WEIGHTS = 4 * 32 * 32 + 2 * 32 * 64


def program_of(*arrays: np.ndarray, output: int | None = None) -> onnx_ir.Model:
    """A graph of one node that reads all arrays as initializers; the numbered one is the graph's output too."""
    values = [
        onnx_ir.Value(name=f"w{index}", const_value=onnx_ir.tensor(array, name=f"w{index}"))
        for index, array in enumerate(arrays)
    ]
    node = onnx_ir.node("Concat", values, attributes={"axis": 0})
    outputs = [*node.outputs, *([] if output is None else [values[output]])]
    graph = onnx_ir.Graph([], outputs, nodes=[node], initializers=values, opset_imports={"": 20})
    return onnx_ir.Model(graph, ir_version=10)


def read_by(program: onnx_ir.Model) -> list[str | None]:
    return [value.name for value in next(iter(program.graph)).inputs if value is not None]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8, bool])
def test_equal_bits_are_joined_whatever_their_dtype_and_layout(dtype: Any) -> None:
    weight = (np.arange(32 * 32).reshape(32, 32) % 7).astype(dtype)
    other = weight.copy()
    other[31, 31] = 1 - other[31, 31].astype(np.float32)
    program = program_of(weight, other, np.ascontiguousarray(weight.T).T, weight.reshape(16, 64))
    assert deduplicate(program) == weight.nbytes
    assert read_by(program) == ["w0", "w1", "w0", "w3"]
    assert list(program.graph.initializers) == ["w0", "w1", "w3"]
    assert shared_bytes(program) == weight.nbytes


def test_what_only_compares_equal_is_kept_apart() -> None:
    zeros = np.zeros(256, np.float32)
    program = program_of(zeros, -zeros, zeros.view(np.int32), np.full(256, np.nan, np.float32))
    assert deduplicate(program) == 0 and read_by(program) == ["w0", "w1", "w2", "w3"]


def test_weights_of_nan_are_equal_by_their_bits() -> None:
    weight = np.full(256, np.nan, np.float32)
    assert deduplicate(program_of(weight, weight.copy())) == weight.nbytes


def test_small_constants_and_the_graphs_outputs_stay() -> None:
    small = np.ones(SMALLEST_BYTES - 1, np.int8)
    assert deduplicate(program_of(small, small.copy())) == 0
    large = np.ones(SMALLEST_BYTES, np.int8)
    assert deduplicate(program_of(large, large.copy(), output=1)) == 0
    assert deduplicate(program_of(large, large.copy(), large.copy(), output=0)) == large.nbytes


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT whose second layer has the first's weights, written out as stock transformers has them."""
    model = write_model(tmp_path_factory.mktemp("tied") / "model", "bert")
    weights = load_file(model / "model.safetensors")
    weights |= {name: weights[re.sub(r"layer\.1\.", "layer.0.", name)].clone() for name in weights}
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return model


@pytest.fixture(scope="module")
def bundle(tied: Path, texts_file: Path) -> tuple[Path, Report]:
    out = tied.parent / "bundle"
    with quiet():
        report = export(ExportOptions(str(tied), out, VARIANTS, texts=texts_file, quality_texts=24))
    return out, report


def matrices(program: onnx_ir.Model) -> list[bytes]:
    """Dtype, shape and bytes of each stored matrix."""
    tensors = [value.const_value for value in program.graph.initializers.values()]
    large = [tensor for tensor in tensors if tensor is not None and tensor.nbytes >= SMALLEST_BYTES]
    return [f"{tensor.dtype} {tensor.shape} ".encode() + tensor.tobytes() for tensor in large]


@pytest.mark.parametrize("config", VARIANTS, ids=lambda config: config.name)
def test_every_variant_stores_what_layers_share_once(config: Any, bundle: tuple[Path, Report]) -> None:
    out, report = bundle
    (outcome,) = [outcome for outcome in report.outcomes if outcome.name == config.name]
    assert outcome.failure is None
    found = matrices(onnx_ir.load(out / config.name / "model.onnx"))
    assert len(found) == len(set(found))
    element_bytes = 4 if config.name == "fp32" else 1
    assert outcome.shared_bytes >= LAYER_WEIGHTS * element_bytes
    # The file holds each of them once, too: no gap is left where another copy lay.
    data = (out / config.name / "model.onnx.data").stat().st_size
    stored = [len(entry.split(b" ", 2)[2]) for entry in found]
    assert data <= sum(stored) + 64 * len(stored)


def unshared(path: Path, directory: Path) -> Path:
    """The graph with a copy of its weights for each node that reads one."""
    program = onnx_ir.load(path)
    for node in [node for node in program.graph if node.op_type == "DequantizeLinear"]:
        for reader, position in list(node.outputs[0].uses())[1:]:
            twin = onnx_ir.node("DequantizeLinear", node.inputs, node.attributes)
            program.graph.insert_before(reader, twin)
            reader.replace_input_with(position, twin.outputs[0])
    for value in list(program.graph.initializers.values()):
        for index, (node, position) in enumerate(list(value.uses())[1:]):
            assert value.const_value is not None
            copy = onnx_ir.tensor(value.const_value.numpy().copy())
            twin = onnx_ir.Value(name=f"{value.name}-{index}", const_value=copy, type=value.type, shape=value.shape)
            program.graph.register_initializer(twin)
            node.replace_input_with(position, twin)
    directory.mkdir()
    onnx_ir.save(program, directory / "model.onnx", external_data="model.onnx.data")
    return directory / "model.onnx"


def by_onnx_runtime(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})[0])


def by_openvino(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled({value.any_name: feed[value.any_name] for value in compiled.inputs})[0])


def by_executor(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    model = PackedModel.load(path)
    answers = model.run({name: torch.from_numpy(feed[name]) for name in model.inputs})
    return next(iter(answers.values())).numpy()


@pytest.mark.parametrize(
    ("variant", "run"),
    [
        ("fp32", by_onnx_runtime),
        ("fp32", by_openvino),
        ("int8-dynamic", by_onnx_runtime),
        ("int8", by_onnx_runtime),
        ("int8", by_openvino),
        ("packed-int8", by_onnx_runtime),
        ("packed-int8", by_executor),
    ],
)
def test_runtimes_answer_as_with_a_copy_for_each_layer(
    variant: str, run: Callable[..., np.ndarray], bundle: tuple[Path, Report], tmp_path: Path
) -> None:
    path = bundle[0] / variant / "model.onnx"
    copied = unshared(path, tmp_path / "unshared")
    assert copied.with_name("model.onnx.data").stat().st_size > path.with_name("model.onnx.data").stat().st_size
    rng = np.random.default_rng(0)
    shape = (1, 12) if variant.startswith("packed") else (2, 12)
    feed = {
        "input_ids": rng.integers(5, 400, shape),
        "token_type_ids": np.zeros(shape, np.int64),
        "attention_mask": np.ones(shape, np.int64),
        "position_ids": np.array([[*range(7), *range(5)]]),
        "cu_seqlens": np.array([0, 7, 12], np.int32),
    }
    np.testing.assert_array_equal(run(path, feed), run(copied, feed))
    # And all of it is undone by what an export does.
    whole = onnx_ir.load(copied)
    (tmp_path / "again").mkdir()
    again = save_graph(whole, tmp_path / "again")
    assert matrices(onnx_ir.load(again)) == matrices(onnx_ir.load(path))


def test_the_command_says_what_is_saved(
    tied: Path, bundle: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ridgeline_export.export.export", lambda *_: bundle[1])
    result = CliRunner().invoke(app, [str(tied), str(tmp_path / "out")])
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("Weights in common are stored once")]
    assert re.search(r"saves 0\.0 MB of fp32, .* of packed-int8\.$", line)


def test_models_that_share_layers_by_themselves_are_counted(tiny_exports: Callable[..., Exported]) -> None:
    path = tiny_exports("albert").bundle.path / "fp32" / "model.onnx"
    assert shared_bytes(onnx_ir.load(path)) >= 4 * LAYER_WEIGHTS

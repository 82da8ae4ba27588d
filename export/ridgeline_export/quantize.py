"""fp32 graph → graph of a smaller precision: a handler per config type."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ridgeline_export.config import IR_VERSION, Fp16, Int8Dynamic, Int8Static, VariantConfig
from ridgeline_export.convert import GRAPH_NAME, save_graph
from ridgeline_export.errors import ConversionError, disk_full, summary
from ridgeline_export.half import to_half
from ridgeline_export.tokenizer import Feed

if TYPE_CHECKING:
    import onnx_ir

C = TypeVar("C", bound=VariantConfig)
Handler = Callable[[Any, Path, Path, Sequence[Feed]], None]
_HANDLERS: dict[type, Handler] = {}


def handles(config_type: type[C]) -> Callable[[Handler], Handler]:
    """Register the function that quantizes for a config type."""

    def register(handler: Handler) -> Handler:
        _HANDLERS[config_type] = handler
        return handler

    return register


def quantize(config: VariantConfig, source: Path, directory: Path, calibration: Sequence[Feed]) -> Path:
    """Quantize the fp32 graph at `source` into a directory and return the new graph's path.

    calibration: batches of one text each, without padding, for methods that need them
    Raises ConversionError when the method fails on this graph.
    """
    try:
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".prepared-") as scratch:
            prepared = _prepare(source, Path(scratch))
            _HANDLERS[type(config)](config, prepared, directory, calibration)
    except Exception as error:  # onnxruntime, onnx and NNCF each have errors of their own
        if disk_full(error):
            raise
        raise ConversionError(f"quantizing to {config.name} failed: {summary(error)}") from error
    return directory / GRAPH_NAME


def _prepare(source: Path, directory: Path) -> Path:
    """A copy of the graph that quantizers read rightly.

    A tied output layer multiplies by a transposed embedding table: folded, it is a weight like any other. Stored shapes
    of weights go, because ONNX Runtime's quantizer transposes weights under their old names.
    """
    import onnx
    import onnx_ir

    program = onnx_ir.load(source)
    for node in list(program.graph):
        if node.op_type == "Transpose" and node.inputs[0] is not None and node.inputs[0].is_initializer():
            _fold_transpose(program.graph, node)
    path = save_graph(program, directory)
    proto = onnx.load(path, load_external_data=False)
    weights = {tensor.name for tensor in proto.graph.initializer}
    kept = [info for info in proto.graph.value_info if info.name not in weights]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    onnx.save(proto, path)
    return path


def _fold_transpose(graph: onnx_ir.Graph, node: onnx_ir.Node) -> None:
    import numpy as np
    import onnx_ir

    weight, output = node.inputs[0], node.outputs[0]
    if weight is None or weight.const_value is None:
        return
    perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
    tensor = onnx_ir.tensor(np.ascontiguousarray(weight.const_value.numpy().transpose(perm)), name=output.name)
    folded = onnx_ir.Value(name=output.name, shape=output.shape, type=output.type, const_value=tensor)
    output.replace_all_uses_with(folded)
    graph.remove(node, safe=True)
    graph.register_initializer(folded)


@handles(Fp16)
def _fp16(config: Fp16, source: Path, directory: Path, calibration: Sequence[Feed]) -> None:
    to_half(source, directory)


@handles(Int8Dynamic)
def _int8_dynamic(config: Int8Dynamic, source: Path, directory: Path, calibration: Sequence[Feed]) -> None:
    import onnx_ir
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantized = source.parent / "quantized.onnx"
    quantize_dynamic(
        source,
        quantized,
        per_channel=config.per_channel,
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
    )
    save_graph(onnx_ir.load(quantized), directory)


@handles(Int8Static)
def _int8_static(config: Int8Static, source: Path, directory: Path, calibration: Sequence[Feed]) -> None:
    # Read by NNCF at import: it sends usage data unless it runs in its own CI.
    os.environ["NNCF_CI"] = "1"
    import nncf
    import onnx
    import onnx_ir
    from nncf.onnx.quantization.backend_parameters import BackendParameters
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

    # The weights stay in their file, which NNCF reads by itself, so that models past protobuf's 2 GB work.
    parameters = AdvancedQuantizationParameters(
        backend_params={BackendParameters.EXTERNAL_DATA_DIR: str(source.parent)}
    )
    quantized = nncf.quantize(
        onnx.load(source, load_external_data=False),
        nncf.Dataset(list(calibration)),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(calibration),
        advanced_parameters=parameters,
    )
    program = onnx_ir.from_proto(quantized)
    program.ir_version = IR_VERSION
    save_graph(program, directory)

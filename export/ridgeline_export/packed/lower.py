"""A transformers model → its raw packed graph: standard ops, those of attention, and Pool.

No architecture is known by name here. The model is asked instead: what its masks mean (attention.py), from which number
its positions count (positions.py), what its head reads (heads.py). Then it is run on packed sequences and on each of
them alone; a model whose answers differ is refused, naming the module. Only then is the graph exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import ConversionError, ExportError, UnsupportedModelError, UsageError, disk_full, summary
from ridgeline_export.packed.attention import IMPLEMENTATION, Attentions
from ridgeline_export.packed.tidy import tidy
from ridgeline_export.quiet import quiet

if TYPE_CHECKING:
    import onnx_ir
    from torch import Tensor

    from ridgeline_export.packed.packed_module import PackedModule

# Neither 0, 1 nor equal: torch.export would take such sizes for constants or for the same axis.
_SAMPLE_LENGTHS = (5, 1, 8)
_MAX_REACH = 4096
# What a config may ask for beside the task's outputs, and what changes how they are given.
_SETTINGS = {"return_dict": True, "use_cache": False, "_output_attentions": False, "output_hidden_states": False}


def lower(model: Any, task: str, *, pooling: str | None = None, normalize: bool = False) -> onnx_ir.Model:
    """The raw packed graph of a model, float32; the model is left as it was.

    model: a transformers encoder or decoder with the head of the task, fp32, in evaluation mode, any attention
    task: one of feature-extraction, text-classification, token-classification, question-answering, fill-mask,
        text-generation
    pooling: mean, cls, max or last: how feature-extraction makes `pooled`; None leaves `last_hidden_state` alone
    normalize: give `sentence_embedding`, of length 1, beside `pooled`
    Raises UnsupportedModelError when the model means something that the dialect cannot say, ConversionError when torch
    cannot export it, UsageError for a wrong task or pooling.
    """
    import torch

    _check(model, task, pooling, normalize)
    with torch.no_grad(), quiet():
        try:
            return _lower(model, task, pooling, normalize)
        except ExportError:
            raise
        except Exception as error:  # torch.export, onnxscript and transformers each have errors of their own
            if disk_full(error):
                raise
            raise ConversionError(f"{type(model).__name__} cannot be lowered: {summary(error)}") from error


def _lower(model: Any, task: str, pooling: str | None, normalize: bool) -> onnx_ir.Model:
    from ridgeline_export.packed.packed_module import OUTPUTS
    from ridgeline_export.packed.sequences import sequences
    from ridgeline_export.packed.weight_names import name_weights

    with prepared(model, task, pooling=pooling, normalize=normalize) as packed:
        program = _export(packed, sequences(model, _SAMPLE_LENGTHS, packed.offset))
    rows = ("pooled", "sentence_embedding") if normalize else ("pooled",)
    tidy(program, (*(rows if pooling else ()), *OUTPUTS[task]))
    name_weights(program.graph, model)
    return program


@contextmanager
def prepared(model: Any, task: str, *, pooling: str | None = None, normalize: bool = False) -> Iterator[PackedModule]:
    """The model as a module of packed inputs and outputs, tried and found exact; it is restored on leaving.

    Arguments and errors are lower()'s; call it without gradients.
    """
    from ridgeline_export.packed.own_attention import adapted
    from ridgeline_export.packed.packed_module import OUTPUTS, PackedModule
    from ridgeline_export.packed.positions import position_offset
    from ridgeline_export.packed.sequences import sequences
    from ridgeline_export.packed.trial import LENGTHS, Alone, compare, trial_lengths

    attentions = Attentions(model)
    with _settings(model, _SETTINGS), _unchunked(model):
        offset = position_offset(model, sequences(model, LENGTHS, None)["input_ids"])
        inputs = sequences(model, trial_lengths(model, offset), offset)
        alone = Alone(model, inputs, OUTPUTS[task], rows=task == "text-classification")
        # Without a token for padding decoders' classifiers read the last token, which otherwise they look for. (They
        # find an earlier one in a text that itself ends with the token for padding; the packed graph never does.)
        without_padding = _settings(model, {"pad_token_id": None} if task == "text-classification" else {})
        with ExitStack() as stack:
            for context in (attentions.installed(), adapted(model, attentions), _implementation(model)):
                stack.enter_context(context)
            stack.enter_context(without_padding)
            stack.enter_context(_broadcast_only_types(model))
            _observe(model, attentions, inputs["input_ids"][:, : max(LENGTHS)], offset)
            packed = PackedModule(model, task, attentions, offset, pooling, normalize).eval()
            compare(packed, inputs, alone)
            yield packed


def _check(model: Any, task: str, pooling: str | None, normalize: bool) -> None:
    import torch

    from ridgeline_export.packed.packed_module import OUTPUTS, POOLS
    from ridgeline_export.packed.positions import base_of

    name = type(model).__name__
    if task not in OUTPUTS:
        raise UsageError(f"no packed graph is for the task '{task}'; there are: {', '.join(OUTPUTS)}")
    if pooling is not None and (pooling not in POOLS or task != "feature-extraction"):
        raise UsageError(
            f"pooling '{pooling}' for {task} is not known; packed graphs of feature-extraction have: {', '.join(POOLS)}"
        )
    if normalize and pooling is None:
        raise UsageError(f"normalized embeddings need a pooling; name one of: {', '.join(POOLS)}")
    if getattr(model.config, "is_encoder_decoder", False) and getattr(base_of(model), "decoder", None) is not None:
        raise UnsupportedModelError(
            f"{name} is an encoder with a decoder; packed graphs are of one of them, such as T5EncoderModel"
        )
    types = {parameter.dtype for parameter in model.parameters()}
    if model.training or types != {torch.float32}:
        raise UsageError(f"{name} must be in float32 and in evaluation mode to be lowered")
    for module_name, module in model.named_modules():
        kinds = getattr(module, "rope_type", None)
        changing = {"dynamic", "longrope"} & set(kinds.values() if isinstance(kinds, dict) else [kinds])
        if changing:
            raise UnsupportedModelError(
                f"{name} cannot be packed: {module_name} has rotary angles of the kind '{changing.pop()}', "
                "which change with a sequence's length"
            )


def _observe(model: Any, attentions: Attentions, ids: Tensor, offset: int | None) -> None:
    """Run the model on one sequence, so that its attention calls are read; twice when they have a bias."""
    import torch

    from ridgeline_export.packed.own_attention import reach
    from ridgeline_export.packed.positions import base_of

    base = base_of(model)
    base(input_ids=ids)
    if attentions.sees_bias:
        longest = reach(model)
        if not 0 < longest <= _MAX_REACH:
            raise UnsupportedModelError(
                f"{type(model).__name__} cannot be packed: its attention adds a bias by position that "
                f"{'ends only at ' + str(longest) + ' tokens' if longest else 'has no known end'}; "
                f"packed attention knows biases of up to {_MAX_REACH}"
            )
        attentions.rules.clear()
        attentions.reads_bias = True
        ids = ids[:, :1].expand(1, longest + 2)
        # The model may have positions for fewer tokens; the bias is by distance alone.
        base(input_ids=ids, **({} if offset is None else {"position_ids": torch.full_like(ids, offset)}))


def _export(packed: Any, sample: dict[str, Any]) -> onnx_ir.Model:
    import torch
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    from ridgeline_export.packed.dialect import dialect

    dynamic = torch.export.Dim.DYNAMIC
    shapes = {name: {value.dim() - 1: dynamic} for name, value in sample.items()}
    config = OnnxConfig(dynamic_shapes=shapes, opset_version=dialect().opset)
    exporter = OnnxExporter()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    program: onnx_ir.Model = exporter.export(packed, dict(sample), config=config).program
    return program


@contextmanager
def _settings(model: Any, wanted: dict[str, Any]) -> Iterator[None]:
    """The model's configs with other values for a while."""
    with ExitStack() as undo:
        for config in _configs(model):
            for name, value in wanted.items():
                if hasattr(config, name):
                    before = getattr(config, name)
                    # A config may insist on a token for padding; such models are no decoders.
                    with suppress(Exception):
                        setattr(config, name, value)
                        undo.callback(setattr, config, name, before)
        yield


@contextmanager
def _unchunked(model: Any) -> Iterator[None]:
    """Feed-forwards take all tokens at once: layers copy the size of chunks from their config."""
    name = "chunk_size_feed_forward"
    before = {module: vars(module)[name] for module in model.modules() if vars(module).get(name)}
    try:
        for module in before:
            setattr(module, name, 0)
        yield
    finally:
        for module, size in before.items():
            setattr(module, name, size)


@contextmanager
def _implementation(model: Any) -> Iterator[None]:
    """Have every attention of the model call the packed one."""
    with ExitStack() as undo:
        for config in _configs(model):
            before = config._attn_implementation_internal
            undo.callback(setattr, config, "_attn_implementation_internal", before)
            config._attn_implementation_internal = IMPLEMENTATION
        yield


def _configs(model: Any) -> list[Any]:
    found = {
        id(config): config for module in model.modules() if (config := getattr(module, "config", None)) is not None
    }
    return [config for config in found.values() if hasattr(config, "_attn_implementation_internal")]


@contextmanager
def _broadcast_only_types(model: Any) -> Iterator[None]:
    """A table of one token type is a constant row: no look-up, and no tensor of zeros to look up with."""
    import torch

    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
        and module.num_embeddings == 1
        and name.endswith("token_type_embeddings")
    ]

    def row(table: Any) -> Any:
        return lambda ids: table.weight[None]

    for table in tables:
        vars(table)["forward"] = row(table)
    try:
        yield
    finally:
        for table in tables:
            vars(table).pop("forward", None)

"""ModelShape: the dimensions of a Transformer encoder, as a bundle's manifest holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.configs.heads import labels
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError
from ridgeline_estimate.reading import read_architecture


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions of an encoder and its head. Every field is JSON-able; a bundle's manifest holds `asdict(shape)`.

    It is a summary for people and for `vocab` and `hidden`: costs are counted from the Architecture of config.json.

    task:                 optimum's name of what runs, such as "feature-extraction" or "fill-mask"
    ffn, gated:           inner width of the feed-forward; gated = two inner projections of that width (GeGLU, SwiGLU)
    linear_bias:          the projections and the feed-forward add biases
    embedding_size:       width of the embedding tables
    embedding_projection: True when a matmul maps embeddings to the hidden size (ALBERT, ELECTRA-small)
    absolute_positions:   a learned table is added to the embeddings
    rotary:               queries and keys are rotated (ModernBERT)
    position_bias:        a bias per head and relative position is added to the scores (MPNet)
    disentangled:         DeBERTa's further score terms, of "c2p" and "p2c"
    relative_positions:   rows of DeBERTa's table of relative positions
    relative_projections: projections of that table per layer; its input is a weight, so runtimes may fold them
    conv_kernel_size:     DeBERTa-v2's convolution after the first layer, 0 = none
    window_tokens:        local attention's window in tokens, None = every layer attends to everything
    window_layers:        how many layers have that window
    has_pooler:           a tanh pooler runs over the first token
    head_rows:            "none", or what the head runs over: "sequence" (its first token or mean) or "token"
    head_transform:       width of the head's inner dense layer or pooler, 0 = none; `head_outputs` that of its last one
    head_norm:            a LayerNorm follows the inner dense layer
    """

    model_type: str
    task: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    gated: bool
    activation: str
    vocab: int
    positions: int
    embedding_size: int
    architecture: str | None = None
    linear_bias: bool = True
    embedding_projection: bool = False
    type_vocab: int = 0
    labels: int = 0
    absolute_positions: bool = True
    rotary: bool = False
    position_bias: bool = False
    disentangled: tuple[str, ...] = ()
    relative_positions: int = 0
    relative_projections: int = 0
    conv_kernel_size: int = 0
    conv_groups: int = 1
    window_tokens: int | None = None
    window_layers: int = 0
    has_pooler: bool = False
    head_rows: str = "none"
    head_transform: int = 0
    head_outputs: int = 0
    head_norm: bool = False

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], task: str | None = None, *, is_complete: bool = False
    ) -> ModelShape:
        """Read a config.json; parameters as in read_architecture, which guesses where it must.

        Raises ShapeError when the config describes no encoder that can be counted.
        """
        architecture = read_architecture(config, task, is_complete=is_complete, guesses=True)
        return cls(**_fields(architecture), labels=labels(Values(config, is_complete=is_complete)))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ModelShape:
        """Read back `asdict(shape)`, also after a way through JSON. Unknown keys are ignored.

        Raises ShapeError when a field is missing or of the wrong type.
        """
        if not isinstance(fields, Mapping):
            raise ShapeError(f"a model's shape is a JSON object, not {type(fields).__name__}")
        known = {field.name: fields[field.name] for field in dataclasses.fields(cls) if field.name in fields}
        if isinstance(known.get("disentangled"), list):
            known["disentangled"] = tuple(known["disentangled"])
        try:
            shape = cls(**known)
        except TypeError as error:
            raise ShapeError(f"the stored shape of the model is incomplete ({error})") from None
        shape._check_types()
        return shape

    def _check_types(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not _TYPE_CHECKS[str(field.type)](value):
                raise ShapeError(f"the stored shape's {field.name} is {value!r}; it should be of type {field.type}")


def _fields(architecture: Architecture) -> dict[str, Any]:
    """What the first layer says of all of them, and what stands around them. Raises ShapeError for no encoder."""
    stack, head = architecture.encoder, architecture.head
    if stack is None or architecture.decoder is not None:
        what = "a decoder" if stack is None else "an encoder-decoder"
        raise ShapeError(f"the config is of {what}; encoders such as BERT have a shape")
    layer = stack.layers[0]
    attention, feed_forward = layer.attention, layer.feed_forward
    if attention is None or feed_forward is None:
        raise ShapeError("the config is of a model whose layers lack attention or a feed-forward")
    windows = [each.attention.window for each in stack.layers if each.attention and each.attention.window is not None]
    return {
        "model_type": architecture.model_type,
        "architecture": architecture.name,
        "task": architecture.task,
        "layers": len(stack.layers),
        "hidden": stack.hidden,
        "heads": attention.heads,
        "kv_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "ffn": feed_forward.width,
        "gated": feed_forward.is_gated,
        "activation": feed_forward.activation,
        "linear_bias": feed_forward.inner_bias,
        "vocab": architecture.vocab,
        "positions": stack.positions,
        "absolute_positions": stack.positions > 0,
        "embedding_size": stack.embedding_size,
        "embedding_projection": stack.has_embedding_projection,
        "type_vocab": stack.type_vocab,
        "rotary": attention.is_rotary,
        "position_bias": attention.has_position_bias,
        "disentangled": attention.disentangled,
        "relative_positions": attention.relative_positions,
        "relative_projections": attention.relative_projections,
        "conv_kernel_size": layer.conv_kernel_size,
        "conv_groups": layer.conv_groups,
        "window_tokens": 2 * windows[0] if windows else None,
        "window_layers": len(windows),
        "has_pooler": head.pooler,
        "head_rows": head.rows,
        "head_transform": head.transform or (stack.hidden if head.pooler and head.rows != "none" else 0),
        "head_outputs": head.outputs,
        "head_norm": head.has_norm,
    }


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_TYPE_CHECKS: Mapping[str, Callable[[object], bool]] = {
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "int": _is_count,
    "int | None": lambda value: value is None or _is_count(value),
    "bool": lambda value: isinstance(value, bool),
    "tuple[str, ...]": lambda value: isinstance(value, tuple),
}

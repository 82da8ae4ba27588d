"""What names tell: a node's place in the model, its layer, and the part that a module's path stands for."""

from __future__ import annotations

import re

_LAYER = re.compile(r"(?:^|[./_])(?:layers?|h|blocks?|albert_layer_groups|groups)[._](\d+)(?=$|[./_])")
_PARAMETER = re.compile(r"\.(weight|bias|gamma|beta|scale|kernel|in_proj_weight|in_proj_bias)(_.*)?$")
# From the most telling to the least; matched against the path in lower case, its last modules alone where they tell.
_HEAD = re.compile(
    r"(^|\.)(lm_head|classifier|cls|pooler|predictions|generator_lm_head|generator_predictions|qa_outputs|score|"
    r"discriminator_predictions|vocab_projector|vocab_transform|vocab_layer_norm|pre_classifier|classification_head|"
    r"embed_out|decoder_head|final_logits|mlm_head)(\.|$)|(^|\.)lm_?head|(^|\.)head(\.|$)"
)
_ROUTER = re.compile(r"(^|\.)(router|gate|gate_network)(\.|$)")
_ATTENTION = re.compile(
    r"attention|attn|(^|\.)(q|k|v|o)_?(proj|lin)(\.|$)|(^|\.)(query|key|value|wqkv|qkv|c_attn|qkv_proj)(\.|$)"
)
_FEED_FORWARD = re.compile(
    r"(^|\.)(mlp|ffn|feed_?forward|intermediate|fc1|fc2|lin1|lin2|wi|wi_0|wi_1|wo|c_fc|dense_h_to_4h|dense_4h_to_h|"
    r"densereludense|experts?|block_sparse_moe|ffn_output|full_layer_layer\w*|output\.dense|output|moe)(\.|$)"
)
_EMBEDDINGS = re.compile(r"embed|(^|\.)(wte|wpe|embeddings?_project|embedding_hidden_mapping_in)(\.|$)")
_NORM = re.compile(r"norm|(^|\.|_)ln(_|\.|\d|$)")
_ACTIVATION = re.compile(r"(^|\.)(act|\w*act_fn|activation|activation_fn|gelu|silu)(\.|$)")


def layer_of(path: str) -> int | None:
    """Number of the layer that a path leads into, None outside of layers."""
    found = _LAYER.search(path)
    return int(found.group(1)) if found else None


def module_of(weight: str) -> str:
    """Path of the module that owns a weight, "" when its name holds no path."""
    name = weight.replace("/", ".")
    return name[: found.start()] if (found := _PARAMETER.search(name)) else ""


def part_of_matmul(path: str) -> str | None:
    """Part of a product with weights by its module's path, None when the path does not tell."""
    path = path.lower()
    in_layer = layer_of(path) is not None
    if _HEAD.search(path) and not in_layer:
        return "head"
    inner = path[_LAYER.search(path).end() :] if in_layer else path  # type: ignore[union-attr]
    if _ROUTER.search(inner) and not inner.endswith("gate_proj"):
        return "router"
    if _ATTENTION.search(inner):
        return "projections"
    if in_layer and _FEED_FORWARD.search(inner):
        return "feed_forward"
    return "embeddings" if _EMBEDDINGS.search(path) and not in_layer else None


def is_norm(path: str) -> bool:
    """Whether the last module of a path is a normalization."""
    return bool(_NORM.search(path.lower().rpartition(".")[2]))


def is_activation(path: str) -> bool:
    """Whether the last module of a path is an activation function."""
    return bool(_ACTIVATION.search(path.lower().rpartition(".")[2]))


def is_head(path: str) -> bool:
    """Whether a path leads into the head."""
    return bool(_HEAD.search(path.lower())) and layer_of(path) is None


def is_router(path: str) -> bool:
    """Whether a path leads into the router of a mixture of experts."""
    return bool(_ROUTER.search(path.lower()))

"""What a model type's code fixes, beyond what its config says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ridgeline_estimate.architecture import Layer, Placement, Stack
from ridgeline_estimate.configs.values import Values

Positions = Literal["learned", "rotary", "alibi", "fixed", "relative"]
QueryKeyNorm = Literal["none", "head", "heads", "all"]
# A property that is fixed, or the name of the config's attribute that says it.
Flag = bool | str


@dataclass(frozen=True, slots=True)
class Kind:
    """One stack of a model type.

    norm_parameters: weights of a norm per element; a name: 2 when that attribute is true, else 1
    norms:           of each layer, where no attribute says otherwise
    placement, is_parallel, is_gated, final_norm, embedding_norm: as in Layer, FeedForward and Stack
    input_bias, output_bias: of queries, keys and values, and of attention's output
    feed_forward_bias: of all its matmuls; outer_bias: of the last one, None = as of the others
    positions:       "learned" table; "rotary"; "alibi": fixed biases of scores; "fixed" table that holds no parameters;
                     "relative": learned biases of scores
    position_offset: rows of the table beside max_position_embeddings
    has_types:       token types are added
    query_key_norm:  "head": one norm for every head; "heads": each its own; "all": over all heads at once
    query_key_norm_if: attribute that turns it on
    query_key_norm_parameters: weights of these norms per element, None = as of the others
    window_every:    every so manieth layer has no window, when the config has one; 0 = each has it
    pooler:          the base class has a tanh pooler
    classifies_pooled: classes for sequences read the pooler; else a dense layer of their own
    masked_lm_transform: a dense layer and a norm stand before the masked language model's last matrix
    has_shared_gate: a shared expert's output is scaled by a projection of the token to one number
    head_bias:       the language model's head adds a bias
    adapt_layer, adapt: what else differs, for a layer by its number and for the stack
    """

    norm_parameters: int | str = 2
    norms: int = 2
    placement: Placement = "post"
    is_parallel: Flag = False
    is_gated: Flag = False
    input_bias: Flag = True
    output_bias: Flag = True
    feed_forward_bias: Flag = True
    outer_bias: Flag | None = None
    positions: Positions = "learned"
    position_offset: int = 0
    has_types: bool = False
    embedding_norm: bool = False
    final_norm: bool = False
    query_key_norm: QueryKeyNorm = "none"
    query_key_norm_if: str | None = None
    query_key_norm_parameters: int | None = None
    window_every: int = 0
    pooler: bool = False
    classifies_pooled: bool = False
    masked_lm_transform: bool = True
    has_shared_gate: bool = False
    head_bias: Flag = False
    adapt_layer: Callable[[Values, Layer, int], Layer] | None = None
    adapt: Callable[[Values, Stack], Stack] | None = None


def is_set(values: Values, flag: Flag) -> bool:
    """Whether a property holds."""
    return values.flag(flag) if isinstance(flag, str) else flag

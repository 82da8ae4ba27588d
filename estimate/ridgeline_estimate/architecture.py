"""What a text Transformer is made of, as far as that decides its cost. Built from a config by `from_config`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rows = Literal["none", "sequence", "token", "choice"]


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of one layer.

    heads, kv_heads: of queries, and of keys and values (grouped: fewer; multi-query: one)
    head_dim, value_dim: widths of a head's queries and keys, and of its values
    is_causal:       tokens attend to those before them alone
    window:          tokens that a token may attend to on each side (causal: before it), None = all
    is_cross:        keys and values come from the encoder's states
    linear_bias:     biases of (query, key, value, output)
    is_rotary:       queries and keys are rotated by their positions
    has_position_bias: a bias per head and relative position is added to the scores (T5, MPNet)
    is_scaled:       scores are multiplied by a scale (T5 does not)
    has_qk_norm:     queries and keys are normalized per head (Qwen3)
    qk_norm_width:   elements that share one norm's weight vector: head_dim, or all heads'; 0 without has_qk_norm
    softcap:         scores pass through a tanh
    disentangled:    DeBERTa's further score terms, of "c2p" and "p2c"
    relative_positions, relative_projections: rows of DeBERTa's table, and projections of it in each layer
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    is_causal: bool = False
    window: int | None = None
    is_cross: bool = False
    linear_bias: tuple[bool, bool, bool, bool] = (True, True, True, True)
    is_rotary: bool = False
    has_position_bias: bool = False
    is_scaled: bool = True
    has_qk_norm: bool = False
    qk_norm_width: int = 0
    softcap: bool = False
    disentangled: tuple[str, ...] = ()
    relative_positions: int = 0
    relative_projections: int = 0


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Feed-forward of one layer.

    width:             inner width, of each expert where there are several
    is_gated:          two inner projections, one of which gates the other (GeGLU, SwiGLU)
    experts:           1 = dense; more: a router picks `experts_per_token` for each token
    shared_width:      inner width of an expert that every token passes too, 0 = none
    """

    width: int
    is_gated: bool
    activation: str
    inner_bias: bool = True
    outer_bias: bool = True
    experts: int = 1
    experts_per_token: int = 1
    shared_width: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack.

    attention, cross: None where it has none
    norms:  normalizations over the hidden size
    conv_kernel_size, conv_groups: DeBERTa-v2's convolution after this layer, 0 = none
    shares_weights_with: number of the layer whose weights this one uses (ALBERT), None = its own
    """

    attention: Attention | None
    feed_forward: FeedForward | None
    cross: Attention | None = None
    norms: int = 2
    conv_kernel_size: int = 0
    conv_groups: int = 1
    shares_weights_with: int | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """An encoder's or a decoder's layers and what stands around them.

    hidden:          width of its states
    norm_parameters: weights of a norm per hidden element: 2 for LayerNorm, 1 for RMSNorm and LayerNorm without bias
    final_norm:      a norm follows the last layer
    embedding_norm:  a norm follows the embeddings
    embedding_size:  width of the embedding tables
    has_embedding_projection: a matmul maps embeddings to the hidden size
    positions:       rows of the learned table of positions that is added, 0 = none
    has_learned_positions: False for a table of fixed sinusoids, which holds no parameters
    type_vocab:      rows of the table of token types, 0 = none
    shares_embeddings: its word table is the encoder's
    """

    layers: tuple[Layer, ...]
    hidden: int
    norm_parameters: int = 2
    final_norm: bool = False
    embedding_norm: bool = True
    embedding_size: int = 0
    has_embedding_projection: bool = False
    positions: int = 0
    has_learned_positions: bool = True
    type_vocab: int = 0
    shares_embeddings: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """What runs on the last states.

    rows:        how many rows it takes: none, one for each sequence, one for each token
    transform:   width of its inner dense layer, 0 = none
    outputs:     width of its last layer, 0 = none
    has_norm:    a norm follows the inner layer
    is_tied:     its last matrix is the word table
    has_bias:    of the last layer; `transform_bias` of the inner one
    pooler:      the base class's dense layer with tanh over each sequence's first token runs first
    """

    rows: Rows = "none"
    transform: int = 0
    outputs: int = 0
    activation: str = "tanh"
    has_norm: bool = False
    is_tied: bool = False
    has_bias: bool = True
    transform_bias: bool = True
    pooler: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model. At least one of encoder and decoder is there; a decoder-only model has no encoder.

    name:      class in the config's `architectures`, such as "BertForMaskedLM"
    vocab:     rows of the word table
    max_positions: longest input that its positions allow, None = no limit
    """

    model_type: str
    name: str | None
    task: str
    vocab: int
    encoder: Stack | None
    decoder: Stack | None
    head: Head
    max_positions: int | None = None

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """Its encoder and decoder, as far as they are there."""
        return tuple(stack for stack in (self.encoder, self.decoder) if stack is not None)

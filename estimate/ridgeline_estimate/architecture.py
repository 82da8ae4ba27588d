"""What a text Transformer is made of, as far as that decides its cost. Read from a config by `read_architecture`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ridgeline_estimate.approximation import Approximation

Rows = Literal["none", "sequence", "token", "choice"]
Placement = Literal["post", "pre", "output", "sandwich"]


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of one layer.

    heads, kv_heads: of queries, and of keys and values (grouped: fewer; multi-query: one)
    head_dim, value_dim: widths of a head's queries and keys, and of its values
    is_causal:       tokens attend to themselves and those before them alone
    window:          causal: how many tokens a token may attend to, itself included; else on each side of it; None = all
    is_cross:        keys and values come from the encoder's states
    source_width:    width of those states, 0 = the stack's own hidden size
    linear_bias:     biases of (query, key, value, output)
    is_rotary:       queries and keys are rotated by their positions
    rotary_dim:      how many elements of each head are rotated, 0 = all
    has_position_bias: a bias per head and relative position is added to the scores (T5, MPNet, ALiBi)
    position_bias_parameters: size of the table of these biases (RoFormer: of its rotations), 0 where
                     another layer owns it or it is fixed
    is_scaled:       scores are multiplied by a scale (T5 does not)
    has_qk_norm:     queries and keys are normalized (Qwen3)
    qk_norm_parameters: weights of both norms together
    softcap:         scores pass through a tanh
    sinks:           learned logits that join each softmax (gpt-oss): one per head, 0 = none
    query_rank, kv_rank: widths of the low-rank projections of DeepSeek's latent attention, 0 = none
    shared_key_dim:  elements of each key that all heads share there; part of head_dim
    disentangled:    DeBERTa's further score terms, of "c2p" and "p2c"
    relative_positions, relative_projections: rows of DeBERTa's table, and projections of it in each layer
    shares_relative_projections: these use the weights of the query's and the key's projection
    approximation:   what stands in exact attention's place, None = nothing
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    is_causal: bool = False
    window: int | None = None
    is_cross: bool = False
    source_width: int = 0
    linear_bias: tuple[bool, bool, bool, bool] = (True, True, True, True)
    is_rotary: bool = False
    rotary_dim: int = 0
    has_position_bias: bool = False
    position_bias_parameters: int = 0
    is_scaled: bool = True
    has_qk_norm: bool = False
    qk_norm_parameters: int = 0
    softcap: bool = False
    sinks: int = 0
    query_rank: int = 0
    kv_rank: int = 0
    shared_key_dim: int = 0
    disentangled: tuple[str, ...] = ()
    relative_positions: int = 0
    relative_projections: int = 0
    shares_relative_projections: bool = False
    approximation: Approximation | None = None

    @property
    def query_width(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Width of all keys of a token."""
        return self.kv_heads * self.head_dim

    @property
    def value_width(self) -> int:
        """Width of all values of a token."""
        return self.kv_heads * self.value_dim

    @property
    def output_width(self) -> int:
        """Width of what all heads give for a token, before the output projection."""
        return self.heads * self.value_dim

    def kept(self, past: int) -> int:
        """How many of `past` tokens the KV cache holds: a causal window forgets those that nothing attends to."""
        if self.is_causal and self.window is not None:
            return min(past, self.window - 1)
        return past


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Feed-forward of one layer.

    width:             inner width, of each expert where there are several
    is_gated:          two inner projections, one of which gates the other (GeGLU, SwiGLU)
    experts:           1 = dense; more: a router picks `experts_per_token` for each token
    shared_width:      inner width of an expert that every token passes too, 0 = none
    has_shared_gate:   the shared expert's output is scaled by a projection of the token to one number (Qwen2-MoE)
    router_parameters: weights of the router beside its matrix
    """

    width: int
    is_gated: bool
    activation: str
    inner_bias: bool = True
    outer_bias: bool = True
    experts: int = 1
    experts_per_token: int = 1
    shared_width: int = 0
    has_shared_gate: bool = False
    router_parameters: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack.

    attention, cross: None where it has none
    norms:          normalizations over the hidden size
    norm_placement: where they stand: "post" after the residual's addition (BERT), "pre" before each part (GPT-2),
                    "output" on each part's output (OLMo 2), "sandwich" before and on the output (Gemma 2)
    is_parallel:    attention and feed-forward read the same states (Falcon, GPT-NeoX)
    conv_kernel_size, conv_groups: DeBERTa-v2's convolution after this layer, 0 = none
    shares_weights_with: number of the layer whose weights this one uses (ALBERT), None = its own
    has_own_first_norm: its first norm's weights are its own even so
    """

    attention: Attention | None
    feed_forward: FeedForward | None
    cross: Attention | None = None
    norms: int = 2
    norm_placement: Placement = "post"
    is_parallel: bool = False
    conv_kernel_size: int = 0
    conv_groups: int = 1
    shares_weights_with: int | None = None
    has_own_first_norm: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """An encoder's or a decoder's layers and what stands around them.

    hidden:          width of its states
    norm_parameters: weights of a norm per hidden element: 2 for LayerNorm, 1 for RMSNorm and LayerNorm without bias
    final_norm:      a norm follows the last layer
    embedding_norm:  a norm follows the embeddings
    embedding_size:  width of the embedding tables
    word_rank:       the word table is a product of [vocab, rank] and [rank, embedding_size], 0 = it is plain
    has_embedding_projection: a matmul maps embeddings to the hidden size
    embedding_projection_bias: of that matmul
    has_output_projection: a matmul maps the last states back to embedding_size (OPT-350m)
    norms_after_projection: the norm of the embeddings stands behind the projection
    positions_after_projection: so do the positions, which have the hidden size then
    positions:       rows of the learned table of positions that is added, 0 = none
    has_learned_positions: False for fixed positions that transformers does not hold as a parameter
    type_vocab:      rows of the table of token types, 0 = none
    shares_embeddings: its word table is the encoder's
    relative_positions: rows of DeBERTa's table of relative positions, 0 = none
    normalizes_relative_positions: a norm runs over that table
    """

    layers: tuple[Layer, ...]
    hidden: int
    norm_parameters: int = 2
    final_norm: bool = False
    embedding_norm: bool = True
    embedding_size: int = 0
    word_rank: int = 0
    has_embedding_projection: bool = False
    embedding_projection_bias: bool = True
    has_output_projection: bool = False
    norms_after_projection: bool = False
    positions_after_projection: bool = False
    positions: int = 0
    has_learned_positions: bool = True
    type_vocab: int = 0
    shares_embeddings: bool = False
    relative_positions: int = 0
    normalizes_relative_positions: bool = False

    @property
    def output_width(self) -> int:
        """Width of what it gives."""
        return self.embedding_size if self.has_output_projection else self.hidden


@dataclass(frozen=True, slots=True)
class Head:
    """What runs on the last states.

    rows:        how many rows it takes: none, one for each sequence (for each choice of a question), one for each token
    transform:   width of its inner dense layer, 0 = none
    outputs:     width of its last layer, 0 = none
    has_norm:    a norm follows the inner layer
    norm_parameters: its weights per element
    is_tied:     its last matrix is the word table; word_rank: that table's, 0 = it is plain
    has_bias:    of the last layer; `transform_bias` of the inner one
    pooler:      the base class's dense layer with tanh over each sequence's first token runs first
    """

    rows: Rows = "none"
    transform: int = 0
    outputs: int = 0
    activation: str = "tanh"
    has_norm: bool = False
    norm_parameters: int = 2
    is_tied: bool = False
    word_rank: int = 0
    has_bias: bool = True
    transform_bias: bool = True
    pooler: bool = False


@dataclass(frozen=True, slots=True)
class Dropout:
    """Probabilities of dropout in training: they decide what is kept for the backward pass.

    hidden:    of embeddings, and of what attention and feed-forward give
    attention: of attention's probabilities
    inner:     of the feed-forward's inner states
    """

    hidden: float = 0.0
    attention: float = 0.0
    inner: float = 0.0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model. At least one of encoder and decoder is there; a decoder-only model has no encoder.

    name:      class in the config's `architectures`, such as "BertForMaskedLM"
    vocab:     rows of the word table
    max_positions: longest input that its positions allow, None = no limit
    is_known:  False when its kind is not in our tables, so that biases and norms are the usual ones, not its own
    """

    model_type: str
    name: str | None
    task: str
    vocab: int
    encoder: Stack | None
    decoder: Stack | None
    head: Head
    max_positions: int | None = None
    is_known: bool = True
    dropout: Dropout = Dropout()

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """Its encoder and decoder, as far as they are there."""
        return tuple(stack for stack in (self.encoder, self.decoder) if stack is not None)

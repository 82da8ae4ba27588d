"""What a run of a model is traced under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ridgeline_estimate.architecture import Architecture, FeedForward
from ridgeline_estimate.memory.storage import Tape, Tensor
from ridgeline_estimate.workload import Mode

# Implementations of transformers 5.23 that differ in what they hold, not in what they compute.
_ONE_MATRIX_FOR_QKV = frozenset({"gpt2", "modernbert", "gpt_neox", "bloom", "falcon", "phi3", "mpt", "gpt_bigcode"})
_ONE_MATRIX_FOR_GATE = frozenset({"modernbert", "phi3", "glm", "glm4"})
_HOLDS_ATTENTION_OUTPUT = frozenset(
    {"gpt2", "modernbert", "gpt_neo", "gptj", "gpt_neox", "bloom", "falcon", "stablelm"}
)
_T5 = frozenset({"t5", "mt5", "umt5", "longt5"})
_BIAS_FOR_EACH_SEQUENCE = frozenset({"mpnet"})
_CLAMPED_GATE = frozenset({"gpt_oss"})
_BIAS = ("add",)
_SCALE = ("scale",)
_SOFTCAP = ("scale", "tanh", "scale")
_AFTER_LOGITS: Mapping[str, tuple[str, ...]] = {
    "bart": _BIAS,
    "bigbird_pegasus": _BIAS,
    "blenderbot": _BIAS,
    "blenderbot-small": _BIAS,
    "cohere": _SCALE,
    "cohere2": _SCALE,
    "gemma2": _SOFTCAP,
    "granite": _SCALE,
    "granitemoe": _SCALE,
    "led": _BIAS,
    "marian": _BIAS,
    "mbart": _BIAS,
    "mvp": _BIAS,
    "pegasus": _BIAS,
    "plbart": _BIAS,
}
_LAYER_NORM_WITHOUT_BIAS = frozenset({"modernbert", "modernbert-decoder", "mpt", "olmo", "dbrx"})


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model runs.

    size:            bytes of an activation
    gradient_sizes:  bytes of an element of a matrix, of a table, and of a norm or bias
    is_materialized: attention scores are written to memory, as attn_implementation="eager" does
    kind:            "cpu" or "cuda": their kernels keep different things
    has_cache:       keys and values are kept for later calls
    leftovers:       what views in the cache keep alive beside their own elements
    """

    tape: Tape
    architecture: Architecture
    mode: Mode
    batch: int
    size: float
    gradient_sizes: tuple[float, float, float]
    is_materialized: bool
    kind: str
    has_cache: bool
    leftovers: list[Tensor] = field(default_factory=list)

    @property
    def is_training(self) -> bool:
        """A backward pass follows."""
        return self.mode is Mode.TRAIN

    @property
    def mask_size(self) -> float | None:
        """Bytes of an element of a dropout mask: CUDA's kernel keeps booleans, the CPU's keeps factors."""
        return 1 if self.kind == "cuda" else None

    @property
    def joins_qkv(self) -> bool:
        """Queries, keys and values come from one matmul."""
        return self.architecture.model_type in _ONE_MATRIX_FOR_QKV

    @property
    def joins_gate(self) -> bool:
        """Both inner projections of a gated feed-forward come from one matmul."""
        return self.architecture.model_type in _ONE_MATRIX_FOR_GATE

    @property
    def holds_attention_output(self) -> bool:
        """A layer's local variable keeps what attention gave until the layer ends."""
        return self.architecture.model_type in _HOLDS_ATTENTION_OUTPUT

    @property
    def holds_gate(self) -> bool:
        """Local variables keep both factors of a gate until the feed-forward ends."""
        return self.architecture.model_type in _T5

    @property
    def repeats_bias(self) -> bool:
        """The bias of positions is copied for each sequence of the batch (MPNet)."""
        return self.architecture.model_type in _BIAS_FOR_EACH_SEQUENCE

    @property
    def after_logits(self) -> tuple[str, ...]:
        """Operations on logits over the vocabulary: adding a bias (BART), a scale (Granite), a soft cap (Gemma 2)."""
        return _AFTER_LOGITS.get(self.architecture.model_type, ())

    @property
    def clamps_gate(self) -> bool:
        """Both halves of a gate are clamped, and the sigmoid is written out (gpt-oss)."""
        return self.architecture.model_type in _CLAMPED_GATE

    @property
    def holds_inner(self) -> bool:
        """A layer's local variable keeps the inner states of the feed-forward until the layer ends (BERT)."""
        return self.architecture.decoder is None and not self.architecture.stacks[0].final_norm

    @property
    def scales_tied_states(self) -> bool:
        """The last states are scaled before a head that is tied to the word table (T5)."""
        return self.architecture.model_type in _T5

    def activation(self, part: FeedForward) -> str:
        """Name of the activation function that runs: T5's classes take the tanh form for "gated-gelu"."""
        is_replaced = self.architecture.model_type in _T5 and part.is_gated and part.activation == "gelu"
        return "gelu_new" if is_replaced else part.activation

    def is_rms(self, norm_parameters: int) -> bool:
        """Norms are RMS norms that are written out."""
        return norm_parameters == 1 and self.architecture.model_type not in _LAYER_NORM_WITHOUT_BIAS

    def weights(self, name: str, matrix: float, vector: float = 0) -> list[tuple[str, float]]:
        """Names and bytes of the gradients of a matrix and its bias, given by their elements."""
        found = [(f"{name}.matrix", matrix * self.gradient_sizes[0])]
        return [*found, (f"{name}.bias", vector * self.gradient_sizes[2])] if vector else found

    def table(self, name: str, elements: float) -> list[tuple[str, float]]:
        """Name and bytes of the gradient of a table."""
        return [(name, elements * self.gradient_sizes[1])]

    def vector(self, name: str, elements: float) -> list[tuple[str, float]]:
        """Name and bytes of the gradient of a norm's weights."""
        return [(name, elements * self.gradient_sizes[2])]

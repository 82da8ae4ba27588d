"""The models that are measured: their shapes, their counterparts in transformers, and their FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ridgeline_kernels.errors import ArgumentError


@dataclass(frozen=True)
class Shape:
    """An encoder's sizes. gate: 2 where two linears go up and are multiplied, else 1; window: keys that a query sees
    on each side in all but every `global_every`-th layer, None where every layer sees all."""

    name: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    max_tokens: int
    model_type: str = "bert"
    gate: int = 1
    window: int | None = None
    global_every: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments of the transformers config of `model_type`."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.max_tokens,
            **self.options,
        }

    @property
    def linear_flops_per_token(self) -> int:
        """Of the layers' linears: 2 for each weight. Embeddings are looked up, pooling is no product."""
        return 2 * self.layers * self.hidden * (4 * self.hidden + (1 + self.gate) * self.intermediate)

    def linear_flops(self, lengths: Sequence[int]) -> int:
        """Of all linears on sequences of these lengths."""
        return self.linear_flops_per_token * sum(lengths)

    def attention_flops(self, lengths: Sequence[int]) -> int:
        """Of q·k and of the sums over v: 4 · hidden for each pair of a query and a key that it sees."""
        whole = sum(1 for layer in range(self.layers) if layer % self.global_every == 0)
        pairs = whole * sum(length * length for length in lengths)
        if self.window is not None:
            pairs += (self.layers - whole) * sum(_pairs_in_window(length, self.window) for length in lengths)
        return 4 * self.hidden * pairs


def _pairs_in_window(length: int, window: int) -> int:
    reach = min(window, length - 1)
    return length * (2 * reach + 1) - reach * (reach + 1)


_MODERNBERT = {
    "global_attn_every_n_layers": 3,
    "local_attention": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}

SHAPES = {
    shape.name: shape
    for shape in (
        Shape("bert-base", 12, 768, 12, 3072, 30522, 512),
        Shape("bert-large", 24, 1024, 16, 4096, 30522, 512),
        Shape("minilm-l6", 6, 384, 12, 1536, 30522, 512),
        Shape("modernbert-base", 22, 768, 12, 1152, 50368, 8192, "modernbert", 2, 64, 3, _MODERNBERT),
        Shape("tiny-bert", 2, 32, 2, 64, 99, 64),
        Shape("tiny-modernbert", 3, 32, 2, 48, 99, 64, "modernbert", 2, 4, 3, {**_MODERNBERT, "local_attention": 8}),
    )
}
"""By name; the tiny ones try the benchmark out."""

MEASURED = tuple(name for name in SHAPES if not name.startswith("tiny"))
TINY = tuple(name for name in SHAPES if name.startswith("tiny"))

VARIANTS = ("fp16", "int8", "fp8")
"""What is measured; fp32 stands beside them as the truth."""


def shapes_of(names: str, default: Sequence[str] = MEASURED) -> list[Shape]:
    """The shapes named, separated by commas, or all of `default`.

    Raises ArgumentError for a name that there is none of.
    """
    wanted = [name for name in names.split(",") if name] or list(default)
    unknown = [name for name in wanted if name not in SHAPES]
    if unknown:
        raise ArgumentError(f"--models names {', '.join(unknown)}; allowed: {', '.join(SHAPES)}")
    return [SHAPES[name] for name in wanted]


def variants_of(names: str) -> list[str]:
    """The variants named, separated by commas, or all.

    Raises ArgumentError for a name that there is none of.
    """
    wanted = [name for name in names.split(",") if name] or list(VARIANTS)
    unknown = [name for name in wanted if name not in ("fp32", "bf16", *VARIANTS)]
    if unknown:
        raise ArgumentError(f"--variants names {', '.join(unknown)}; allowed: fp32, bf16, {', '.join(VARIANTS)}")
    return wanted

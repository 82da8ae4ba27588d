"""The small encoders that calibration times: sizes that differ in width, heads, depth and kind of feed-forward.

Their graphs lie beside the probes of peaks. They are what an export writes for such models, but for the weights, on
whose values time does not depend: runtimes fill them in when they load a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

VOCABULARY, POSITIONS = 1000, 512
# Precision of a graph → kinds of devices that it is for.
GRAPHS = {"fp32": ("cpu", "cuda"), "fp16": ("cuda",), "int8": ("cpu",), "int8-dynamic": ("cpu",)}


@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder.

    is_gated: ModernBERT's kind: norms before, rotated queries and keys, gated feed-forward, no biases; else BERT's
    """

    hidden: int
    heads: int
    ffn: int
    layers: int
    is_gated: bool = False

    @property
    def name(self) -> str:
        """What its graphs are called."""
        return f"encoder_{'gated_' if self.is_gated else ''}{self.hidden}"

    @property
    def config(self) -> Mapping[str, Any]:
        """The config.json of such a model."""
        sizes = {
            "vocab_size": VOCABULARY,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.ffn,
            "max_position_embeddings": POSITIONS,
        }
        if self.is_gated:
            kind = {"model_type": "modernbert", "architectures": ["ModernBertModel"], "hidden_activation": "gelu"}
            return {**kind, **sizes, "local_attention": 128, "global_attn_every_n_layers": 1}
        kind = {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu"}
        return {**kind, **sizes, "type_vocab_size": 0}

    def graph(self, precision: str) -> Path:
        """Its graph in a precision of GRAPHS."""
        return Path(str(files("ridgeline_server.runtimes") / "probes" / f"{self.name}_{precision}.onnx"))


ENCODERS = (
    Encoder(128, 2, 512, 3),
    Encoder(384, 12, 1536, 2),
    Encoder(768, 12, 3072, 2),
    Encoder(512, 8, 768, 2, is_gated=True),
)

"""What config.json says of a compressed model, beside what its architecture knows.

A compressed model loads as it is in stock transformers: what was pruned is zeros there, what is shared or factorized is
written out. Under the key `ridgeline` config.json says which of it is so; Ridgeline then leaves it out for real.

    "ridgeline": {
      "format": 1,
      "layers": [{"heads": [0, 3, 5], "ffn": 640}, …],
      "shared_layers": [[0, 1, 2], [3, 4, 5]],
      "embedding_rank": 64,
      "attention": {"method": "nystrom", "landmarks": 64, …}
    }
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ridgeline_export.errors import ModelError

KEY = "ridgeline"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class LayerForm:
    """What is left of a layer.

    heads: numbers of the query heads that are kept, of those that config.json counts; the others' weights are zeros
    ffn:   how many channels of the feed-forward are kept, the first ones; the others' weights are zeros
    """

    heads: tuple[int, ...]
    ffn: int


@dataclass(frozen=True, slots=True)
class AttentionForm:
    """What stands in exact attention's place.

    method:   "nystrom", "linformer", "lsh" or "local-global"
    settings: its numbers by name, JSON-able; tensors that it needs lie in ridgeline.safetensors
    """

    method: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """How a compressed model differs from what its architecture and config.json say.

    layers:         one a layer, or none when nothing was pruned from inside them
    shared_layers:  groups of layers with the same weights (norms, biases and all), each group in ascending order
    embedding_rank: the word table is a product of [vocab, rank] and [rank, width]; None for a plain table
    attention:      None for the model's own
    """

    layers: tuple[LayerForm, ...] = ()
    shared_layers: tuple[tuple[int, ...], ...] = ()
    embedding_rank: int | None = None
    attention: AttentionForm | None = None
    format: int = field(default=FORMAT)

    @property
    def is_plain(self) -> bool:
        """True when the model is what its architecture says."""
        return self == Form()

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds under KEY."""
        raw: dict[str, Any] = {"format": self.format}
        if self.layers:
            raw["layers"] = [{"heads": list(layer.heads), "ffn": layer.ffn} for layer in self.layers]
        if self.shared_layers:
            raw["shared_layers"] = [list(group) for group in self.shared_layers]
        if self.embedding_rank is not None:
            raw["embedding_rank"] = self.embedding_rank
        if self.attention is not None:
            raw["attention"] = {"method": self.attention.method, **self.attention.settings}
        return raw


def read_form(config: Any) -> Form:
    """The form of a model with this config of transformers; a plain one when the config says nothing.

    Raises ModelError when what it says is of a newer format or makes no sense.
    """
    raw = getattr(config, KEY, None)
    if raw is None:
        return Form()
    try:
        version = int(raw["format"])
        if version > FORMAT:
            raise ModelError(
                f"config.json describes a compressed model of format {version}; this version of Ridgeline reads "
                f"formats up to {FORMAT}: upgrade Ridgeline, or compress the model again"
            )
        attention = raw.get("attention")
        return Form(
            layers=tuple(
                LayerForm(tuple(int(head) for head in layer["heads"]), int(layer["ffn"]))
                for layer in raw.get("layers", ())
            ),
            shared_layers=tuple(tuple(int(number) for number in group) for group in raw.get("shared_layers", ())),
            embedding_rank=None if raw.get("embedding_rank") is None else int(raw["embedding_rank"]),
            attention=None
            if attention is None
            else AttentionForm(
                str(attention["method"]), {name: value for name, value in attention.items() if name != "method"}
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"config.json's '{KEY}' does not describe a compressed model ({type(error).__name__}: {error}); "
            "compress the model again"
        ) from error


def write_form(config: Any, form: Form) -> None:
    """Put a form into a config of transformers; a plain form leaves no trace."""
    if form.is_plain:
        vars(config).pop(KEY, None)
    else:
        setattr(config, KEY, form.to_dict())

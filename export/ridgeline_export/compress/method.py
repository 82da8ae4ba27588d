"""One verb, many methods: a frozen config a method, a handler registered for its type.

A handler changes the model that it is given, in place, and says what it did; opening, training data, saving, the
journal and the report are the same for all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from ridgeline_export.compress.data.data import Data
    from ridgeline_export.compress.progress import Progress
    from ridgeline_export.form.form import Form
    from ridgeline_export.load import LoadedModel


@dataclass(slots=True)
class Job:
    """What a handler works on.

    loaded:    the model, its tokenizer and task; `loaded.model` is the handler's to change, or to replace
    form:      how the model differs from its config; the handler replaces it by that of the result
    extras:    tensors that go beside the result's weights, by name; the input's to begin with
    data:      training, validation and quality texts, read when first asked for
    directory: for checkpoints, caches and logs; outlives a kill, and the same command goes on from it
    progress:  where stages and training steps are shown
    """

    loaded: LoadedModel
    form: Form
    extras: dict[str, Tensor]
    data: Data
    directory: Path
    progress: Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a handler did.

    summary: a sentence for people
    figures: what it found out, JSON-able, for the journal; may hold lists (per-layer tables, curves)
    """

    summary: str
    figures: Mapping[str, Any] = field(default_factory=dict)


Handler = Callable[[Any, Job], Outcome]
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Method:
    """A method as the command and recipes know it.

    family: the subcommand: prune, distill, share, attention or recover
    name:   what --method says inside the family, such as "heads"; the family's only method has the family's name
    """

    family: str
    name: str
    config_type: type
    handler: Handler


_METHODS: dict[str, Method] = {}
# Modules that register methods, light to import: torch is imported inside handlers. In the order of `--help`.
MODULES = (
    "ridgeline_export.compress.prune.structured",
    "ridgeline_export.compress.prune.layers",
    "ridgeline_export.compress.prune.vocabulary",
    "ridgeline_export.compress.prune.unstructured",
    "ridgeline_export.compress.prune.semi_structured",
    "ridgeline_export.compress.distill.distill",
    "ridgeline_export.compress.share.layers",
    "ridgeline_export.compress.share.factorize",
    "ridgeline_export.compress.share.tie",
    "ridgeline_export.compress.attention.nystrom",
    "ridgeline_export.compress.attention.linformer",
    "ridgeline_export.compress.attention.lsh",
    "ridgeline_export.compress.attention.local_global",
    "ridgeline_export.compress.attention.exact",
    "ridgeline_export.compress.recover.recover",
)


def handles(config_type: type[C], family: str, name: str) -> Callable[[Handler], Handler]:
    """Register the function that compresses as a config says."""

    def register(handler: Handler) -> Handler:
        _METHODS[f"{family} {name}"] = Method(family, name, config_type, handler)
        return handler

    return register


def methods() -> tuple[Method, ...]:
    """All methods, in the order of MODULES."""
    for module in MODULES:
        importlib.import_module(module)
    return tuple(sorted(_METHODS.values(), key=lambda method: MODULES.index(method.config_type.__module__)))


def method_of(config: Any) -> Method:
    """The method that a config is of: its module registered it."""
    return next(method for method in _METHODS.values() if method.config_type is type(config))

"""The approximate attentions by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from torch import Generator, Tensor

from ridgeline_export.errors import ModelError
from ridgeline_export.form.attention.linformer import Linformer
from ridgeline_export.form.attention.local_global import LocalGlobal
from ridgeline_export.form.attention.lsh import Lsh
from ridgeline_export.form.attention.nystrom import Nystrom
from ridgeline_export.form.form import AttentionForm


class Approximation(Protocol):
    """What stands in one layer's exact attention's place.

    method:  its name in config.json
    trained: names of the tensors that training changes; the others stay as they were drawn
    """

    method: ClassVar[str]
    trained: ClassVar[tuple[str, ...]]

    @property
    def exact_tokens(self) -> int:
        """Texts of so many tokens get exact attention."""
        ...

    @property
    def block_tokens(self) -> int:
        """Tokens that are computed together: it works in blocks of them; 1 without blocks."""
        ...

    def shapes(self, head_dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a layer's tensors by name."""
        ...

    def initial(self, head_dim: int, generator: Generator) -> dict[str, Tensor]:
        """Tensors to begin with."""
        ...

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        is_token: Tensor,
        tensors: Mapping[str, Tensor],
        scale: float,
        dropout: float,
    ) -> Tensor:
        """q, k, v [batch, heads, tokens, head_dim]; is_token bool [batch, tokens], padding on the right → like q."""
        ...


_TYPES = {each.method: each for each in (Nystrom, Linformer, Lsh, LocalGlobal)}
# Which layers are approximated is the model's matter.
LAYERS = "layers"


def make_approximation(form: AttentionForm) -> Approximation:
    """The approximation that a form describes. Raises ModelError when it describes none."""
    if form.method not in _TYPES:
        raise ModelError(
            f"config.json asks for '{form.method}' attention; this version of Ridgeline has {', '.join(_TYPES)}: "
            "upgrade Ridgeline, or compress the model again"
        )
    settings = {name: value for name, value in form.settings.items() if name != LAYERS}
    try:
        made: Approximation = _TYPES[form.method](**settings)
    except TypeError as error:
        raise ModelError(
            f"config.json's '{form.method}' attention has the settings {', '.join(settings) or 'none'}, which do not "
            f"describe it ({error}): compress the model again"
        ) from error
    return made

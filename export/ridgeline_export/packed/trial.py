"""Does packing change a model's answers? Asked before the graph is made, of real numbers, for whatever model it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ridgeline_export.errors import ExportError, UnsupportedModelError, summary
from ridgeline_export.packed.approximate import exact_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from ridgeline_export.packed.packed_module import PackedModule

# Sequences of these lengths; their sum is no size of a model, so that a shape tells which axis counts tokens.
LENGTHS = (7, 1, 11, 4)
# Of the largest value: rounding is a hundredth of it, a wrong mask or position many times as much.
_TOLERANCE = 5e-4


# Relative, of all values together, where rounding may move a token to another bucket of hashes; see compare.
_HASHED_TOLERANCE = 5e-2
# Dense scores of so many tokens are 50 MB in a layer of 12 heads.
_MOST_TOKENS = 1024


def trial_lengths(model: Any, offset: int | None) -> tuple[int, ...]:
    """LENGTHS, and for a model that attends approximately a sequence that is too long to be seen exactly.

    offset: the model's number for a sequence's first position, None for a model without positions
    """
    exact = exact_tokens(model)
    if not exact:
        return LENGTHS
    positions = getattr(model.config, "max_position_embeddings", None)
    most = _MOST_TOKENS if positions is None or offset is None else min(_MOST_TOKENS, positions - offset)
    return (*LENGTHS, max(min(2 * exact + 3, most), 1))


class Alone:
    """A model's answers to each sequence of a packed input by itself, by its own attention.

    Made before the model is touched. states: the output of every module that has one row a token, by name, in the
    order in which they were made; only asked for when something has gone wrong
    """

    def __init__(self, model: Any, inputs: dict[str, Tensor], names: Sequence[str], rows: bool) -> None:
        import torch

        bounds = inputs["cu_seqlens"].tolist()
        self.answers: dict[str, Tensor] = {}
        parts: dict[str, list[Tensor]] = {}
        states: dict[str, list[Tensor]] = {}
        for start, end in pairwise(bounds):
            given = {name: inputs[name][:, start:end] for name in ("input_ids", "token_type_ids") if name in inputs}
            with watched(model, end - start) as seen:
                output = model(**given)
            for name in names:
                value = output.get(name)
                if value is None:
                    raise UnsupportedModelError(
                        f"{type(model).__name__} gives {', '.join(output)}; the task needs {', '.join(names)}"
                    )
                parts.setdefault(name, []).append(value)
            for name, state in seen.items():
                states.setdefault(name, []).append(state)
        self.answers = {name: torch.cat(values, 0 if rows else 1) for name, values in parts.items()}
        whole = {name: values for name, values in states.items() if len(values) == len(bounds) - 1}
        self.states = {name: torch.cat(values, 1) for name, values in whole.items()}


def compare(packed: PackedModule, inputs: dict[str, Tensor], alone: Alone) -> None:
    """Raise UnsupportedModelError naming the first module that mixes sequences, unless the answers are the same.

    A model that attends by hashes is held to rounding on the sequences of LENGTHS, which it sees exactly. On the longer
    one a last bit can move a token to another bucket, and with it what that token meets.
    """
    from ridgeline_export.form.attention import is_hashed

    tokens = inputs["input_ids"].shape[1]
    is_close = _is_close_beside_hashes if is_hashed(packed.model) else _is_close
    own = "" if packed.attentions.rules else " (the model computes attention in code of its own)"
    with watched(packed.model, tokens) as seen:
        try:
            answers = packed(**inputs)
        except ExportError:
            raise
        except Exception as error:
            raise UnsupportedModelError(
                f"{type(packed.model).__name__} cannot be packed: it fails on packed sequences with "
                f"'{summary(error)}'{own}; serve its padded variants"
            ) from error
    wrong = [name for name, want in alone.answers.items() if not is_close(answers[name], want)]
    if not wrong:
        return
    culprit = next(
        (name for name, state in seen.items() if name in alone.states and not is_close(state, alone.states[name])),
        "its head",
    )
    raise UnsupportedModelError(
        f"{type(packed.model).__name__} cannot be packed: {culprit} gives a sequence other values when others are "
        f"beside it{own}; serve its padded variants"
    )


@contextmanager
def watched(model: Any, tokens: int) -> Iterator[dict[str, Tensor]]:
    """Collect the first output [1, tokens, …] of every module, by name."""
    import torch

    seen: dict[str, Tensor] = {}
    handles = []

    def watch(name: str) -> Any:
        def collect(module: Any, args: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            if isinstance(value, torch.Tensor) and value.dim() > 1 and tuple(value.shape[:2]) == (1, tokens):
                seen.setdefault(name, value.clone())

        return collect

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(watch(name)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _is_close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    scale = float(b.abs().max())
    return bool((a - b).abs().max() <= _TOLERANCE * max(scale, 1e-6))


def _is_close_beside_hashes(a: Tensor, b: Tensor) -> bool:
    """a, b: [1, tokens, …] or [sequences, …]; the last sequence is the one that is not seen exactly."""
    is_by_token = b.shape[0] == 1
    (a, b), held = ((x[0] for x in (a, b)), sum(LENGTHS)) if is_by_token else ((a, b), len(LENGTHS))
    if a.shape != b.shape or not _is_close(a[:held], b[:held]):
        return False
    return bool((a - b)[held:].norm() <= _HASHED_TOLERANCE * b[held:].norm())

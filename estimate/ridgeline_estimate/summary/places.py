"""Where an operation stands in a model: before, in or after which layers, and its name there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ridgeline_estimate.op import Op

_BACKWARD = ".backward"
_LAYER_WORDS = frozenset({"layers", "layer", "h", "block", "blocks", "model", "transformer", ""})
_SIDES = ("encoder", "decoder")


@dataclass(frozen=True, slots=True)
class Block:
    """Operations that are shown together.

    stack: "encoder" or "decoder" where there are both
    number: of a block outside of layers, so that what is before them and what is after stay apart
    """

    has_layers: bool
    stack: str = ""
    is_backward: bool = False
    number: int = 0

    def title(self, layers: Sequence[int]) -> str:
        """Of these layers, such as "encoder layers 0–5 (×6)"."""
        words = [self.stack, "layer" if len(layers) == 1 else "layers", numbers_text(layers)]
        words += ["backward"] if self.is_backward else []
        words += [f"(×{len(layers)})"] if len(layers) > 1 else []
        return " ".join(word for word in words if word)


def config_blocks(ops: Sequence[Op]) -> list[Block]:
    """The block of each operation that was counted from a config: their names are ours, their order is the model's."""
    blocks: list[Block] = []
    number = 0
    for op in ops:
        if op.layer is not None:
            stack = ".".join(word for word in _split(op)[0] if word not in _LAYER_WORDS)
            blocks.append(Block(True, stack, op.name.endswith(_BACKWARD)))
            continue
        number += int(bool(blocks) and blocks[-1].has_layers)
        blocks.append(Block(False, number=number))
    return blocks


def graph_blocks(ops: Sequence[Op]) -> list[Block]:
    """The block of each node of a graph: names differ from file to file, and independent nodes come in any order."""
    sides = [_side(op) for op in ops]
    has_both = set(_SIDES) <= set(sides)
    blocks: list[Block] = []
    last = ""
    for op, side in zip(ops, sides, strict=True):
        last = (side or last) if has_both else ""
        blocks.append(Block(True, last) if op.layer is not None else Block(False, last, number=int(op.part == "head")))
    return blocks


def local_name(op: Op) -> str:
    """Its name in its layer: "attention.query" of encoder.layers.3.attention.query, its backward pass alike."""
    name = ".".join(_split(op)[1]).strip("./") or "other"
    return name if op.layer is None else name.removesuffix(_BACKWARD)


def numbers_text(numbers: Iterable[int]) -> str:
    """As "0–11", "1, 3" or, when there are many gaps, "1–2, 4–5 …"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ", ".join(texts) if len(texts) <= 3 else ", ".join(texts[:2]) + " …"


def _split(op: Op) -> tuple[list[str], list[str]]:
    """The words of its name before the number of its layer, and after it."""
    words = re.split(r"[./]", op.name)
    number = str(op.layer)
    if op.layer is None or number not in words:
        return [], words
    at = words.index(number)
    return words[:at], words[at + 1 :]


def _side(op: Op) -> str:
    return next((word for word in re.split(r"[./]", op.name.lower()) if word in _SIDES), "")

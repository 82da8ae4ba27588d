"""Memory that CUDA graphs read their inputs from and write their outputs to: at the same place in every run.

All graphs share one buffer of inputs and one of each output, as large as the largest bucket needs, and each sees it
through views of its own sizes. The inputs of a bucket lie end to end, so that a batch packed on the host arrives in one
copy: int32 [tokens] for each input by token, then cu_seqlens, int32 [sequences + 1], each from a multiple of 16 bytes
on, whatever the sizes: Triton compiles kernels anew for pointers that are none. A batch is padded to its bucket whole:
nothing of an earlier batch, of another bucket even, is ever read as an id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.packed.buckets import Bucket
from ridgeline_kernels.packing import cu_seqlens_of, positions_of

CU_SEQLENS = "cu_seqlens"
ID_BYTES = 4
_ALIGNED_IDS = 16 // ID_BYTES
_TOKEN_INPUTS = ("input_ids", "token_type_ids", "position_ids")

Feed = Mapping[str, torch.Tensor]


def sizes(feed: Feed) -> tuple[int, int]:
    """Tokens and sequences of a batch, from the shapes alone.

    Raises ArgumentError if an input is missing, has no place in a packed graph or has another number of tokens.
    """
    for name in ("input_ids", CU_SEQLENS):
        if name not in feed:
            raise ArgumentError(f"the batch has no {name}; it has {', '.join(feed) or 'nothing'}")
    tokens, bounds = feed["input_ids"].numel(), feed[CU_SEQLENS].numel()
    for name, value in feed.items():
        if name != CU_SEQLENS and name not in _TOKEN_INPUTS:
            raise ArgumentError(
                f"{name} is no input of a packed graph; those are {', '.join(_TOKEN_INPUTS)}, {CU_SEQLENS}"
            )
        if name != CU_SEQLENS and tuple(value.shape) not in ((tokens,), (1, tokens)):
            raise ArgumentError(f"{name} is {list(value.shape)}; input_ids has {tokens} tokens: give [1, {tokens}]")
    if bounds < 2 or not tokens:
        raise ArgumentError(f"the batch has {tokens} tokens and {bounds - 1} sequences; give at least one of each")
    return tokens, bounds - 1


class StaticInputs:
    """The buffer of inputs of a graph's `names`."""

    def __init__(self, names: Iterable[str], buckets: Iterable[Bucket], device: torch.device):
        self.names = tuple(name for name in _TOKEN_INPUTS if name in set(names))
        largest = max((self.size(bucket) for bucket in buckets), default=0)
        self.flat = torch.zeros(largest, dtype=torch.int32, device=device)

    @property
    def size_bytes(self) -> int:
        """Bytes of the buffer."""
        return self.flat.numel() * self.flat.element_size()

    def size(self, bucket: Bucket) -> int:
        """Numbers that a bucket's inputs take."""
        return len(self.names) * _aligned(bucket.tokens) + bucket.sequences + 1

    def views(self, bucket: Bucket, flat: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """A bucket's inputs by name, int32 [1, tokens] and [sequences + 1], in the buffer or in one like it."""
        flat = self.flat if flat is None else flat
        step = _aligned(bucket.tokens)
        views = {
            name: flat[index * step : index * step + bucket.tokens].view(1, -1) for index, name in enumerate(self.names)
        }
        views[CU_SEQLENS] = flat[len(self.names) * step : self.size(bucket)]
        return views

    def fill(self, bucket: Bucket, feed: Feed, flat: torch.Tensor | None = None) -> None:
        """Put a batch into its bucket's inputs, padded: without waiting for the device.

        Ids past the batch are 0, bounds past it repeat the last one. A missing token_type_ids is all zeros, a missing
        position_ids counts from 0 in each sequence.
        """
        views = self.views(bucket, flat)
        bounds, given = views[CU_SEQLENS], feed[CU_SEQLENS]
        bounds[: given.numel()].copy_(given, non_blocking=True)
        bounds[given.numel() :].copy_(given[-1:].expand(bounds.numel() - given.numel()), non_blocking=True)
        for name in self.names:
            ids = views[name].view(-1)
            if name not in feed:
                if name == "position_ids":
                    ids.copy_(_positions(bounds, ids.numel()))
                else:
                    ids.zero_()
                continue
            value = feed[name].reshape(-1)
            ids[: value.numel()].copy_(value, non_blocking=True)
            ids[value.numel() :].zero_()


def one_token_each(bucket: Bucket, device: torch.device) -> Feed:
    """A batch that any model takes, however few positions it has: what a graph does depends on shapes alone."""
    count = min(bucket.tokens, bucket.sequences)
    ids = torch.zeros(1, count, dtype=torch.int32, device=device)
    bounds = torch.arange(bucket.sequences + 1, dtype=torch.int32, device=device).clamp(max=count)
    return {"input_ids": ids, CU_SEQLENS: bounds}


def as_models_take_it(feed: Feed, device: torch.device) -> Feed:
    """The inputs in the shapes and on the device that the model itself asks for."""
    shaped = {name: value.reshape(-1) if name == CU_SEQLENS else value.reshape(1, -1) for name, value in feed.items()}
    shaped[CU_SEQLENS] = shaped[CU_SEQLENS].int()
    return {name: value.to(device, non_blocking=True) for name, value in shaped.items()}


def _aligned(count: int) -> int:
    """The least count of ids, no smaller, whose bytes are a multiple of 16."""
    return -(-count // _ALIGNED_IDS) * _ALIGNED_IDS


def _positions(bounds: torch.Tensor, tokens: int) -> torch.Tensor:
    """Each token's position in its sequence; 0 for tokens of no sequence, which a table of positions need not reach."""
    is_real = torch.arange(tokens, device=bounds.device) < bounds[-1]
    return torch.where(is_real, positions_of(bounds, tokens), 0)


@dataclass(frozen=True, slots=True)
class OutputForm:
    """Shape of an output: a row for each token, [1, tokens, …], or one for each sequence, [sequences, …]."""

    by_token: bool
    row: tuple[int, ...]
    dtype: torch.dtype

    def shape(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Its shape for a batch."""
        return (1, tokens, *self.row) if self.by_token else (sequences, *self.row)

    def size_bytes(self, tokens: int, sequences: int) -> int:
        """Its bytes for a batch."""
        return prod(self.shape(tokens, sequences)) * self.dtype.itemsize

    def part(self, whole: torch.Tensor, tokens: int, sequences: int) -> torch.Tensor:
        """The batch's rows of a bucket's output."""
        return whole[:, :tokens] if self.by_token else whole[:sequences]


def probe(
    run: Callable[[Feed], Mapping[str, torch.Tensor]], names: Collection[str], device: torch.device
) -> dict[str, OutputForm]:
    """The forms of the outputs of a model with the inputs `names`, from a run on 11 tokens in 7 sequences.

    Raises ArgumentError if an output has neither a row for each token nor one for each sequence.
    """
    lengths = [2, 1, 2, 1, 2, 1, 2]
    ids = torch.zeros(1, sum(lengths), dtype=torch.int32, device=device)
    bounds = cu_seqlens_of(lengths, device)
    given = {"input_ids": ids, "token_type_ids": ids, "position_ids": _positions(bounds, ids.numel())[None].int()}
    outputs = run({**{name: given[name] for name in _TOKEN_INPUTS if name in names}, CU_SEQLENS: bounds})
    return {name: _form(name, tuple(output.shape), output.dtype, lengths) for name, output in outputs.items()}


def _form(name: str, shape: tuple[int, ...], dtype: torch.dtype, lengths: Sequence[int]) -> OutputForm:
    if shape[:1] == (len(lengths),):
        return OutputForm(False, shape[1:], dtype)
    if shape[:2] == (1, sum(lengths)):
        return OutputForm(True, shape[2:], dtype)
    raise ArgumentError(
        f"output {name} is {list(shape)} for {len(lengths)} sequences of {sum(lengths)} tokens: it has neither a row "
        "for each sequence nor one for each token, so it cannot be cut out of a padded batch; ask for other outputs"
    )


class StaticOutputs:
    """A buffer for each of the outputs, of the largest bucket's size."""

    def __init__(self, forms: Mapping[str, OutputForm], buckets: Sequence[Bucket], device: torch.device):
        self.forms = dict(forms)
        self._flat = {
            name: torch.zeros(
                max((prod(form.shape(bucket.tokens, bucket.sequences)) for bucket in buckets), default=0),
                dtype=form.dtype,
                device=device,
            )
            for name, form in forms.items()
        }

    @property
    def size_bytes(self) -> int:
        """Bytes of the buffers."""
        return sum(flat.numel() * flat.element_size() for flat in self._flat.values())

    def views(self, tokens: int, sequences: int) -> dict[str, torch.Tensor]:
        """The outputs of a batch or bucket, by name, in the buffers."""
        views = {}
        for name, form in self.forms.items():
            shape = form.shape(tokens, sequences)
            views[name] = self._flat[name][: prod(shape)].view(shape)
        return views

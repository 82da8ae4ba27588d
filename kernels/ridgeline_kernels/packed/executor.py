"""A packed graph, loaded and ready to run on a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ridgeline_kernels.errors import ArgumentError, BackendError
from ridgeline_kernels.numerics import sum_in_float32
from ridgeline_kernels.packed.feeding import complete_feed, padded_outputs
from ridgeline_kernels.packed.folding import CPU, Constants
from ridgeline_kernels.packed.graph import Constant, Graph
from ridgeline_kernels.packed.planning import peak_bytes
from ridgeline_kernels.packed.program import BoundProgram, Program, make_program
from ridgeline_kernels.packed.reading import read_graph
from ridgeline_kernels.packed.seeding import seeded
from ridgeline_kernels.packed.tensors import forget_mapped_files


@dataclass(frozen=True, slots=True)
class _Loaded:
    graph: Graph
    program: Program
    bound: BoundProgram
    # On the device "meta", where tensors have shapes and no memory.
    planned: BoundProgram
    constants: Constants


class PackedModel:
    """A packed graph on a device, weights and all. `run` may be called by several threads at a time.

    On a GPU ops run the kernels, and a run waits for nothing: it can be captured as a CUDA graph. On the CPU ops run
    their references.
    """

    def __init__(self, loaded: _Loaded, device: torch.device):
        self._graph = loaded.graph
        self.program = loaded.program
        self._bound = loaded.bound
        self._planned = loaded.planned
        self._constants = loaded.constants
        self._peaks: dict[tuple[int, int], int] = {}
        self.device = device

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: torch.device | str = "cpu",
        *,
        outputs: Sequence[str] | None = None,
        seed: int | None = None,
    ) -> PackedModel:
        """Read, check and prepare a packed graph.

        path:    the ONNX file, or a directory with a model.onnx
        device:  "cpu", "cuda", "cuda:1"
        outputs: the graph's outputs to compute, all by default; what only others need is left out
        seed:    where a file of weights is missing, take random ones drawn from this seed: graphs travel without

        On a CUDA device cuBLAS accumulates in float32 from then on, in this whole process: see `sum_in_float32`.

        Raises GraphError, ArgumentError, BackendError.
        """
        place = _device(device)
        if place.type == "cuda":
            sum_in_float32()
        graph = read_graph(Path(path), allow_missing_weights=seed is not None)
        wanted = _wanted(graph, graph.outputs if outputs is None else outputs, str(path))
        constants = Constants(graph, graph.nodes, _read if seed is None else seeded(graph, seed))
        return cls(_load(graph, wanted, place, constants), place)

    def giving(self, outputs: Sequence[str]) -> PackedModel:
        """A model of other outputs of the same graph. It shares this one's weights, and runs of both may overlap.

        Raises ArgumentError, and GraphError when the graph's files are not there any more.
        """
        wanted = _wanted(self._graph, outputs, "the graph")
        return PackedModel(_load(self._graph, wanted, self.device, self._constants, like=self), self.device)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return tuple(self._graph.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `run` gives."""
        return tuple(self.program.outputs)

    @property
    def weights_bytes(self) -> int:
        """Of the constants on the device."""
        return self._bound.constants_bytes

    def planned_bytes(self, tokens: int, sequences: int) -> int:
        """The most bytes of activations that a run of so many tokens and sequences holds at a time, outputs included.

        What a kernel needs inside, and what the allocator rounds up to, come on top.
        """
        if (tokens, sequences) not in self._peaks:
            feed = {
                name: torch.empty(
                    sequences + 1 if name == "cu_seqlens" else (1, tokens), dtype=value.dtype, device="meta"
                )
                for name, value in self._graph.inputs.items()
            }
            self._peaks[tokens, sequences] = peak_bytes(self._planned, feed)
        return self._peaks[tokens, sequences]

    @torch.inference_mode()
    def run(self, feed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs of packed sequences, by name.

        feed: tensors of the model's device
            input_ids       [1, tokens], int32 or int64
            token_type_ids  the same, zeros if left out
            position_ids    the same, counted from 0 in each sequence if left out
            cu_seqlens      int32 [sequences + 1]: 0, …, the number of tokens
        Inputs that the graph does not have are left alone. Sequences may be empty. Tokens after the last of cu_seqlens
        are of no sequence: what outputs have for them is undefined, and nothing else is touched by them.
        returns tensors of the device, fp32, which are the caller's

        Raises ArgumentError, NodeError.
        """
        fed = complete_feed(feed, self._graph.inputs, self.device)
        outputs = self._bound.run(fed.tensors)
        return padded_outputs(outputs, self._graph.outputs, fed.spare_tokens) if fed.spare_tokens else outputs


def _read(name: str, constant: Constant) -> torch.Tensor:
    return constant.read()


def _wanted(graph: Graph, outputs: Iterable[str], path: str) -> list[str]:
    wanted = list(dict.fromkeys(outputs))
    for name in wanted:
        if name not in graph.outputs:
            raise ArgumentError(f"outputs has {name!r}; {path} has {', '.join(graph.outputs)}")
    if not wanted:
        raise ArgumentError(f"outputs is empty; {path} has {', '.join(graph.outputs)}")
    return wanted


def _load(
    graph: Graph,
    outputs: Sequence[str],
    device: torch.device,
    constants: Constants,
    like: PackedModel | None = None,
) -> _Loaded:
    """like: a model of the same graph and device, whose constants are taken"""
    try:
        program = make_program(graph, outputs, constants)
        bound = BoundProgram(program, device, constants, like._bound if like else None)
        planned = BoundProgram(program, torch.device("meta"), constants, like._planned if like else None)
    finally:
        forget_mapped_files()
    constants.forget()
    return _Loaded(graph, program, bound, planned, constants)


def _device(device: torch.device | str) -> torch.device:
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ArgumentError(f"device is {device!r}; it must be cpu, cuda or cuda:N") from None
    if place.type == "cpu":
        return CPU
    if place.type != "cuda":
        raise ArgumentError(f"device is {device!r}; it must be cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise BackendError(
            f"device is {device!r}, and torch sees no CUDA device here: use cpu, or install a CUDA build"
        )
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if place.index is None else place.index
    if index >= count:
        raise ArgumentError(f"device is {device!r}; there are {count}: cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)

"""What a pruned model may cost, and what it does: FLOPs, parameters or predicted latency, by ridgeline_estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ridgeline_estimate.architecture import Architecture, Layer
from ridgeline_estimate.counting import count_parameters, model_ops
from ridgeline_estimate.errors import EstimateError, ShapeError
from ridgeline_estimate.op import add_up
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.roofline import predict
from ridgeline_estimate.summary.machine import Machine, find_machine
from ridgeline_estimate.workload import Workload
from ridgeline_export.errors import UnsupportedModelError, UsageError, summary

Measure = Literal["flops", "parameters", "latency"]
UNITS = {"flops": "FLOPs", "parameters": "parameters", "latency": "predicted latency"}


@dataclass(frozen=True, slots=True)
class Widths:
    """What the layers have. heads: query heads of each; channels: of the feed-forward of each."""

    heads: tuple[int, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a cost is counted under.

    batch, tokens: sequences, and tokens of each
    device:        for latency: as `ridgeline estimate --device` names it
    dtype:         for latency: as `ridgeline estimate --dtype` names it
    """

    batch: int
    tokens: int
    device: str
    dtype: str


class Costs:
    """Costs of a model by the widths of its layers.

    widths: what the model has now
    total:  what it costs now
    """

    def __init__(self, model: Any, task: str, widths: Widths, measure: Measure, conditions: Conditions) -> None:
        """Raises UsageError when the conditions are impossible, UnsupportedModelError when it cannot be counted."""
        self.widths = widths
        self._measure = measure
        self._precision = PRECISIONS[conditions.dtype]
        self._architecture = _architecture(model, task)
        self._owners = _owners(self._architecture, len(widths.heads))
        self._dividers = [
            _per_key_head(self._layers[self._owners.index(number)]) for number in range(len(widths.heads))
        ]
        most = self._architecture.max_positions
        if most is not None and conditions.tokens > most:
            raise UsageError(
                f"costs are to be counted at {conditions.tokens} tokens, but the model has {most} positions; give a "
                "smaller number of tokens"
            )
        try:
            self._workload = Workload(conditions.batch, conditions.tokens)
            self._machine = _machine(conditions) if measure == "latency" else None
            self.total = self.of(widths)
        except EstimateError as error:
            raise UsageError(f"the {UNITS[measure]} cannot be told: {summary(error, 400)}") from error

    def of(self, widths: Widths) -> float:
        """The cost of the model with layers of other widths."""
        architecture = self._with(widths)
        if self._measure == "parameters":
            return float(count_parameters(architecture))
        machine = self._machine
        # Efficiencies of a measured machine were fitted to runs that were counted with scores in memory.
        in_memory = machine is None or machine.is_calibrated
        ops = model_ops(architecture, self._workload, self._precision, materializes_scores=in_memory)
        if machine is None:
            return add_up(ops).flops
        return predict(ops, machine.device, machine.efficiency).seconds

    def of_layers(self, numbers: Sequence[int], heads: int, channels: int) -> float:
        """The cost of the model with other widths of some layers, the others being as they are."""
        chosen = set(numbers)
        return self.of(
            Widths(
                tuple(heads if number in chosen else now for number, now in enumerate(self.widths.heads)),
                tuple(channels if number in chosen else now for number, now in enumerate(self.widths.channels)),
            )
        )

    def kind_of_layer(self, number: int) -> Layer:
        """What the layer is made of but for its widths: equal kinds cost alike."""
        layer = self._layers[self._owners.index(number)]
        assert layer.attention is not None and layer.feed_forward is not None
        attention = replace(layer.attention, heads=1, kv_heads=1, position_bias_parameters=0)
        return replace(
            layer,
            attention=attention,
            feed_forward=replace(layer.feed_forward, width=1),
            shares_weights_with=self._owners.count(number),
        )

    @property
    def source(self) -> str | None:
        """For latency, a sentence on where the device's figures come from."""
        return None if self._machine is None else self._machine.source

    @property
    def _layers(self) -> tuple[Layer, ...]:
        assert self._architecture.encoder is not None
        return self._architecture.encoder.layers

    def _with(self, widths: Widths) -> Architecture:
        stack = self._architecture.encoder
        assert stack is not None
        layers = []
        for layer, owner in zip(stack.layers, self._owners, strict=True):
            assert layer.attention is not None and layer.feed_forward is not None
            heads = widths.heads[owner]
            attention = replace(layer.attention, heads=heads, kv_heads=max(heads // self._dividers[owner], 1))
            feed_forward = replace(layer.feed_forward, width=widths.channels[owner])
            layers.append(replace(layer, attention=attention, feed_forward=feed_forward))
        return replace(self._architecture, encoder=replace(stack, layers=tuple(layers)))


def _machine(conditions: Conditions) -> Machine:
    found = find_machine(conditions.device, conditions.dtype)
    if isinstance(found, Machine):
        return found
    raise UsageError(f"latency on the device '{conditions.device}' cannot be predicted: {found}")


def _architecture(model: Any, task: str) -> Architecture:
    try:
        architecture = read_architecture(model.config.to_dict(), task, is_complete=True, guesses=True)
    except ShapeError as error:
        raise UnsupportedModelError(f"the cost of this model cannot be counted: {summary(error)}") from error
    stack = architecture.encoder
    if stack is None or any(layer.attention is None or layer.feed_forward is None for layer in stack.layers):
        raise UnsupportedModelError(
            f"the cost of '{architecture.model_type}' models cannot be counted by heads and channels: not all of their "
            "layers have both attention and a feed-forward"
        )
    return architecture


def _owners(architecture: Architecture, layers: int) -> list[int]:
    """For each layer that runs, the number of the layer of weights that it is."""
    assert architecture.encoder is not None
    stack = architecture.encoder.layers
    if len(stack) == layers:
        return list(range(layers))
    owners = [
        number if layer.shares_weights_with is None else layer.shares_weights_with for number, layer in enumerate(stack)
    ]
    distinct = sorted(set(owners))
    if len(distinct) != layers:
        raise UnsupportedModelError(
            f"the model has {layers} layers, but its config describes {len(stack)}; its cost cannot be counted"
        )
    return [distinct.index(owner) for owner in owners]


def _per_key_head(layer: Layer) -> int:
    assert layer.attention is not None
    return max(layer.attention.heads // layer.attention.kv_heads, 1)

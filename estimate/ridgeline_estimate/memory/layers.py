"""One layer: attention, feed-forward, norms and residuals, in the order and with the variables of transformers."""

from __future__ import annotations

from ridgeline_estimate.architecture import Attention, FeedForward, Layer, Stack
from ridgeline_estimate.memory import operations as op
from ridgeline_estimate.memory.attention import Extras, Sequence, attend
from ridgeline_estimate.memory.setting import Setting
from ridgeline_estimate.memory.storage import Tensor


class LayerTrace:
    """Runs one layer of a stack."""

    def __init__(
        self,
        setting: Setting,
        stack: Stack,
        layer: Layer,
        name: str,
        sequence: Sequence,
        self_extras: Extras,
        cross_extras: Extras,
    ) -> None:
        self.setting = setting
        self.stack = stack
        self.layer = layer
        self.name = name
        self.sequence = sequence
        self.self_extras = self_extras
        self.cross_extras = cross_extras

    def run(self, x: Tensor, states: Tensor | None) -> Tensor:
        """The layer's output for x: [B, S, hidden]. states: of the encoder, for cross attention."""
        if self.layer.is_parallel:
            return self._run_parallel(x)
        # `_held` stands for local variables that transformers' layers do not use again, yet hold: `hidden, _ = …`.
        if self.layer.attention is not None:
            x, _held = self._attention(x, self.layer.attention, "attention", None)
        if self.layer.cross is not None and self.sequence.source:
            x, _held = self._attention(x, self.layer.cross, "cross", states)
        if self.layer.feed_forward is not None:
            x = self._feed_forward(x, self.layer.feed_forward)
        return x

    def _run_parallel(self, x: Tensor) -> Tensor:
        """Attention and feed-forward read the same norm, or one norm each of the same states."""
        tape, layer = self.setting.tape, self.layer
        assert layer.attention is not None and layer.feed_forward is not None
        normed = self._norm(x, "norm")
        first, scores = self._attend(normed, layer.attention, "attention", None)
        if layer.norms > 1:
            normed = self._norm(x, "feed_forward_norm")
        name = f"{self.name}.feed_forward"
        second, inner = feed_forward(self.setting, layer.feed_forward, normed, self.stack.hidden, name)
        del inner
        del scores
        return op.add(tape, op.add(tape, second, first), x)

    def _attention(
        self, x: Tensor, part: Attention, name: str, states: Tensor | None
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The states after attention and its residual; and what the layer goes on holding."""
        tape, placement = self.setting.tape, self.layer.norm_placement
        read = self._norm(x, f"{name}_norm") if placement in ("pre", "sandwich") else x
        given, scores = self._attend(read, part, name, states)
        del read
        if placement in ("output", "sandwich"):
            given = self._norm(given, f"{name}_output_norm")
        total = op.add(tape, given, x)
        held = [scores, given if self.setting.holds_attention_output else None]
        del given
        return (self._norm(total, f"{name}_norm") if placement == "post" else total), held

    def _attend(self, x: Tensor, part: Attention, name: str, states: Tensor | None) -> tuple[Tensor, Tensor | None]:
        extras = self.cross_extras if part.is_cross else self.self_extras
        return attend(self.setting, part, x, self.stack.hidden, f"{self.name}.{name}", self.sequence, extras, states)

    def _feed_forward(self, x: Tensor, part: FeedForward) -> Tensor:
        tape, placement = self.setting.tape, self.layer.norm_placement
        read = self._norm(x, "feed_forward_norm") if placement in ("pre", "sandwich") else x
        given, inner = feed_forward(self.setting, part, read, self.stack.hidden, f"{self.name}.feed_forward")
        if not self.setting.holds_inner:
            del inner
        del read
        if placement in ("output", "sandwich"):
            given = self._norm(given, "feed_forward_output_norm")
        total = op.add(tape, given, x)
        return self._norm(total, "feed_forward_norm") if placement == "post" else total

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return norm(self.setting, self.stack, x, f"{self.name}.{name}")


def norm(setting: Setting, stack: Stack, x: Tensor, name: str) -> Tensor:
    """A norm over the hidden size."""
    weights = setting.vector(name, stack.hidden * stack.norm_parameters)
    rows = x.elements / stack.hidden
    if setting.is_rms(stack.norm_parameters):
        return op.rms_norm(setting.tape, x, rows, weights)
    return op.layer_norm(setting.tape, x, rows, weights)


def feed_forward(
    setting: Setting, part: FeedForward, x: Tensor, hidden: int, name: str
) -> tuple[Tensor, Tensor | None]:
    """What the feed-forward gives for x: [rows, hidden], and its inner states."""
    if part.experts > 1:
        return _experts(setting, part, x, hidden, name), None
    return _dense(setting, part, x, hidden, part.width, name)


def _dense(
    setting: Setting, part: FeedForward, x: Tensor, hidden: int, width: int, name: str
) -> tuple[Tensor, Tensor | None]:
    tape, dropout = setting.tape, setting.architecture.dropout
    held: list[Tensor] = []
    if not part.is_gated:
        inner = op.linear(
            tape, x, width / hidden, setting.weights(f"{name}.inner", hidden * width, width * part.inner_bias)
        )
        inner = op.activation(tape, inner, setting.activation(part))
    elif setting.joins_gate:
        inner = _joined_gate(setting, part, x, hidden, width, name, held)
    else:
        inner = _gate(setting, part, x, hidden, width, name, held)
    inner = op.dropout(tape, inner, dropout.inner, setting.mask_size)
    weights = setting.weights(f"{name}.outer", hidden * width, hidden * part.outer_bias)
    result = op.linear(tape, inner, hidden / width, weights)
    del held
    return op.dropout(tape, result, dropout.hidden, setting.mask_size), inner


def _gate(
    setting: Setting, part: FeedForward, x: Tensor, hidden: int, width: int, name: str, held: list[Tensor]
) -> Tensor:
    tape = setting.tape

    def project(which: str) -> Tensor:
        return op.linear(
            tape, x, width / hidden, setting.weights(f"{name}.{which}", hidden * width, width * part.inner_bias)
        )

    first = op.activation(tape, project("gate"), setting.activation(part))
    second = project("inner")
    if setting.holds_gate:
        held += [first, second]
    return op.multiply(tape, first, second)


def _joined_gate(
    setting: Setting, part: FeedForward, x: Tensor, hidden: int, width: int, name: str, held: list[Tensor]
) -> Tensor:
    tape = setting.tape
    weights = setting.weights(f"{name}.inner", 2 * hidden * width, 2 * width * part.inner_bias)
    rows = x.elements / hidden
    first, second = op.split(tape, op.linear(tape, x, 2 * width / hidden, weights), [rows * width] * 2)
    held += [first, second]
    return op.multiply(tape, op.activation(tape, first, setting.activation(part)), second)


def _gated(setting: Setting, part: FeedForward, first: Tensor, second: Tensor) -> Tensor:
    tape = setting.tape
    if not setting.clamps_gate:
        return op.multiply(tape, op.activation(tape, first, setting.activation(part)), second)
    first, second = op.scale(tape, first), op.scale(tape, second)
    gate = op.multiply(tape, first, op.activation(tape, op.scale(tape, first), "sigmoid"))
    return op.multiply(tape, op.add_number(tape, second), gate)


def _experts(setting: Setting, part: FeedForward, x: Tensor, hidden: int, name: str) -> Tensor:
    """Experts as transformers' grouped matmuls run them: rows are copied once for each expert that they pick."""
    tape, chosen, width = setting.tape, part.experts_per_token, part.width
    router = op.linear(tape, x, part.experts / hidden, setting.weights(f"{name}.router", part.experts * hidden))
    rows = x.elements / hidden
    scores = op.softmax(tape, op.cast(tape, router, op.FLOAT32))
    shares = op.repeated(tape, scores, chosen / part.experts)
    picked = op.repeated(tape, x, chosen)
    inner = (1 + part.is_gated) * width
    count = part.experts
    weights = setting.weights(f"{name}.inner", count * hidden * inner, count * inner * part.inner_bias)
    wide = op.linear(tape, picked, inner / hidden, weights)
    # Biases are copied for each row.
    bias = tape.new(rows * chosen * inner, setting.size) if part.inner_bias else None
    if part.is_gated:
        first, second = op.split(tape, wide, [rows * chosen * width] * 2)
        wide = _gated(setting, part, first, second)
        del first, second
    else:
        wide = op.activation(tape, wide, setting.activation(part))
    del bias
    weights = setting.weights(f"{name}.outer", count * hidden * width, count * hidden * part.outer_bias)
    wide = op.linear(tape, wide, hidden / width, weights)
    weighted = op.multiply(tape, wide, shares)
    weighted = op.repeated(tape, weighted, 1)
    result = op.repeated(tape, weighted, 1 / chosen)
    if part.shared_width:
        del picked, wide, weighted
        shared, _inner = _dense(setting, part, x, hidden, part.shared_width, f"{name}.shared")
        del _inner
        result = op.add(tape, result, shared)
    return result

"""What the wiring of a graph tells: which part of the model a call is, its layer, and what is fused into what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from ridgeline_estimate.graph.model import Call, Value, Weight
from ridgeline_estimate.graph.naming import (
    is_activation,
    is_head,
    is_norm,
    is_router,
    layer_of,
    module_of,
    part_of_matmul,
)
from ridgeline_estimate.graph.ops.packed_attention import DISENTANGLED_TABLES
from ridgeline_estimate.graph.registry import RIDGELINE, Kind, find_handler

_PRODUCTS = frozenset({"matmul", "convolution", "attention"})
# What scores pass through on their way to the softmax, and probabilities on their way to the values.
_PASSING = frozenset({"elementwise", "movement", "view", "quantization", "activation"})
_FUSABLE = frozenset({"elementwise", "activation", "quantization"})
_NORM_OPS = frozenset({"Sub", "Pow", "Add", "Sqrt", "Reciprocal", "Div", "Mul", "Cast", "ReduceMean", "ReduceSum"})
_GATES = frozenset({"Erf", "Tanh", "Sigmoid", "Gelu", "Relu", "Swish", "HardSwish", "Mish"})
# Index of the residual among the inputs of the packed dialect's ops.
_RESIDUALS = {"AddNorm": 1, "Linear": 3, "QuantizedLinear": 5}
_REACH = 400  # calls looked at in one search


class Structure:
    """The calls of a graph, wired."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self._consumers: defaultdict[Value, list[Call]] = defaultdict(list)
        self._index = {call: index for index, call in enumerate(calls)}
        for call in calls:
            for value in call.activations:
                self._consumers[value].append(call)
        self._paths = self._find_paths()
        self._norms, self._activations = self._find_regions()
        self._parts: dict[Call, str] = {}
        self._origins: dict[Call, int] = {}
        self._find_parts()
        self._layers = self._find_layers()
        self._fused = self._find_fused()

    def path(self, call: Call) -> str:
        """Path of the module that it came from, "" when nothing tells."""
        return self._paths[call]

    def part(self, call: Call) -> str:
        """Part of the model: one of PARTS."""
        return self._parts[call]

    def layer(self, call: Call) -> int | None:
        """Its layer, None outside of layers or when nothing tells."""
        return self._layers[call]

    def is_fused(self, call: Call) -> bool:
        """Whether runtimes compute it inside of the call before it."""
        return call in self._fused

    def kind(self, call: Call) -> Kind:
        """What its op does to values."""
        entry = find_handler(call.node.domain, call.node.op_type)
        return entry.kind if entry else "unknown"

    def after(self, call: Call) -> list[Call]:
        """Calls that read what it gives."""
        return [reader for value in call.outputs if value is not None for reader in self._consumers[value]]

    def before(self, call: Call) -> list[Call]:
        """Calls that made what it reads, those of constants aside."""
        return [value.producer for value in call.activations if value.producer in self._index]

    def _find_paths(self) -> dict[Call, str]:
        """The node's own path, else that of a weight that it reads, else that of the call that takes its result on."""
        uses = Counter(weight for call in self.calls for value in call.static_inputs for weight in value.weights)
        paths = {call: call.node.path or _weights_path(call, uses) for call in self.calls}
        for call in reversed(self.calls):
            readers = self.after(call)
            if not paths[call] and len(readers) == 1 and self.kind(readers[0]) in _PASSING:
                paths[call] = paths[readers[0]]
        return paths

    def _search(self, start: Call, step: Callable[[Call], list[Call]]) -> Iterator[Call]:
        """Calls that are reached through ops which scores pass through; the first others of each way included."""
        seen, front = {start}, step(start)
        while front and len(seen) < _REACH:
            call = front.pop()
            if call in seen:
                continue
            seen.add(call)
            yield call
            if self.kind(call) in _PASSING:
                front.extend(step(call))

    def _leads_to_softmax(self, call: Call) -> bool:
        return any(self._is_attention_softmax(found) for found in self._search(call, self.after))

    def _leads_to_tables(self, call: Call) -> bool:
        """To what a DisentangledAttention adds to its scores, and not to its queries, keys or values."""
        for found in self._search(call, self.after):
            if found.node.op_type == "DisentangledAttention":
                tables = [found.optional(index) for index in DISENTANGLED_TABLES]
                makers = [value.producer for value in tables if value is not None and value.producer in self._index]
                if call in makers or any(call in self._search(maker, self.before) for maker in makers if maker):
                    return True
        return False

    def _comes_from_softmax(self, call: Call) -> bool:
        return any(self._is_attention_softmax(found) for found in self._search(call, self.before))

    def _is_attention_softmax(self, call: Call) -> bool:
        return self.kind(call) == "softmax" and not self._is_router_softmax(call)

    def _is_router_softmax(self, call: Call) -> bool:
        return is_router(self.path(call)) or any(
            found.node.op_type == "TopK" for found in (*self.after(call), *self.before(call))
        )

    def _find_regions(self) -> tuple[dict[Call, bool], set[Call]]:
        """Calls of norms and activations that an exporter wrote out; of norms, whether each is the first of its own."""
        norms: dict[Call, bool] = {}
        activations: set[Call] = set()
        for call in self.calls:
            if is_norm(self.path(call)) and self.kind(call) in ("elementwise", "reduce", "movement"):
                norms[call] = not any(before in norms for before in self.before(call))
            elif call.node.op_type == "ReduceMean" and call not in norms:
                self._spread_norm(call, norms)
        for call in self.calls:
            if call in norms:
                continue
            if is_activation(self.path(call)) and self.kind(call) in _FUSABLE:
                activations.add(call)
            elif call.node.op_type in _GATES:
                self._spread_activation(call, activations)
        return norms, activations

    def _spread_norm(self, mean: Call, norms: dict[Call, bool]) -> None:
        squares = [call for call in self.before(mean) if call.node.op_type in ("Pow", "Mul")]
        first = squares[0] if squares else mean
        region, front = {first, mean}, self.after(mean)
        roots = [call for call in self._search(mean, self.after) if call.node.op_type in ("Sqrt", "Rsqrt")]
        if not roots:
            return
        while front:
            call = front.pop()
            inside = call.node.op_type in _NORM_OPS and call not in region
            # What the region adds to anything but a weight is the next residual.
            if inside and (call.static_inputs or any(before in region for before in self.before(call))):
                is_residual = call.node.op_type == "Add" and not call.static_inputs
                if not is_residual:
                    region.add(call)
                    front += self.after(call)
        for call in region:
            norms.setdefault(call, call is first)

    def _spread_activation(self, gate: Call, activations: set[Call]) -> None:
        """Back over products with constants, on over additions of constants and products."""
        activations.add(gate)
        front = self.before(gate)
        while front:
            call = front.pop()
            if call.node.op_type in ("Div", "Mul", "Pow", "Add", "Cast") and _is_scalar_step(call):
                activations.add(call)
                front += self.before(call)
        front = self.after(gate)
        while front:
            call = front.pop()
            scaled = call.node.op_type in ("Add", "Mul", "Cast") and _is_scalar_step(call)
            if scaled or (call.node.op_type == "Mul" and not call.static_inputs):
                activations.add(call)
                if scaled:
                    front += self.after(call)

    def _find_parts(self) -> None:
        last_attention = self._last_attention()
        # What a call hands on to the calls after it: quantizing changes a value's format, not where it belongs.
        inherited: dict[Call, str] = {}
        for index, call in enumerate(self.calls):
            part = self._own_part(call, index > last_attention)
            origin = index if self.kind(call) in _PRODUCTS else -1
            before = [found for found in self.before(call) if found in self._parts]
            latest = max(before, key=lambda found: self._origins[found], default=None)
            # Biases, residuals, scales and masks belong to the product whose result they change.
            taken = inherited[latest] if latest is not None else "other"
            part = part or taken
            inherited[call] = taken if part == "quantization" else part
            if origin < 0 and latest is not None:
                origin = self._origins[latest]
            self._parts[call], self._origins[call] = part, origin

    def _own_part(self, call: Call, is_late: bool) -> str | None:
        """Part of a call that does not take it over from the call before."""
        kind, path = self.kind(call), self.path(call)
        if kind == "convolution":
            return "convolution"
        if kind == "softmax":
            return "router" if self._is_router_softmax(call) else "softmax"
        if kind in ("matmul", "attention"):
            return self._product_part(call, is_late)
        if kind == "quantization" or self._prepares_quantization(call):
            return "quantization"
        if call.node.op_type == "Pool" or (is_head(path) and kind != "view"):
            return "head"
        if kind == "norm" or call in self._norms:
            return "norms"
        if call in self._activations or kind == "activation":
            return "activations"
        if kind == "lookup" and call.input(0).is_static:
            return "embeddings"
        return None

    def _prepares_quantization(self, call: Call) -> bool:
        """A product with a vector right before quantization, as SmoothQuant puts it in, or of scales alone."""
        is_scaling = call.node.op_type == "Mul" and len(call.activations) == 1 and bool(call.static_inputs)
        readers, makers = self.after(call), self.before(call)
        if not is_scaling or is_norm(self.path(call)):
            return False
        is_smoothing = bool(readers) and all(self.kind(found) == "quantization" for found in readers)
        is_scale = bool(makers) and all(self.kind(found) == "quantization" for found in makers)
        return is_scale or (is_smoothing and not self.path(call))

    def _product_part(self, call: Call, is_late: bool) -> str:
        path = self.path(call)
        if self._is_product_of_activations(call):
            if self._comes_from_softmax(call):
                return "attention_values"
            if self._leads_to_softmax(call):
                return "attention_scores"
            return part_of_matmul(path) or "other"
        if (self._leads_to_softmax(call) or self._leads_to_tables(call)) and part_of_matmul(path) != "head":
            # A product with a table of relative positions that was folded.
            return "attention_scores"
        named = part_of_matmul(path)
        if named is None and self._meets_attention(call):
            named = "projections"
        if named is None and any(self._is_router_softmax(found) for found in self._search(call, self.after)):
            named = "router"
        return named or self._part_by_place(call, is_late)

    def _is_product_of_activations(self, call: Call) -> bool:
        """Both operands are computed, whatever else (scales, zero points) is constant."""
        if call.node.op_type.startswith("QLinear"):
            operands = (call.optional(0), call.optional(3))
        elif call.node.op_type == "QuantizedLinear":
            operands = (call.optional(0), call.optional(2))
        else:
            operands = (call.optional(0), call.optional(1))
        return all(value is not None and not value.is_static for value in operands)

    def _meets_attention(self, call: Call) -> bool:
        """Its result goes into an attention, or comes from one."""
        for step in (self.after, self.before):
            for found in self._search(call, step):
                if self.kind(found) == "attention":
                    return True
                if self.kind(found) == "matmul" and self._is_product_of_activations(found):
                    return True
        return False

    def _part_by_place(self, call: Call, is_late: bool) -> str:
        """Before the first attention: embeddings. After the last: feed-forward up to the last residual, then head."""
        index = self._index[call]
        first = next((place for place, found in enumerate(self.calls) if self._is_attention(found)), None)
        if first is None:
            return "other"
        if index < first:
            return "embeddings"
        if is_late and not any(self._is_residual(found) for found in self.calls[index:]):
            return "head"
        return "feed_forward"

    def _is_residual(self, call: Call) -> bool:
        if call.node.op_type.startswith("Skip"):
            return True
        if call.node.domain == RIDGELINE:
            return call.optional(_RESIDUALS.get(call.node.op_type, len(call.inputs))) is not None
        shapes = [value.shape for value in call.activations]
        return call.node.op_type == "Add" and len(shapes) == 2 and shapes[0] == shapes[1] and len(shapes[0] or ()) == 3

    def _is_attention(self, call: Call) -> bool:
        return self.kind(call) == "attention" or self._is_attention_softmax(call)

    def _last_attention(self) -> int:
        return max((index for index, call in enumerate(self.calls) if self._is_attention(call)), default=-1)

    def _find_layers(self) -> dict[Call, int | None]:
        """By the path; else that of the call before it, or of the call after it."""
        layers = {call: layer_of(self.path(call)) for call in self.calls}
        for call in self.calls:
            if layers[call] is None and not self.path(call) and self._parts[call] != "head":
                known = [layers[before] for before in self.before(call) if layers[before] is not None]
                layers[call] = max((layer for layer in known if layer is not None), default=None)
        return layers

    def _find_fused(self) -> set[Call]:
        """Cheap element-wise calls right after a product, and the later calls of a norm that was written out."""
        fused: set[Call] = {call for call, is_first in self._norms.items() if not is_first}
        heads: set[Call] = set()  # products, and views of their results
        for call in self.calls:
            kind = self.kind(call)
            before = self.before(call)
            if kind in _PRODUCTS or (kind == "view" and any(found in heads or found in fused for found in before)):
                heads.add(call)
            elif (kind in _FUSABLE or call.node.op_type == "Cast") and call not in self._norms:
                sources = [found for found in before if found in heads or (found in fused and found not in self._norms)]
                if any(self._only_feeds_fusable(found) for found in sources):
                    fused.add(call)
        return fused

    def _only_feeds_fusable(self, call: Call) -> bool:
        return all(self.kind(found) in _FUSABLE or found.node.op_type == "Cast" for found in self.after(call))


def _weights_path(call: Call, uses: Counter[Weight]) -> str:
    """Path of the module whose weights it alone reads: exporters merge weights that are equal."""
    for value in call.static_inputs:
        for weight in value.weights:
            if uses[weight] == 1 and (path := module_of(weight.name)):
                return path
    return ""


def _is_scalar_step(call: Call) -> bool:
    """All but one of its operands are scalars, or it has one operand."""
    return len(call.activations) == 1 and all(value.shape in ((), (1,)) for value in call.static_inputs)

"""The encoders that calibration times. `python tests/server/encoder_graphs.py` writes them where the server reads them.

Node by node what `ridgeline export` writes for BERT and ModernBERT: in fp32 and fp16, and in int8 as NNCF quantizes
(static: quantize and dequantize around matmuls, scales of SmoothQuant) and as ONNX Runtime does (dynamic).
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from ridgeline_server.runtimes.encoders import ENCODERS, GRAPHS, POSITIONS, VOCABULARY, Encoder


class EncoderGraph:
    """Nodes of one encoder in one precision."""

    def __init__(self, encoder: Encoder, precision: str) -> None:
        self.encoder = encoder
        self.precision = precision
        self.float = np.float16 if precision == "fp16" else np.float32
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        # What is quantized while it runs, by the name of the states: several matmuls share it.
        self.dynamic: dict[str, list[str]] = {}
        self.shapes: dict[str, list[str | int]] = {}
        self.count = self.fills = 0

    def build(self) -> ModelProto:
        """The whole model: input_ids, attention_mask [batch, sequence] int64 → last_hidden_state, float."""
        encoder = self.encoder
        self.batch = self.add("Shape", "input_ids", start=0, end=1)
        self.sequence = self.add("Shape", "input_ids", start=1, end=2)
        self.mask = self.masked()
        table = self.filled((VOCABULARY, encoder.hidden), 0.02)
        if self.precision == "int8":
            table = self.dequantized_weight((VOCABULARY, encoder.hidden), axis=0)
        states = self.add("Gather", table, "input_ids")
        if encoder.is_gated:
            self.cos, self.sin = (self.rotation(function) for function in ("Cos", "Sin"))
        else:
            positions = self.filled((POSITIONS, encoder.hidden), 0.02)
            zero, axis = self.integers([0]), self.integers([0])
            read = self.add("Slice", positions, zero, self.sequence, axis)
            self.shapes[read] = ["sequence", encoder.hidden]
            states = self.add("Add", states, read)
        states = self.norm(states)
        layer = self.gated_layer if encoder.is_gated else self.layer
        for _ in range(encoder.layers):
            states = layer(states)
        if encoder.is_gated:
            states = self.norm(states)
        self.nodes.append(helper.make_node("Identity", [states], ["last_hidden_state"]))
        return self.model()

    def model(self) -> ModelProto:
        """The nodes as a checked model."""
        element = helper.np_dtype_to_tensor_dtype(np.dtype(self.float))
        axes = ["batch", "sequence"]
        names = ("input_ids", "attention_mask")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in names]
        outputs = [helper.make_tensor_value_info("last_hidden_state", element, [*axes, self.encoder.hidden])]
        # Fusions need shapes, which runtimes do not find by themselves behind a Reshape.
        known = [helper.make_tensor_value_info(name, element, shape) for name, shape in self.shapes.items()]
        constants = list(self.constants.values())
        graph = helper.make_graph(self.nodes, self.encoder.name, inputs, outputs, constants, value_info=known)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        checker.check_model(model)
        return model

    def layer(self, states: str) -> str:
        """Attention and feed-forward of BERT, a norm after each."""
        hidden, ffn = self.encoder.hidden, self.encoder.ffn
        given = self.quantized(states)
        query, key, value = (self.linear(given, hidden, hidden) for _ in range(3))
        attended = self.attention(*(self.heads(self.rounded(part)) for part in (query, key)), self.heads(value))
        added = self.add("Add", self.linear(self.quantized(attended), hidden, hidden), states)
        states = self.norm(added)
        inner = self.gelu(self.linear(self.quantized(states), hidden, ffn))
        return self.norm(self.add("Add", self.linear(self.quantized(inner, ffn), ffn, hidden), states))

    def gated_layer(self, states: str) -> str:
        """Attention and gated feed-forward of ModernBERT, a norm before each."""
        hidden, ffn, heads = self.encoder.hidden, self.encoder.ffn, self.encoder.heads
        joint = self.linear(self.quantized(self.norm(states)), hidden, 3 * hidden)
        sizes = self.integers([3, heads, hidden // heads])
        split = self.add("Reshape", joint, self.add("Concat", self.batch, self.sequence, sizes, axis=0))
        query, key, value = (self.third(split, index) for index in range(3))
        query, key = (self.rounded(self.rotated(part)) for part in (query, key))
        attended = self.quantized(self.attention(query, key, value))
        states = self.add("Add", states, self.linear(attended, hidden, hidden))
        joint = self.linear(self.quantized(self.norm(states)), hidden, 2 * ffn)
        inner, gate = self.name(), self.name()
        self.nodes.append(helper.make_node("Split", [joint], [inner, gate], axis=-1, num_outputs=2))
        product = self.quantized(self.add("Mul", self.gelu(inner), gate), ffn)
        return self.add("Add", states, self.linear(product, ffn, hidden))

    def third(self, split: str, index: int) -> str:
        """Query, key or value [batch, heads, sequence, head_dim] of [batch, sequence, 3, heads, head_dim]."""
        ends = (self.integers([index]), self.integers([index + 1]), self.integers([2]))
        return self.add("Transpose", self.add("Squeeze", self.add("Slice", split, *ends), ends[2]), perm=[0, 2, 1, 3])

    def heads(self, states: str) -> str:
        """[batch, heads, sequence, head_dim] of [batch, sequence, hidden]."""
        sizes = self.integers([self.encoder.heads, self.encoder.hidden // self.encoder.heads])
        shape = self.add("Concat", self.batch, self.sequence, sizes, axis=0)
        return self.add("Transpose", self.add("Reshape", states, shape), perm=[0, 2, 1, 3])

    def rotated(self, heads: str) -> str:
        """Queries or keys, rotated by their positions."""
        half = self.encoder.hidden // self.encoder.heads // 2
        zero, middle, end, axis = (self.integers([value]) for value in (0, half, 2 * half, 3))
        first = self.add("Slice", heads, zero, middle, axis)
        second = self.add("Neg", self.add("Slice", heads, middle, end, axis))
        turned = self.add("Mul", self.add("Concat", second, first, axis=-1), self.sin)
        return self.add("Add", self.add("Mul", heads, self.cos), turned)

    def rotation(self, function: str) -> str:
        """[1, 1, sequence, head_dim]: the function of each position's angles."""
        half = self.encoder.hidden // self.encoder.heads // 2
        end = self.add("Squeeze", self.sequence, self.integers([0]))
        numbers = self.add("Range", self.scalar(0, np.int64), end, self.scalar(1, np.int64))
        positions = self.add("Unsqueeze", self.add("Cast", numbers, to=self.element), self.integers([0, 1, 3]))
        angles = self.add("Mul", positions, self.constant(np.geomspace(1, 1e-4, half).astype(self.float)))
        return self.add(function, self.add("Concat", angles, angles, axis=-1))

    def attention(self, query: str, key: str, value: str) -> str:
        """softmax(q · kᵀ · scale + mask) · v, as [batch, sequence, hidden]."""
        dim = self.encoder.hidden // self.encoder.heads
        scores = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.add("Add", self.add("Mul", scores, self.scalar(dim**-0.5)), self.mask)
        values = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        shape = self.add("Concat", self.batch, self.sequence, self.integers([self.encoder.hidden]), axis=0)
        joined = self.add("Reshape", self.add("Transpose", values, perm=[0, 2, 1, 3]), shape)
        self.shapes[joined] = ["batch", "sequence", self.encoder.hidden]
        return joined

    def masked(self) -> str:
        """[batch, 1, sequence, sequence]: 0 where a token may look, else a large negative number."""
        real = self.add("Unsqueeze", self.add("Cast", "attention_mask", to=TensorProto.BOOL), self.integers([1, 2]))
        one = self.integers([1])
        shape = self.add("Concat", self.batch, one, self.sequence, self.sequence, axis=0)
        return self.add("Where", self.add("Expand", real, shape), self.scalar(0.0), self.scalar(-1e4))

    def norm(self, states: str) -> str:
        """A norm over the hidden size; ModernBERT's has no bias."""
        vectors = [self.filled((self.encoder.hidden,), 1.0)]
        if not self.encoder.is_gated:
            vectors.append(self.filled((self.encoder.hidden,), 0.1))
        return self.add("LayerNormalization", states, *vectors, axis=-1, epsilon=1e-5)

    def gelu(self, states: str) -> str:
        """x · (1 + erf(x / √2)) / 2."""
        erf = self.add("Add", self.add("Erf", self.add("Div", states, self.scalar(2**0.5))), self.scalar(1.0))
        return self.add("Mul", states, self.add("Mul", self.scalar(0.5), erf))

    def linear(self, states: str, inputs: int, outputs: int) -> str:
        """A matmul with weights and, in BERT, its bias."""
        shape = (inputs, outputs)
        if self.precision == "int8-dynamic":
            product = self.dynamic_product(states, shape)
        else:
            weight = self.dequantized_weight(shape) if self.precision == "int8" else self.filled(shape, 0.02)
            product = self.add("MatMul", states, weight)
        return product if self.encoder.is_gated else self.add("Add", product, self.filled((outputs,), 0.1))

    def dynamic_product(self, states: str, shape: tuple[int, int]) -> str:
        """states · W in integers, scales taken from the states of each run."""
        if states not in self.dynamic:
            outputs = [self.name() for _ in range(3)]
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [states], outputs))
            self.dynamic[states] = outputs
        integers, scale, zero = self.dynamic[states]
        weight = self.filled(shape, 3, np.int8)
        weight_zero = self.filled(shape[1:], 0, np.int8)
        product = self.add("Cast", self.add("MatMulInteger", integers, weight, zero, weight_zero), to=self.element)
        return self.add("Mul", product, self.add("Mul", scale, self.filled(shape[1:], 0.01)))

    def quantized(self, states: str, width: int | None = None) -> str:
        """What a static int8 matmul takes: states, scaled channel by channel, rounded to 8 bits."""
        if self.precision != "int8":
            return states
        return self.rounded(self.add("Mul", states, self.filled((width or self.encoder.hidden,), 0.9)))

    def rounded(self, states: str) -> str:
        """The same, rounded to 8 bits in static int8."""
        if self.precision != "int8":
            return states
        parameters = (self.scalar(0.05), self.scalar(0, np.int8))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", states, *parameters), *parameters)

    def dequantized_weight(self, shape: tuple[int, int], axis: int = 1) -> str:
        """An int8 matrix with a scale for each channel."""
        channels = (shape[axis],)
        parameters = (self.filled(channels, 0.01), self.filled(channels, 0, np.int8))
        return self.add("DequantizeLinear", self.filled(shape, 3, np.int8), *parameters, axis=axis)

    def filled(self, shape: tuple[int, ...], value: float, dtype: type | None = None) -> str:
        """A constant of one value, which runtimes make when they load the graph, in a few bytes of file."""
        if value:
            # Equal constants would make the projections equal, and runtimes compute equal operations once.
            self.fills += 1
            value = value * (1.0 + self.fills / 1000) if dtype is None else 1 + self.fills % 100
        fill = numpy_helper.from_array(np.array([value], dtype or self.float))
        return self.add("ConstantOfShape", self.integers(list(shape)), value=fill)

    def scalar(self, value: float, dtype: type | None = None) -> str:
        return self.constant(np.array(value, dtype or self.float))

    def integers(self, values: list[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, array: np.ndarray) -> str:
        name = f"c{array.dtype}{list(np.atleast_1d(array)[:3])}{array.shape}".replace(" ", "")
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """A node of one output; returns the output's name."""
        name = self.name()
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    @property
    def element(self) -> int:
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(self.float)))


FILES = [(encoder, precision) for encoder in ENCODERS for precision in GRAPHS]

if __name__ == "__main__":
    for encoder, precision in FILES:
        encoder.graph(precision).write_bytes(EncoderGraph(encoder, precision).build().SerializeToString())

"""Matrix products: 2·M·N·K each, as torch's FlopCounterMode counts."""

from __future__ import annotations

from math import prod

from ridgeline_estimate.graph.model import FLOAT, SMALL, Call, Shape, UnknownShape, Value, broadcast
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, Outputs, handles, shapes

# MatMulNBits' accuracy_level: what its activations are turned into (ONNX Runtime, ContribOperators.md).
_ACCURACY_DTYPES = {1: "fp32", 2: "fp16", 3: "bf16", 4: "int8"}


def product_shape(left: Shape, right: Shape) -> Shape:
    """Shape of a numpy matmul. Raises UnknownShape when they do not fit."""
    rows = left if len(left) > 1 else (1, *left)
    columns = right if len(right) > 1 else (*right, 1)
    if not left or not right or rows[-1] != columns[-2]:
        raise UnknownShape(f"{left} times {right}")
    batch = broadcast(rows[:-2], columns[:-2])
    return (*batch, *rows[-2:-1][: len(left) - 1], *columns[-1:][: len(right) - 1])


def product_flops(left: Shape, right: Shape) -> float:
    """FLOPs of a numpy matmul."""
    return 2.0 * prod(product_shape(left, right)) * left[-1]


def transposed(shape: Shape, swap: bool, swap_batch: bool = False) -> Shape:
    """A matmul's operand as it is multiplied. swap_batch: the first axis stands before the last one (transBatchA)."""
    if swap_batch and len(shape) > 2:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if swap and len(shape) > 1 else shape


def matmul_dtype(left: Value, right: Value, output: Value) -> str:
    """Format that a product runs in: integers when both operands are, else that of the result."""
    if left.stored in SMALL and right.stored in SMALL:
        return "fp8" if "fp8" in (left.stored, right.stored) else "int8"
    return left.format if left.format != "int32" else output.format


def activation_flops(call: Call, elements: float) -> float:
    """FLOPs of the activation that is fused into a node, named by its attribute."""
    from ridgeline_estimate.graph.ops.elementwise import FLOPS

    return elements * FLOPS.get(str(call.attribute("activation", "")), 0)


@handles("MatMul", "MatMulInteger", kind="matmul")
def matmul(call: Call) -> Cost:
    left, right = call.input(0), call.input(1)
    return Cost(
        matmul_flops=product_flops(left.known_shape, right.known_shape),
        dtype=matmul_dtype(left, right, call.output),
        owned=(0, 1),
    )


@handles("Gemm", kind="matmul")
@handles("GemmFloat8", "FusedGemm", kind="matmul", domain=MICROSOFT)
def gemm(call: Call) -> Cost:
    left, right = call.input(0), call.input(1)
    rows = transposed(left.known_shape, bool(call.attribute("transA", 0)))
    columns = transposed(right.known_shape, bool(call.attribute("transB", 0)))
    elements = prod(product_shape(rows, columns))
    bias = elements if call.optional(2) is not None else 0
    return Cost(
        matmul_flops=product_flops(rows, columns),
        other_flops=bias + activation_flops(call, elements),
        dtype=matmul_dtype(left, right, call.output),
    )


@shapes("FusedGemm", "GemmFloat8")
def gemm_shape(call: Call) -> Outputs:
    rows = transposed(call.shape(0), bool(call.attribute("transA", 0)))
    columns = transposed(call.shape(1), bool(call.attribute("transB", 0)))
    return [(call.input(0).element_type, product_shape(rows, columns))]


def _fused_operands(call: Call) -> tuple[Shape, Shape]:
    left = transposed(call.shape(0), bool(call.attribute("transA", 0)), bool(call.attribute("transBatchA", 0)))
    right = transposed(call.shape(1), bool(call.attribute("transB", 0)), bool(call.attribute("transBatchB", 0)))
    return left, right


@handles("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", kind="matmul", domain=MICROSOFT)
def fused_matmul(call: Call) -> Cost:
    left, right = _fused_operands(call)
    elements = prod(product_shape(left, right))
    scale = elements if call.attribute("alpha", 1.0) != 1.0 else 0
    return Cost(
        matmul_flops=product_flops(left, right),
        other_flops=scale + activation_flops(call, elements),
        dtype=matmul_dtype(call.input(0), call.input(1), call.output),
    )


@shapes("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation")
def fused_matmul_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, product_shape(*_fused_operands(call)))]


@handles("MatMulNBits", "MatMulBnb4", kind="matmul", domain=MICROSOFT)
def matmul_n_bits(call: Call) -> Cost:
    """Weights lie packed in uint8 blocks with a scale each; K and N are attributes."""
    inner, outer = int(call.attribute("K")), int(call.attribute("N"))
    rows = call.input(0).elements / inner
    default = call.input(0).format
    bias = call.optional(5) if call.node.op_type == "MatMulNBits" else None
    return Cost(
        matmul_flops=2.0 * rows * inner * outer,
        other_flops=rows * outer if bias is not None else 0.0,
        dtype=_ACCURACY_DTYPES.get(int(call.attribute("accuracy_level", 0)), default),
        parameters=inner * outer + (outer if bias is not None else 0),
    )


@shapes("MatMulNBits", "MatMulBnb4")
def matmul_n_bits_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, (*call.shape(0)[:-1], int(call.attribute("N"))))]


@handles("QLinearMatMul", kind="matmul")
@handles("QLinearMatMul", kind="matmul", domain=MICROSOFT)
def qlinear_matmul(call: Call) -> Cost:
    """a, its scale and zero point, b, its scale and zero point, those of the result: which is scaled and rounded."""
    left, right = call.input(0), call.input(3)
    elements = prod(product_shape(left.known_shape, right.known_shape))
    return Cost(
        matmul_flops=product_flops(left.known_shape, right.known_shape),
        other_flops=2.0 * elements,
        dtype="int8",
        owned=(0, 3),
    )


@handles("QGemm", kind="matmul", domain=MICROSOFT)
def qgemm(call: Call) -> Cost:
    rows, columns = _qgemm_operands(call)
    elements = prod(product_shape(rows, columns))
    bias = elements if call.optional(6) is not None else 0
    return Cost(
        matmul_flops=product_flops(rows, columns), other_flops=bias + 2.0 * elements, dtype="int8", owned=(3, 6)
    )


@shapes("QGemm")
def qgemm_shape(call: Call) -> Outputs:
    zero_point = call.optional(8)
    element_type = zero_point.element_type if zero_point is not None else FLOAT
    return [(element_type, product_shape(*_qgemm_operands(call)))]


def _qgemm_operands(call: Call) -> tuple[Shape, Shape]:
    rows = transposed(call.shape(0), bool(call.attribute("transA", 0)))
    return rows, transposed(call.shape(3), bool(call.attribute("transB", 0)))


@handles("MatMulIntegerToFloat", kind="matmul", domain=MICROSOFT)
def matmul_integer_to_float(call: Call) -> Cost:
    """The integer product, times both scales, plus a bias."""
    elements = prod(product_shape(call.shape(0), call.shape(1)))
    bias = elements if call.optional(6) is not None else 0
    return Cost(
        matmul_flops=product_flops(call.shape(0), call.shape(1)),
        other_flops=float(elements + bias),
        dtype="int8",
        owned=(1, 6),
    )


@handles("DynamicQuantizeMatMul", kind="matmul", domain=MICROSOFT)
def dynamic_quantize_matmul(call: Call) -> Cost:
    """As above, after its first operand was quantized inside of the node."""
    from ridgeline_estimate.graph.ops.quantization import DYNAMIC_QUANTIZE_FLOPS

    elements = prod(product_shape(call.shape(0), call.shape(1)))
    bias = elements if call.optional(4) is not None else 0
    return Cost(
        matmul_flops=product_flops(call.shape(0), call.shape(1)),
        other_flops=float(elements + bias + DYNAMIC_QUANTIZE_FLOPS * call.input(0).elements),
        dtype="int8",
        owned=(1, 4),
    )


@shapes("MatMulIntegerToFloat", "DynamicQuantizeMatMul")
def float_product_shape(call: Call) -> Outputs:
    scale = call.optional(2)
    return [(scale.element_type if scale is not None else FLOAT, product_shape(call.shape(0), call.shape(1)))]


@handles("Einsum", kind="matmul")
def einsum(call: Call) -> Cost:
    """Operands are joined from left to right; a join that sums nothing is an element-wise product."""
    terms, result = _equation(call)
    sizes = {
        letter: size
        for index, term in enumerate(terms)
        for letter, size in zip(term, call.shape(index), strict=True)
        if size != 1 or len(terms) == 1
    }
    matmul_flops = other_flops = 0.0
    joined = terms[0]
    for index, term in enumerate(terms[1:], start=1):
        later = set(result).union(*terms[index + 1 :])
        letters = dict.fromkeys((*joined, *term))
        work = float(prod(sizes.get(letter, 1) for letter in letters))
        if all(letter in later for letter in letters):
            other_flops += work
        else:
            matmul_flops += 2.0 * work
        joined = [letter for letter in letters if letter in later]
    if len(terms) == 1 and set(terms[0]) - set(result):
        other_flops += call.input(0).elements
    dtype = matmul_dtype(call.input(0), call.input(len(terms) - 1), call.output)
    return Cost(matmul_flops=matmul_flops, other_flops=other_flops, dtype=dtype)


def _equation(call: Call) -> tuple[list[list[str]], list[str]]:
    """Letters of each operand and of the result; an ellipsis becomes letters of its own."""
    equation = str(call.attribute("equation")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    given = [(term, len(call.shape(index))) for index, term in enumerate(left.split(","))]
    spread = max((rank - len(term.replace("...", "")) for term, rank in given if "..." in term), default=0)
    terms = [_letters(term, rank) for term, rank in given]
    if arrow:
        return terms, _letters(right, len(right.replace("...", "")) + spread * ("..." in right))
    counts = [letter for term in terms for letter in term]
    single = sorted({letter for letter in counts if counts.count(letter) == 1 or letter.startswith(".")})
    return terms, single


def _letters(term: str, rank: int) -> list[str]:
    head, dots, tail = term.partition("...")
    count = rank - len(head) - len(tail)
    # Counted from the right, as broadcasting does.
    return [*head, *(f".{count - index}" for index in range(count if dots else 0)), *tail]

"""Operations as eager PyTorch runs them: what each allocates, what autograd saves for it, what its backward allocates.

Saved tensors follow PyTorch's derivatives.yaml: a matmul saves both factors, a product too, softmax and tanh their
result, GELU and SiLU their input, layer norm its input and two statistics per row, dropout its mask, a sum nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline_estimate.memory.storage import Gradients, Tape, Tensor

FLOAT32 = 4
_STATISTICS = 2  # a layer norm keeps the mean and the reciprocal deviation of each row


def linear(tape: Tape, x: Tensor, ratio: float, weights: Sequence[tuple[str, float]]) -> Tensor:
    """Multiply rows with a matrix of weights.

    ratio:   outputs / inputs
    weights: (name, bytes) of what gets a gradient
    """
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        found = tape.new(elements, size)
        for name, amount in weights:
            tape.ledger.add_gradient(name, amount)
        return [found]

    return tape.record(tape.new(elements * ratio, size), [x], [x], backward)


def lookup(tape: Tape, elements: float, size: float, weights: Sequence[tuple[str, float]]) -> Tensor:
    """Rows of a table."""

    def backward(gradient: Tensor) -> Gradients:
        for name, amount in weights:
            tape.ledger.add_gradient(name, amount)
        return []

    return tape.record(tape.new(elements, size), [], [], backward)


def add(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """Sum, of the size of the larger one."""
    larger = a if a.elements >= b.elements else b
    shares = [(tensor.elements, tensor.size) for tensor in (a, b)]

    def backward(gradient: Tensor) -> Gradients:
        return [
            Tensor(gradient.storage, gradient.elements, gradient.size)
            if elements == gradient.elements
            else tape.new(elements, size)
            for elements, size in shares
        ]

    return tape.record(tape.new(larger.elements, larger.size, larger.is_strided), [a, b], [], backward)


def multiply(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """Product of two tensors; the smaller one is repeated."""
    larger = a if a.elements >= b.elements else b
    shares = [(tensor.elements, tensor.size) for tensor in (a, b)]

    def backward(gradient: Tensor) -> Gradients:
        results: list[Tensor | None] = []
        for elements, size in shares:
            # A repeated factor's gradient is computed in full, then summed up.
            product = tape.new(gradient.elements, gradient.size)
            results.append(product if elements == gradient.elements else tape.new(elements, size))
            del product
        return results

    return tape.record(tape.new(larger.elements, larger.size, larger.is_strided), [a, b], [a, b], backward)


def scale(tape: Tape, x: Tensor) -> Tensor:
    """Product with a number, or with a tensor that has no gradient and is small."""
    return _elementwise(tape, x, [])


def weigh(tape: Tape, x: Tensor, weights: Sequence[tuple[str, float]]) -> Tensor:
    """Product with a vector of weights."""
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        found = tape.new(elements, size)
        summed = tape.new(elements, size)
        for name, amount in weights:
            tape.ledger.add_gradient(name, amount)
        del summed
        return [found]

    return tape.record(tape.new(elements, size, x.is_strided), [x], [x], backward)


def cast(tape: Tape, x: Tensor, size: float) -> Tensor:
    """The same elements in another format; nothing happens when it is that already."""
    if x.size == size:
        return x
    elements, before = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(elements, before)]

    return tape.record(tape.new(elements, size, x.is_strided), [x], [], backward)


def contiguous(tape: Tape, x: Tensor) -> Tensor:
    """A copy in the order of the shape; nothing happens when it is that already."""
    if not x.is_strided:
        return x
    return repeated(tape, x, 1)


def repeated(tape: Tape, x: Tensor, times: float) -> Tensor:
    """A copy with each head several times."""
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        if times == 1:
            return [Tensor(gradient.storage, gradient.elements, gradient.size)]
        return [tape.new(elements, size)]

    return tape.record(tape.new(elements * times, size), [x], [], backward)


def softmax(tape: Tape, x: Tensor) -> Tensor:
    """Softmax over the last dimension."""
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(elements, size)]

    result = tape.new(elements, size)
    return tape.record(result, [x], [result], backward)


def layer_norm(tape: Tape, x: Tensor, rows: float, weights: Sequence[tuple[str, float]]) -> Tensor:
    """Layer norm in one kernel."""
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        found = tape.new(elements, size)
        for name, amount in weights:
            tape.ledger.add_gradient(name, amount)
        return [found]

    result = tape.new(elements, size)
    statistics = tape.new(_STATISTICS * rows, FLOAT32)
    return tape.record(result, [x], [x, statistics], backward)


def rms_norm(tape: Tape, x: Tensor, rows: float, weights: Sequence[tuple[str, float]]) -> Tensor:
    """RMS norm as transformers writes it out, in fp32: weight · (x · rsqrt(mean(x²)))."""
    before = x.size
    x = cast(tape, x, FLOAT32)
    deviation = mean(tape, square(tape, x), rows)
    x = multiply(tape, x, deviation)
    return weigh(tape, cast(tape, x, before), weights)


def square(tape: Tape, x: Tensor) -> Tensor:
    """Square of each element."""
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        doubled = tape.new(elements, size)
        found = tape.new(elements, size)
        del doubled
        return [found]

    return tape.record(tape.new(elements, size, x.is_strided), [x], [x], backward)


def mean(tape: Tape, x: Tensor, rows: float) -> Tensor:
    """Mean of each row."""
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(elements, size)]

    return tape.record(tape.new(rows, size), [x], [], backward)


def dropout(tape: Tape, x: Tensor, probability: float, mask_size: float | None) -> Tensor:
    """Dropout. mask_size: bytes of an element of the mask, None = as those of x."""
    if not (tape.is_training and probability > 0):
        return x
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(elements, size)]

    mask = tape.new(elements, size if mask_size is None else mask_size)
    return tape.record(tape.new(elements, size, x.is_strided), [x], [mask], backward)


def activation(tape: Tape, x: Tensor, name: str) -> Tensor:
    """An activation function, by the name that configs give it."""
    if name in ("gelu_new", "gelu_fast", "gelu_accurate"):
        return _tanh_gelu(tape, x)
    if name in ("quick_gelu", "gelu_sigmoid"):
        return multiply(tape, x, _elementwise(tape, scale(tape, x), None))
    if name in ("relu2", "relu_squared"):
        return square(tape, _elementwise(tape, x, None))
    if name in ("relu", "tanh", "sigmoid"):
        return _elementwise(tape, x, None)
    return _elementwise(tape, x, [x])


def matmul(tape: Tape, a: Tensor, b: Tensor, elements: float) -> Tensor:
    """Product of two tensors, matrix by matrix. elements: of the result."""
    a, b = contiguous(tape, a), contiguous(tape, b)
    shares = [(tensor.elements, tensor.size) for tensor in (a, b)]

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(share, size) for share, size in shares]

    return tape.record(tape.new(elements, a.size), [a, b], [a, b], backward)


def split(tape: Tape, x: Tensor, parts: Sequence[float]) -> list[Tensor]:
    """Views of parts of a tensor, each given by its number of elements."""
    elements, size = x.elements, x.size
    is_whole = len(parts) == 1

    def backward(gradient: Tensor) -> Gradients:
        return [gradient if is_whole else Tensor(gradient.storage, elements, size)]

    tape.record(view := Tensor(x.storage, x.elements, x.size), [x], [], backward, len(parts))
    return [Tensor(x.storage, part, size, view.node, number, x.is_strided) for number, part in enumerate(parts)]


def picked(tape: Tape, x: Tensor, elements: float, index: Tensor) -> Tensor:
    """Elements of x at an index; both are kept. elements: of the result."""
    before, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(before, size)]

    return tape.record(tape.new(elements, size), [x], [x, index], backward)


def add_in_place(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """Add b to a, which becomes the sum."""

    def backward(gradient: Tensor) -> Gradients:
        return [Tensor(gradient.storage, gradient.elements, gradient.size) for _ in range(2)]

    return tape.record(Tensor(a.storage, a.elements, a.size), [a, b], [], backward)


def joined(tape: Tape, parts: Sequence[Tensor], elements: float) -> Tensor:
    """Tensors beside each other in a new one; a part may be repeated to fill it. elements: of the result."""
    shares = [(part.elements, part.size) for part in parts]

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(share, size) for share, size in shares]

    return tape.record(tape.new(elements, parts[0].size), parts, [], backward)


def rotate(tape: Tape, x: Tensor) -> Tensor:
    """Rotate by positions: x · cos + half(x) · sin, where half swaps the halves and negates one."""
    first = scale(tape, x)
    second = scale(tape, _swapped(tape, x))
    return add(tape, first, second)


def _swapped(tape: Tape, x: Tensor) -> Tensor:
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        negated = tape.new(elements / 2, size)
        first, second = tape.new(elements, size), tape.new(elements, size)
        del negated, second
        return [first]

    negated = tape.new(elements / 2, size)
    result = tape.record(tape.new(elements, size, x.is_strided), [x], [], backward)
    del negated
    return result


def _tanh_gelu(tape: Tape, x: Tensor) -> Tensor:
    """GELU's tanh form as transformers writes it out, with the temporaries that Python holds meanwhile."""
    half = scale(tape, x)
    return multiply(
        tape,
        half,
        add_number(tape, _elementwise(tape, scale(tape, add(tape, x, scale(tape, square(tape, x)))), None)),
    )


def add_number(tape: Tape, x: Tensor) -> Tensor:
    """Sum with a number, or with something small that has no gradient."""

    def backward(gradient: Tensor) -> Gradients:
        return [Tensor(gradient.storage, gradient.elements, gradient.size)]

    return tape.record(tape.new(x.elements, x.size, x.is_strided), [x], [], backward)


def _elementwise(tape: Tape, x: Tensor, saved: Sequence[Tensor] | None) -> Tensor:
    """A function of each element. saved: None = its result."""
    elements, size = x.elements, x.size

    def backward(gradient: Tensor) -> Gradients:
        return [tape.new(elements, size)]

    result = tape.new(elements, size, x.is_strided)
    return tape.record(result, [x], [result] if saved is None else saved, backward)

"""Messages of the Open Inference Protocol, written field by field, so that they can be wrong in every way.

Source: protobuf's wire format, and the numbers of the fields in KServe's open_inference_grpc.proto.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from experiments.fuzzing import values

_CONTENTS = {"BOOL": 1, "INT32": 2, "INT64": 3, "UINT32": 4, "UINT64": 5, "FP32": 6, "FP64": 7, "BYTES": 8}
_DATATYPES = (*_CONTENTS, "INT8", "FP16", "BF16", "", "bytes", "COMPLEX")
_NUMBERS = (0, 1, 2, 3, 101, 102, 2_000, 30_521, 30_522, 2**31, 2**63 - 1, 2**64 - 1)


def varint(number: int) -> bytes:
    """A whole number from 0 on, seven bits a byte."""
    written = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        written.append(low | (0x80 if number else 0))
        if not number:
            return bytes(written)


def number(field: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return varint(field << 3) + varint(value % (1 << 64))


def data(field: int, value: bytes) -> bytes:
    """A field that holds text, bytes or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def infer_request(rng: random.Random, models: Sequence[str]) -> bytes:
    """A ModelInferRequest: often a right one, often nearly."""
    texts = [values.text(rng).encode("utf-8", "replace") for _ in range(rng.randint(1, 4))]
    is_raw = rng.random() < 0.5
    name = rng.choice(("text", "text", "text", "question", "context", "input_ids", "attention_mask", "", "nobody"))
    is_text = name in ("text", "question", "context")
    datatype = ("BYTES" if is_text else "INT64") if rng.random() < 0.85 else rng.choice(_DATATYPES)
    shape = [len(texts)] if is_text else [1, rng.randint(1, 9)]
    if rng.random() < 0.2:
        shape = rng.choice(([-1], [1 << 40], [1 << 32, 1 << 32], [], [0], [2, -2], [len(texts), 1], [1] * 300))
    numbers = [
        rng.choice(_NUMBERS)
        for _ in range(shape[-1] if not is_text and 0 < len(shape) < 3 and 0 < shape[-1] < 99 else 3)
    ]
    contents = b"".join(data(8, text) for text in texts) if is_text else data(3, b"".join(map(varint, numbers)))
    tensor = (
        data(1, name.encode())
        + data(2, datatype.encode())
        + data(3, b"".join(varint(each % (1 << 64)) for each in shape))
    )
    if not is_raw or rng.random() < 0.1:
        tensor += data(rng.choice((5, 5, 5, 4)), contents)
    message = data(1, rng.choice((*models, "", "nobody", "a/b")).encode())
    message += data(2, rng.choice(("", "", "1", "2", "latest")).encode()) + data(
        3, values.text(rng).encode("utf-8", "replace")
    )
    message += data(5, tensor) * rng.choice((1, 1, 1, 2))
    if is_raw:
        elements = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        raw = elements if is_text else b"".join((each % (1 << 64)).to_bytes(8, "little") for each in numbers)
        message += data(7, values.damage(rng, raw) if rng.random() < 0.2 else raw)
    if rng.random() < 0.2:
        message += data(6, data(1, rng.choice((b"embedding", b"logits", b"answer", b"scores", b"nobody"))))
    if rng.random() < 0.2:
        parameter = rng.choice((number(1, 1), number(2, 7), data(3, rng.choice((b"[1", b"x", b'["a"]'))), b""))
        key = rng.choice((b"normalize", b"dimensions", b"top_k", b"timeout", b"x"))
        message += data(4, data(1, key) + data(2, parameter))
    return message


def broken(rng: random.Random, message: bytes) -> bytes:
    """Bytes that are hardly a message any more."""
    match rng.randrange(5):
        case 0:
            return rng.randbytes(rng.choice((0, 1, 20, 4_000)))
        case 1:
            return message[: rng.randrange(len(message) + 1)]
        case 2:  # groups in groups, which parsers walk through one by one
            return varint(20 << 3 | 3) * rng.choice((90, 101, 5_000))
        case 3:
            return message + data(5, b"") * 5_000
        case _:
            return values.damage(rng, message)

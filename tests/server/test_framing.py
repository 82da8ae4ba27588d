"""Messages over a stream: whole, in pieces, and things that are no messages."""

from __future__ import annotations

import io
import random
import socket
import struct
from threading import Thread
from typing import Any

import numpy as np
import pytest

from ridgeline_server.engine import framing
from ridgeline_server.engine.connection import FrameProtocol
from ridgeline_server.engine.framing import (
    LARGEST_BODY_BYTES,
    FramingError,
    TooLargeError,
    encode,
    read_frame,
    write_frame,
)
from ridgeline_server.engine.messages import Done, Failed, Loaded
from ridgeline_server.engine.packing import pack
from ridgeline_server.engine.status_page import StatusPage
from ridgeline_server.request import Batch
from ridgeline_server.sequences import Readout, ReadoutKind, Tokens


def frame(message: object) -> bytes:
    return b"".join(encode(message))


def batch(sequences: int = 3, types: bool = False) -> Batch:
    lengths = np.arange(1, sequences + 1, dtype=np.int32)
    ids = np.arange(lengths.sum(), dtype=np.int32)
    return Batch(41, ids, lengths, ids % 2 if types else None)


def done(rows: int = 3, dim: int = 5) -> Done:
    return Done(42, np.arange(rows * dim, dtype=np.float32).reshape(rows, dim), 96, (4, 24), 1.25, 2.5)


def read_batch(types: bool = False) -> Batch:
    """A batch whose sequences are read in two ways, one of which asks about token ids."""
    fills = Readout(ReadoutKind.FILLS, top=3, among=(5, 1, 9), mask_id=4)
    sequences = [Tokens(np.full(n, n, np.int32), np.ones(n, np.int32) if types else None, False) for n in (3, 1, 2, 4)]
    return pack(43, sequences, [fills, None, Readout(pooling="cls"), fills])


def arrays_done(*shapes: tuple[int, ...]) -> Done:
    arrays = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes]
    return Done(44, arrays, 96, (4, 24), 1.25, 2.5)


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    for name in one.__slots__:
        np.testing.assert_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    "message",
    [
        batch(),
        batch(1),
        batch(types=True),
        done(),
        done(1, 1),
        Done(1, np.zeros((2, 3), np.float64), 1, (1, 1), 0.0, 0.0),
        read_batch(),
        read_batch(types=True),
        arrays_done((7, 5), (3,), (1, 1), (2, 4, 2)),
        arrays_done((0, 2), (0, 5, 2), (3, 0)),
        arrays_done(),
        Failed(3, "no"),
        Loaded(None, {(1, 2): 0.5}),
    ],
    ids=repr,
)
def test_a_message_comes_out_as_it_went_in(message: Any) -> None:
    assert_same(read_frame(io.BytesIO(frame(message))), message)


def test_arrays_of_another_layout_come_out_right() -> None:
    ids = np.arange(12, dtype=np.int64)
    sent = Batch(1, ids[::2].astype(np.int64), np.array([2, 4], np.int64))
    received = read_frame(io.BytesIO(frame(sent)))
    assert received.input_ids.tolist() == [0, 2, 4, 6, 8, 10]
    outputs = np.arange(12, dtype=np.float32).reshape(3, 4).T
    received = read_frame(io.BytesIO(frame(Done(1, outputs, 1, (4, 3), 0.0, 0.0))))
    np.testing.assert_equal(received.outputs, outputs)


def test_readouts_that_are_the_same_travel_once() -> None:
    many = tuple(range(10_000))
    readout = Readout(ReadoutKind.FILLS, top=3, among=many)
    sequences = [Tokens(np.ones(2, np.int32), None, False)] * 50
    sent = frame(pack(1, sequences, [readout] * 50))
    assert len(sent) < 10 * len(many)
    received = read_frame(io.BytesIO(sent))
    assert received.readouts == (readout,) * 50


def test_a_small_array_does_not_hold_the_whole_batch_s() -> None:
    small, large = read_frame(io.BytesIO(frame(arrays_done((8,), (1000, 8))))).outputs
    assert small.base is None and large.base is not None


def test_arrays_of_another_layout_or_type_come_out_right_in_a_list() -> None:
    arrays = [np.arange(12, dtype=np.float32).reshape(3, 4).T, np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]]
    received = read_frame(io.BytesIO(frame(Done(1, arrays, 1, (4, 3), 0.0, 0.0))))
    np.testing.assert_equal(received.outputs, arrays)
    assert all(array.flags.aligned for array in received.outputs)


@pytest.mark.parametrize("garbage", [b"", struct.pack("=qddIIIII", 1, 0, 0, 1, 1, 1, 2, 4) + bytes(8)])
def test_lists_of_arrays_that_are_cut_short_are_complained_about(garbage: bytes) -> None:
    whole = frame(arrays_done((7, 5), (3,)))
    for body in (garbage, whole[8:-4], whole[8:30]):
        with pytest.raises(FramingError):
            read_frame(io.BytesIO(struct.pack("=II", len(body), 4) + body))


def test_an_answer_that_is_too_large_fails_its_batch_and_the_stream_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # as the worker's module sets them for its process: here for this test alone
    from ridgeline_server.engine import worker

    monkeypatch.setattr(framing, "LARGEST_BODY_BYTES", 1000)
    ours, theirs = socket.socketpair()
    with ours, theirs, theirs.makefile("rb") as stream:
        sender = worker.Worker(ours, StatusPage.__new__(StatusPage))
        for answer in (arrays_done((200, 5), (3,)), done(20, 20), arrays_done((3,))):
            sender._send(answer)
        for batch_id in (44, 42):
            failed = read_frame(stream)
            assert isinstance(failed, Failed) and failed.batch_id == batch_id
            assert "too large to leave the worker" in failed.message and "may have 1000" in failed.message
        assert_same(read_frame(stream), arrays_done((3,)))
    with pytest.raises(TooLargeError):
        encode(batch(100))


def test_pieces_of_any_size_make_the_same_messages() -> None:
    messages: list[Any] = [batch(), done(), Failed(1, "x"), done(200, 300), batch(types=True), done(1, 1)] * 5
    messages += [read_batch(), arrays_done((70, 500), (3,)), arrays_done((0, 2))] * 5
    stream = b"".join(map(frame, messages))
    for seed in range(30):
        rng = random.Random(seed)
        received: list[Any] = []
        protocol = FrameProtocol(received.append, pytest.fail)
        start = 0
        while start < len(stream):
            size = rng.choice([1, 3, 8, 9, 100, 5000, 300_000])
            protocol.data_received(stream[start : start + size])
            start += size
        assert len(received) == len(messages)
        for one, other in zip(received, messages, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack("=II", 5, 0) + b"12345",
        struct.pack("=II", 5, 1) + b"12345",
        struct.pack("=II", 5, 2) + b"12345",
        struct.pack("=II", 0, 7),
        struct.pack("=II", LARGEST_BODY_BYTES + 1, 0),
        frame(done())[:-4].replace(struct.pack("=I", 104), struct.pack("=I", 100), 1),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_message_is_complained_about_once(garbage: bytes) -> None:
    received: list[Any] = []
    complaints: list[str] = []
    protocol = FrameProtocol(received.append, complaints.append)
    for data in (frame(done()) + garbage, frame(done()), garbage):
        protocol.data_received(data)
    assert len(received) == len(complaints) == 1


def test_a_stream_that_ends_within_a_message_is_at_its_end() -> None:
    for size in (0, 3, 8, 20):
        with pytest.raises(EOFError):
            read_frame(io.BytesIO(frame(done())[:size]))


def test_a_blocking_reader_refuses_garbage() -> None:
    with pytest.raises(FramingError, match="is announced, at most"):
        read_frame(io.BytesIO(struct.pack("=II", LARGEST_BODY_BYTES + 1, 0)))


@pytest.mark.parametrize("large", [done(500, 1000), arrays_done(*[(100, 10)] * 500)], ids=["matrix", "list"])
def test_a_large_message_passes_a_small_socket_buffer(large: Done) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, theirs.makefile("rb") as stream:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        writer = Thread(target=write_frame, args=(ours, large))
        writer.start()
        assert_same(read_frame(stream), large)
        writer.join()

"""Which replica gets the next batch, by table."""

import pytest

from ridgeline_server.engine.dispatch import ReplicaLoad, choose_replica, most_in_flight


def load(
    in_flight: int = 0, *, token_s: float = 1e-4, concurrency: int = 1, has_room: bool = True, batch_s: float = 0.02
) -> ReplicaLoad:
    return ReplicaLoad(
        has_room=has_room,
        concurrency=concurrency,
        in_flight=in_flight,
        in_flight_s=in_flight * batch_s,
        token_s=token_s,
        least_s=10 * token_s,
        most_tokens=256,
    )


@pytest.mark.parametrize(
    ("loads", "waiting", "expected"),
    [
        ([], 10, None),
        ([load(2, has_room=False)], 10, None),
        ([load()], 10, 0),
        ([load(1), load(0)], 10, 1),
        ([load(3, concurrency=4), load(0, concurrency=4)], 10, 0),  # a free slot is a free slot
        ([load(token_s=1e-3), load(token_s=1e-4)], 100, 1),  # the faster of two idle ones
        ([load(token_s=1e-3), load(1, token_s=1e-4, batch_s=0.5)], 100, 0),  # unless it is busy for longer
    ],
)
def test_the_batch_goes_where_it_ends_first(loads: list[ReplicaLoad], waiting: int, expected: int | None) -> None:
    assert choose_replica(loads, waiting) == expected


def test_a_little_work_is_kept_for_a_fast_replica_that_will_soon_have_room() -> None:
    fast, slow = load(2, has_room=False, token_s=1e-5, batch_s=0.002), load(token_s=1e-2)
    assert choose_replica([fast, slow], 200) is None


def test_much_work_is_shared_with_a_slow_replica() -> None:
    fast, slow = load(2, has_room=False, token_s=1e-5, batch_s=0.002), load(token_s=1e-2)
    assert choose_replica([fast, slow], 300_000) == 1


def test_equal_replicas_are_never_held_back() -> None:
    assert choose_replica([load(2, has_room=False), load(1)], 1) == 1


@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize("waiting", [10, 400, 1024, 100_000])
def test_equal_replicas_are_never_held_back_whatever_their_slots(concurrency: int, waiting: int) -> None:
    full = load(most_in_flight(concurrency), concurrency=concurrency, has_room=False, batch_s=0.001)
    for in_flight in range(most_in_flight(concurrency)):
        half = load(in_flight, concurrency=concurrency, batch_s=0.001)
        assert choose_replica([full, half], waiting) == 1

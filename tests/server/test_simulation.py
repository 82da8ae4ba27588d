"""The discrete-event simulation, held to cases that can be computed by hand."""

from dataclasses import replace

import pytest

from ridgeline_server.runtimes.grid import ShapeGrid, make_grid
from ridgeline_server.tuning.simulation import ClosedLoop, OpenLoop, Scenario, SimulatedReplica, simulate

ONE_SHAPE = ShapeGrid(((1, 16),))
FOUR_ROWS = ShapeGrid(((1, 16), (4, 16)))


def scenario(grid: ShapeGrid = ONE_SHAPE, seconds: float = 0.01, **changes: object) -> Scenario:
    replica = SimulatedReplica(dict.fromkeys(grid.shapes, seconds))
    return replace(Scenario([replica], grid, ClosedLoop(1), [16], duration_s=10.0), **changes)


def test_a_lone_client_waits_for_host_hand_over_and_batch() -> None:
    outcome = simulate(scenario(host_s=0.002, hand_over_s=0.001, traffic=ClosedLoop(1, think_s=0.007)))
    assert outcome.latencies_s == pytest.approx(0.013)
    assert outcome.texts_per_s == pytest.approx(1 / 0.020, rel=0.01)
    assert outcome.padding_waste == 0


def test_a_busy_replica_serves_full_batches() -> None:
    outcome = simulate(scenario(FOUR_ROWS, traffic=ClosedLoop(40)))
    assert outcome.texts_per_s == pytest.approx(4 / 0.01, rel=0.02)
    assert outcome.rows == pytest.approx(4, rel=0.02)
    assert outcome.utilization == pytest.approx(1, rel=0.02)
    assert outcome.percentile_s(50) == pytest.approx(40 / 400, rel=0.05)  # Little's law


def test_open_arrivals_are_answered_at_their_rate_and_queue_as_theory_says() -> None:
    outcome = simulate(scenario(traffic=OpenLoop(50.0), duration_s=400.0))
    assert outcome.texts_per_s == pytest.approx(50, rel=0.03)
    # M/D/1 at half load: the mean wait is half a service time.
    assert outcome.latencies_s.mean() == pytest.approx(0.015, rel=0.05)


def test_the_host_bounds_what_many_replicas_serve() -> None:
    one = scenario(traffic=ClosedLoop(64), host_s=0.001)
    assert simulate(one).texts_per_s == pytest.approx(100, rel=0.02)
    assert simulate(replace(one, replicas=one.replicas * 4)).texts_per_s == pytest.approx(400, rel=0.02)
    assert simulate(replace(one, replicas=one.replicas * 32)).texts_per_s == pytest.approx(1000, rel=0.02)


def test_unequal_replicas_share_by_their_speed() -> None:
    fast, slow = (SimulatedReplica({(1, 16): seconds}) for seconds in (0.01, 0.1))
    busy = scenario(replicas=[fast, slow], traffic=ClosedLoop(64))
    assert simulate(busy).texts_per_s == pytest.approx(110, rel=0.03)
    # A lone request never goes to the slow one.
    assert simulate(replace(busy, traffic=ClosedLoop(1))).percentile_s(100) == pytest.approx(0.01)


def test_a_request_of_many_texts_ends_with_its_last() -> None:
    outcome = simulate(scenario(texts=5, traffic=ClosedLoop(1)))
    assert outcome.latencies_s == pytest.approx(0.05)
    assert outcome.texts_per_s == pytest.approx(100, rel=0.02)


def test_the_same_seed_gives_the_same_outcome() -> None:
    grid = make_grid(256, 256)
    replica = SimulatedReplica({(rows, length): 1e-3 + rows * length * 3e-5 for rows, length in grid.shapes}, 2)
    mixed = Scenario([replica], grid, OpenLoop(300.0), [5, 20, 60, 250], duration_s=5.0)
    first, again, other = simulate(mixed), simulate(mixed), simulate(replace(mixed, seed=1))
    assert (first.latencies_s == again.latencies_s).all()
    assert len(first.latencies_s) != len(other.latencies_s) or (first.latencies_s != other.latencies_s).any()


def test_the_age_bound_shortens_the_longest_wait() -> None:
    grid = make_grid(256, 256)
    replica = SimulatedReplica({(rows, length): 1e-3 + rows * length * 3e-5 for rows, length in grid.shapes}, 2)
    mixed = Scenario([replica], grid, ClosedLoop(64), [5, 10, 20, 40, 60, 100, 130, 200], duration_s=20.0)
    bounded, unbounded = simulate(mixed), simulate(replace(mixed, max_age_s=float("inf")))
    assert bounded.percentile_s(100) < unbounded.percentile_s(100)

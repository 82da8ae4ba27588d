"""A steady model at a gentle rate, beside a flood on another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.lab.server import Server
from experiments.lab.task_requests import Part

from ridgeline_bench import fleet, results
from ridgeline_bench.plan import Plan

_REQUESTS = 2000
_TIMEOUT_S = 60.0
_CAPACITY_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Loads:
    """How the steady model and the flooded one are asked.

    pause_s: from a refusal until a flooding connection's next request
    """

    steady: Part
    flooded: Part
    texts: Sequence[str]
    warmup_s: float
    duration_s: float
    pause_s: float

    def capacity(self, server: Server) -> float:
        """Requests per second that the steady model answers, asked alone from 16 connections."""
        ((figures, _),) = self._run(server, [self._plan(server, self.steady, _CAPACITY_CONNECTIONS, None, 0)])
        rate: float = figures["throughput_requests_per_s"]
        return rate

    def measure(self, server: Server, rate: float, connections: int, seed: int) -> dict[str, Any]:
        """The steady model at `rate` requests per second beside `connections` on the other model, 0 = none."""
        plans = [self._plan(server, self.steady, None, rate, seed)]
        if connections:
            plans.append(self._plan(server, self.flooded, connections, None, seed))
        before = server.cpu()
        (steady, steady_cpu_s), *flood = self._run(server, plans)
        spent = server.cpu() - before
        flooded = flood[0][0] if flood else None
        generators_s = steady_cpu_s + sum(cpu_s for _, cpu_s in flood)
        return {
            "connections": connections,
            "steady": _told(steady),
            "flood": None if flooded is None else _told(flooded),
            "cpu_s": {"server": spent.server_s, "workers": spent.workers_s, "generators": generators_s},
        }

    def _plan(self, server: Server, part: Part, connections: int | None, rate: float | None, seed: int) -> Plan:
        requests = part.requests(server.port, self.texts, _REQUESTS)
        return Plan(
            address="127.0.0.1",
            port=server.port,
            requests=tuple(requests),
            concurrency=connections,
            rate=rate,
            warmup_s=self.warmup_s,
            duration_s=self.duration_s,
            timeout_s=_TIMEOUT_S,
            max_connections=4096,
            seed=seed,
            pause_s=self.pause_s,
        )

    @staticmethod
    def _run(server: Server, plans: Sequence[Plan]) -> list[tuple[dict[str, Any], float]]:
        """Figures of each plan's requests, and CPU seconds of its generator; all begin at the same instant."""
        run = fleet.run(plans, lambda tick: None, lambda: None)
        return [(results.figures(results.merge([each]), [each], 1), each.cpu_s) for each in run.outcomes]


def _told(figures: Mapping[str, Any]) -> dict[str, Any]:
    names = ("succeeded", "refused", "failed", "errors", "throughput_requests_per_s", "tokens_per_s", "latency_s")
    return {name: figures[name] for name in names}

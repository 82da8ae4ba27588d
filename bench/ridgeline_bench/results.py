"""From what the generator processes saw to the figures of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ridgeline_bench.plan import ERROR_KINDS, REFUSED_STATUS, Outcome

Float64Array = npt.NDArray[np.float64]

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
DEFINITIONS = {
    "requests": "sent within the measured window (open loop: meant to be sent), whenever the reply came",
    "latency_s": "of requests that succeeded: from sending the request until the whole reply was there; in the open "
    "loop from the instant at which the request was meant to be sent, so that a stalled server is charged for it",
    "window_monotonic_s": "instants of CLOCK_MONOTONIC of this machine at which the window opened and closed",
    "throughput": "successful replies that arrived within the window / its seconds",
    "service_s": "of requests that succeeded: from writing the request until the whole reply was there; less than "
    "latency_s where a request had to wait in the generator",
    "refused": "status 429: the server said that it is full, which is an answer and no error",
    "refused_latency_s": "as latency_s, of refused requests",
    "succeeded": "status 2xx and a whole reply that is not empty",
    "tokens": "usage.prompt_tokens of the replies (or the header x-compute-tokens); null when the server tells neither",
    "server_timing_s": "mean per phase of the Server-Timing headers of successful replies",
    "generator.cpu_s": "CPU time of the load generator's processes within the window, their system calls included",
    "send_lag_s": "open loop: how much later than meant the requests were written; large values mean that the "
    "generator, not the server, was the bottleneck",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """All requests of a run, merged over the processes; instants in seconds since the measured window opened.

    sent, written, done: [requests] float64
    codes:      [requests] HTTP status or a negative key of ERROR_KINDS
    tokens:     [requests] as the server told, 0 = not told
    """

    sent: Float64Array
    written: Float64Array
    done: Float64Array
    codes: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    duration_s: float

    @property
    def succeeded(self) -> npt.NDArray[np.bool_]:
        return (self.codes >= 200) & (self.codes < 300)

    @property
    def refused(self) -> npt.NDArray[np.bool_]:
        refused: npt.NDArray[np.bool_] = self.codes == REFUSED_STATUS
        return refused

    @property
    def measured(self) -> npt.NDArray[np.bool_]:
        return (self.sent >= 0) & (self.sent < self.duration_s)

    @property
    def in_window(self) -> npt.NDArray[np.bool_]:
        return (self.done >= 0) & (self.done < self.duration_s)

    @property
    def latencies(self) -> Float64Array:
        """Seconds, of the measured requests that succeeded, ascending."""
        return self._seconds(self.sent, self.succeeded)

    @property
    def service(self) -> Float64Array:
        """As latencies, counted from the instant at which the request was written."""
        return self._seconds(self.written, self.succeeded)

    @property
    def refusals(self) -> Float64Array:
        """As latencies, of the measured requests that were refused."""
        return self._seconds(self.sent, self.refused)

    def _seconds(self, since: Float64Array, kind: npt.NDArray[np.bool_]) -> Float64Array:
        chosen = self.measured & kind
        return np.sort(self.done[chosen] - since[chosen])


def merge(outcomes: Sequence[Outcome]) -> Sample:
    """One sample from all processes."""
    opened = outcomes[0].measured_from
    return Sample(
        sent=np.concatenate([np.frombuffer(each.sent, np.float64) for each in outcomes]) - opened,
        written=np.concatenate([np.frombuffer(each.written, np.float64) for each in outcomes]) - opened,
        done=np.concatenate([np.frombuffer(each.done, np.float64) for each in outcomes]) - opened,
        codes=np.concatenate([np.frombuffer(each.codes, np.int16) for each in outcomes]).astype(np.int64),
        tokens=np.concatenate([np.frombuffer(each.tokens, np.int32) for each in outcomes]).astype(np.int64),
        duration_s=max(0.0, max(each.ended for each in outcomes) - opened),
    )


def figures(sample: Sample, outcomes: Sequence[Outcome], texts_per_request: int) -> dict[str, Any]:
    """The results as the JSON file holds them. Rates are per second of the window."""
    seconds = sample.duration_s
    opened = outcomes[0].measured_from if outcomes else 0.0
    measured = int(sample.measured.sum())
    answered = sample.in_window & sample.succeeded
    replies = int(answered.sum())
    tokens = int(sample.tokens[answered].sum())
    succeeded = int((sample.measured & sample.succeeded).sum())
    refused = int((sample.measured & sample.refused).sum())
    return {
        "duration_s": seconds,
        "window_monotonic_s": [opened, opened + seconds],
        "requests": measured,
        "succeeded": succeeded,
        "refused": refused,
        "refused_without_retry_after": sum(each.refused_without_retry_after for each in outcomes),
        "failed": measured - succeeded - refused,
        "unfinished": sum(each.unfinished for each in outcomes),
        "errors": errors(sample),
        "throughput_requests_per_s": replies / seconds if seconds else 0.0,
        "throughput_texts_per_s": replies * texts_per_request / seconds if seconds else 0.0,
        "tokens": tokens or None,
        "tokens_per_s": tokens / seconds if tokens and seconds else None,
        "latency_s": latency_figures(sample.latencies),
        "service_s": latency_figures(sample.service),
        "refused_latency_s": latency_figures(sample.refusals),
        "latency_histogram": histogram(sample.latencies),
        "per_second": per_second(sample),
        "server_timing_s": timing_means(outcomes),
    }


def errors(sample: Sample) -> dict[str, int]:
    """How often each status, or kind of failure, ended a measured request that neither succeeded nor was refused."""
    codes = sample.codes[sample.measured & ~sample.succeeded & ~sample.refused]
    counts = Counter(codes.tolist())
    return {ERROR_KINDS.get(code, str(code)): count for code, count in counts.most_common()}


def latency_figures(latencies: Float64Array) -> dict[str, float] | None:
    """Seconds; None when nothing succeeded. latencies: ascending."""
    if not latencies.size:
        return None
    values = np.percentile(latencies, list(PERCENTILES.values()))
    return {
        "min": float(latencies[0]),
        "mean": float(latencies.mean()),
        **dict(zip(PERCENTILES, values.tolist(), strict=True)),
        "max": float(latencies[-1]),
    }


def histogram(latencies: Float64Array) -> dict[str, list[float] | list[int]] | None:
    """Counts between edges that grow by a tenth of a decade; `counts` has one entry fewer than `edges_s`."""
    if not latencies.size:
        return None
    low = np.floor(10 * np.log10(max(latencies[0], 1e-6)))
    high = np.ceil(10 * np.log10(max(latencies[-1], 1e-6))) + 1
    edges = 10 ** (np.arange(low, high + 1) / 10)
    counts, _ = np.histogram(latencies, edges)
    return {"edges_s": edges.tolist(), "counts": counts.tolist()}


def per_second(sample: Sample) -> list[dict[str, Any]]:
    """For each second of the window: good replies, refusals and errors that came in it, and the good ones' latencies.

    The last entry may cover less than a second: `seconds` says how much.
    """
    series = []
    for second in range(int(np.ceil(sample.duration_s))):
        span = min(1.0, sample.duration_s - second)
        arrived = (sample.done >= second) & (sample.done < second + span)
        good = arrived & sample.succeeded
        latencies = latency_figures(np.sort(sample.done[good] - sample.sent[good])) or {}
        series.append(
            {
                "second": second,
                "seconds": span,
                "replies": int(good.sum()),
                "refused": int((arrived & sample.refused).sum()),
                "errors": int((arrived & ~sample.succeeded & ~sample.refused).sum()),
                "p50_s": latencies.get("p50"),
                "p99_s": latencies.get("p99"),
            }
        )
    return series


def timing_means(outcomes: Sequence[Outcome]) -> dict[str, float] | None:
    """Mean seconds per phase of Server-Timing; None when no reply had it."""
    timed = sum(each.timed for each in outcomes)
    if not timed:
        return None
    totals: Counter[str] = Counter()
    for each in outcomes:
        totals.update(each.timings)
    return {name: total / timed for name, total in totals.items()}


def generator_figures(outcomes: Sequence[Outcome], duration_s: float, command_cpu_s: float) -> dict[str, Any]:
    """What making the load cost. command_cpu_s: of the command itself (progress display) within the window."""
    cpu_s = sum(each.cpu_s for each in outcomes)
    replies = sum(each.replies_in_window for each in outcomes)
    sent = sum(each.lag_count for each in outcomes)
    return {
        "processes": len(outcomes),
        "cpu_s": cpu_s,
        "command_cpu_s": command_cpu_s,
        "cpu_share_of_one_core": (cpu_s + command_cpu_s) / duration_s if duration_s else None,
        "cpu_us_per_request": 1e6 * cpu_s / replies if replies else None,
        "connections_opened": sum(each.connections_opened for each in outcomes),
        "waited_for_connection": sum(each.waited_for_connection for each in outcomes),
        "send_lag_s": None
        if not sent
        else {
            "mean": sum(each.lag_sum_s for each in outcomes) / sent,
            "max": max(each.lag_max_s for each in outcomes),
        },
    }

"""What a run of the benchmarks found, as it is written to benchmarks.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.measuring.machine import Machine
from ridgeline_kernels.measuring.timer import Timing


@dataclass(frozen=True)
class Ours:
    """Our op's time on a case, and how near its outputs are to the reference's in fp32 on the same inputs.

    error: relative Frobenius norm; excess: the largest element's difference over what is allowed, right up to 1
    """

    timing: Timing
    error: float
    excess: float

    @property
    def is_right(self) -> bool:
        """Whether the outputs are the reference's: only then does the time count."""
        return self.excess <= 1.0


@dataclass
class Row:
    """A case's results; `failure` says why there is no time of ours, `failures` why a baseline has none.

    ceiling and least_s: which ceiling of the run binds the case, and the least seconds that it allows
    """

    op: str
    case: str
    precision: str
    flops: int
    bytes: int
    family: str
    ceiling: str = ""
    least_s: float = 0.0
    ours: Ours | None = None
    failure: str = ""
    baselines: dict[str, Timing] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, case: Case, family: str) -> Row:
        """An empty row of a case."""
        return cls(case.op, case.name, case.precision, case.flops, case.bytes, family)

    @property
    def counts(self) -> bool:
        """Whether our time was measured and our result is right."""
        return self.ours is not None and self.ours.is_right

    @property
    def best_baseline(self) -> tuple[str, Timing] | None:
        """The fastest of the others that do the same; a remark in parentheses says that one does less."""
        rivals = {name: timing for name, timing in self.baselines.items() if "(" not in name}
        return min(rivals.items(), key=lambda entry: entry[1].median_s, default=None)

    def share_of_ceiling(self, timing: Timing) -> float | None:
        """The least time that the binding ceiling allows, over the time taken; None without a ceiling."""
        return self.least_s / timing.median_s if self.ceiling else None


@dataclass
class Results:
    """A whole run. ceilings: bytes a second under "copy", flops a second under a precision; dropped: cases and
    baselines that the budget of seconds did not reach."""

    machine: Machine
    date: str
    budget_s: float
    seconds: float = 0.0
    ceilings: dict[str, float] = field(default_factory=dict)
    missing_ceilings: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything in plain types; what is derived is added to each row."""
        content = asdict(self)
        for entry, row in zip(content["rows"], self.rows, strict=True):
            entry["is_right"] = row.counts
            entry["share_of_ceiling"] = row.share_of_ceiling(row.ours.timing) if row.ours else None
        return content

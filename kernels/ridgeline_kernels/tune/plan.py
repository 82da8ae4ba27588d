"""What is to be tried: for each shape class that the cases ask for, its candidates and the cases that judge them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.ahead import Work
from ridgeline_kernels.compilation.sweep import Lookup, Swept, dry_run
from ridgeline_kernels.compilation.target import Target
from ridgeline_kernels.measuring.selection import in_turns
from ridgeline_kernels.parameters import find_parameters
from ridgeline_kernels.tune.grids import Parameters, Space


@dataclass
class Question:
    """A shape class of an op: candidates by a key of their own, the shipped parameters, and the cases that ask it."""

    lookup: Lookup
    shipped: Parameters
    candidates: dict[str, Parameters]
    cases: tuple[str, ...]

    @property
    def name(self) -> str:
        """Op and shape class."""
        return f"{self.lookup.op} ({self.lookup.shape_class})"


def key_of(parameters: Parameters) -> str:
    """A name of a set of parameters."""
    return json.dumps(dict(parameters), sort_keys=True)


def questions_of(
    cases: Iterable[Case], target: Target, spaces: Mapping[str, Space], notes: list[str]
) -> list[Question]:
    """The shape classes that `cases` ask for on `target`, of the ops that have candidates, the ops in turns.

    A case that cannot be asked is left out and noted.
    """
    asking: dict[Lookup, list[str]] = {}
    for case in in_turns(cases):
        try:
            lookups = dry_run(case, target, lambda *_: None)
        except Exception as error:
            notes.append(f"{case.id}: {type(error).__name__}: {error}")
            continue
        for lookup in lookups:
            if lookup.op in spaces:
                asking.setdefault(lookup, []).append(case.id)
    questions = []
    for lookup, case_ids in asking.items():
        shipped = find_parameters(lookup.op, lookup.shape_class, target.files)
        merged: list[Parameters] = [{**shipped, **candidate} for candidate in spaces[lookup.op](lookup.shape_class)]
        candidates: dict[str, Parameters] = {key_of(each): each for each in merged if each != shipped}
        questions.append(Question(lookup, shipped, candidates, judges_of(case_ids)))
    return questions


def judges_of(case_ids: Sequence[str]) -> tuple[str, ...]:
    """The first of the cases and the last: as far apart as a class is wide, where cases are listed by size."""
    return tuple(dict.fromkeys((case_ids[0], case_ids[-1])))


def work_of(questions: Sequence[Question], target: Target) -> list[Work]:
    """Everything to compile: the shipped parameters of each case, every candidate for the first of its cases.

    The other cases of a class mostly need the same machine code; where not, it is compiled when it is timed.
    """
    shipped = dict.fromkeys(case_id for question in questions for case_id in question.cases)
    work: list[Work] = [(case_id, target, {}) for case_id in shipped]
    for question in questions:
        work += [(question.cases[0], target, {question.lookup: each}) for each in question.candidates.values()]
    return work


def prune(questions: Sequence[Question], work: Sequence[Work], swept: Sequence[Swept], shared_bytes: int) -> list[str]:
    """Take out candidates that do not compile, that spill registers or do not fit into shared memory; say which."""
    dropped = []
    by_lookup = {question.lookup: question for question in questions}
    for (case_id, _, overrides), each in zip(work, swept, strict=True):
        for lookup, parameters in overrides.items():
            reason = _unfit(each, shared_bytes)
            if reason and by_lookup[lookup].candidates.pop(key_of(parameters), None) is not None:
                dropped.append(f"{lookup.op} ({lookup.shape_class}) {key_of(parameters)}: {reason} ({case_id})")
    return dropped


def _unfit(swept: Swept, shared_bytes: int) -> str:
    if swept.failure:
        return swept.failure
    for kernel in swept.kernels:
        if kernel.stack_bytes:
            return f"{kernel.kernel} spills {kernel.stack_bytes} bytes a thread"
        if kernel.shared_bytes > shared_bytes:
            return f"{kernel.kernel} needs {kernel.shared_bytes} bytes of shared memory, of {shared_bytes}"
    return ""

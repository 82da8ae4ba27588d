"""Every case there is."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

import ridgeline_kernels.cases as package
from ridgeline_kernels.cases.case import Case


@lru_cache(maxsize=1)
def all_cases() -> tuple[Case, ...]:
    """The cases of every module of this package that has `CASES`; their ids are unique."""
    cases: list[Case] = []
    for module in iter_modules(package.__path__):
        cases += getattr(import_module(f"{package.__name__}.{module.name}"), "CASES", ())
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids), f"two cases of one name: {sorted({name for name in ids if ids.count(name) > 1})}"
    return tuple(cases)


def case_of(case_id: str) -> Case:
    """The case of an `id`."""
    return next(case for case in all_cases() if case.id == case_id)

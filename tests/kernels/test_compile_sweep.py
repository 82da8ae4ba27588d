"""Every case compiled for GPUs that are not there: it compiles, spills nothing, fits, and uses the tensor cores."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
import triton

import ridgeline_kernels
from ridgeline_kernels.cases.all_cases import all_cases, case_of
from ridgeline_kernels.compilation.record import read_record, without_sample
from ridgeline_kernels.compilation.sweep import Swept, sweep
from ridgeline_kernels.compilation.table import as_markdown
from ridgeline_kernels.compilation.target import TARGETS
from ridgeline_kernels.op import OPS
from ridgeline_kernels.parameters import PACKAGED, holding_classes
from tests.kernels.complaints import assert_none

TABLE = Path(__file__).parents[2] / "kernels" / "RESOURCES.md"
RECORD = TABLE.with_name("resources.json")


@pytest.fixture(scope="module")
def swept() -> list[Swept]:
    """Every case: compiled where the record does not know its kernels, and one in twelve of those that it knows."""
    return sweep(known=without_sample(read_record(RECORD), one_in=12))


def test_every_case_compiles(swept: list[Swept]) -> None:
    assert_none(f"{each.case_id} does not compile for {each.target}: {each.failure}" for each in swept if each.failure)


def test_no_kernel_spills_registers(swept: list[Swept]) -> None:
    assert_none(
        f"{each.case_id}: {kernel.kernel} keeps {kernel.stack_bytes} bytes a thread on the stack on {each.target}, "
        f"with {kernel.registers} registers and {kernel.num_warps} warps; take smaller blocks or more warps"
        for each in swept
        for kernel in each.kernels
        if kernel.stack_bytes
    )


def test_every_kernel_fits_into_shared_memory(swept: list[Swept]) -> None:
    assert_none(
        f"{each.case_id}: {kernel.kernel} needs {kernel.shared_bytes} bytes of shared memory on {each.target}, which "
        f"has {TARGETS[each.target].shared_bytes}; take smaller blocks or fewer stages"
        for each in swept
        for kernel in each.kernels
        if kernel.shared_bytes > TARGETS[each.target].shared_bytes
    )


def test_kernels_use_wgmma_where_their_case_says_so(swept: list[Swept]) -> None:
    def complaints() -> Iterable[str]:
        for each in swept:
            if each.target != "sm_90" or each.failure:
                continue
            for name in case_of(each.case_id).tensor_cores:
                kernels = [kernel for kernel in each.kernels if kernel.kernel == name]
                if not kernels:
                    launched = ", ".join(kernel.kernel for kernel in each.kernels) or "nothing"
                    yield f"{each.case_id} launches no {name}; it launches {launched}"
                for kernel in kernels:
                    if kernel.matrix_instruction != "wgmma":
                        yield f"{each.case_id}: {name} has {kernel.matrix_instruction or 'no matrix instruction'}"

    assert_none(complaints())


def test_every_op_has_a_case() -> None:
    for module in walk_packages(ridgeline_kernels.__path__, f"{ridgeline_kernels.__name__}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    assert set(OPS) == {case.op for case in all_cases()}


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.json")), ids=lambda path: path.stem)
def test_every_shape_class_is_reached_by_a_case(swept: list[Swept], path: Path) -> None:
    ops = json.loads(path.read_text(encoding="utf-8"))["ops"]
    asked = {lookup for each in swept for lookup in each.lookups}

    def is_reached(op: str, shape_class: str) -> bool:
        asking = (holding_classes(lookup.shape_class) for lookup in asked if lookup.op == op)
        return any(next((each for each in holding if each in ops[op]), None) == shape_class for holding in asking)

    assert_none(
        f"{path.name}: no case asks for {op}, {shape_class}"
        for op, classes in ops.items()
        for shape_class in classes
        if not is_reached(op, shape_class)
    )


def test_the_table_is_what_the_sweep_gives(swept: list[Swept]) -> None:
    committed = TABLE.read_text(encoding="utf-8")
    named = re.search(r"Compiled by Triton (\S+)", committed)
    assert named, f"{TABLE.name} does not name its Triton"
    if named[1] != triton.__version__:
        pytest.skip(f"the table is of Triton {named[1]}, this is {triton.__version__}")
    known = read_record(RECORD)
    fresh_record = {digest: each for entry in swept for digest, each in entry.record.items()}
    assert fresh_record == known, "kernels/resources.json is not what compiling gives; run `make kernel-table`"
    fresh = as_markdown(swept, triton.__version__)
    if fresh != committed:
        old, new = set(committed.splitlines()), set(fresh.splitlines())
        changed = [f"- {line}" for line in sorted(old - new)] + [f"+ {line}" for line in sorted(new - old)]
        pytest.fail(
            "\n".join(["kernels/RESOURCES.md is not what compiling gives; run `make kernel-table`", *changed[:40]]),
            pytrace=False,
        )

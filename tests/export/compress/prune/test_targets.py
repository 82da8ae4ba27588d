from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.op import add_up
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.workload import Workload
from ridgeline_export.compress.prune.selection import all_kept, widths_of
from ridgeline_export.compress.prune.targets import Conditions, Costs, Measure, Widths
from ridgeline_export.errors import UsageError
from ridgeline_export.form.layout import read_layout
from ridgeline_export.form.slicing import keep
from tests.export.compress.prune.tiny import load, outputs

Models = Callable[[str, str], Path]
TOKENS = Conditions(batch=2, tokens=20, device="h100", dtype="fp16")


def costs_of(directory: Path, measure: Measure, conditions: Conditions = TOKENS) -> Costs:
    loaded = load(directory)
    layout = read_layout(loaded.model)
    return Costs(loaded.model, loaded.task, widths_of(layout, all_kept(layout)), measure, conditions)


@pytest.mark.parametrize("name", ["bert", "albert", "mpnet", "modernbert"])
def test_costs_are_those_of_the_model_that_is_left(tiny_models: Models, name: str) -> None:
    loaded = load(tiny_models(name, "feature-extraction"))
    layout = read_layout(loaded.model)
    layers = len(layout.layers)
    whole = widths_of(layout, all_kept(layout))
    after = Widths((1, *[3] * (layers - 1)), (16, *[33] * (layers - 1)))
    parameters = Costs(loaded.model, loaded.task, whole, "parameters", TOKENS).of(after)
    flops = Costs(loaded.model, loaded.task, whole, "flops", TOKENS)
    ops = model_ops(flops._with(after), Workload(2, 20), PRECISIONS["fp32"])
    keep(loaded.model, [range(count) for count in after.heads], [range(count) for count in after.channels])
    left = {id(each): each for name, each in loaded.model.named_parameters() if "pooler" not in name}
    assert parameters == sum(each.numel() for each in left.values())
    with FlopCounterMode(display=False) as counter:
        outputs(loaded.model)
    pooler = 2 * 2 * 32 * 32 if hasattr(loaded.model, "pooler") and loaded.model.pooler is not None else 0
    # DebertaV2's and others' constants are folded at run time; these have none.
    assert add_up(ops).matmul_flops == counter.get_total_flops() - pooler
    assert flops.of(after) == add_up(ops).flops < flops.total


def test_latency_is_predicted_on_a_named_device(tiny_models: Models) -> None:
    costs = costs_of(tiny_models("bert", "feature-extraction"), "latency")
    assert costs.source is not None and costs.source.startswith("H100")
    assert 0 < costs.of(Widths((1, 1), (16, 16))) < costs.of(Widths((1, 4), (16, 64))) < costs.total < 1e-3


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (Conditions(1, 161, "h100", "fp16"), "161 tokens, but the model has 160 positions"),
        (Conditions(1, 20, "abacus", "fp16"), "device 'abacus' is unknown"),
        (Conditions(1, 20, "this", "fp32"), "this machine was not measured"),
        (Conditions(1, 20, "a100", "fp8"), "the fp8 peak of A100"),
    ],
)
def test_conditions_that_cannot_be(tiny_models: Models, conditions: Conditions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        costs_of(tiny_models("bert", "feature-extraction"), "latency", conditions)

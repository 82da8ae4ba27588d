"""The order of fusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common
from onnxscript.rewriter import pattern

from ridgeline_export.packed.fuse.activations import name_gelus
from ridgeline_export.packed.fuse.embeddings import fuse_embeddings
from ridgeline_export.packed.fuse.gated import fuse_gates
from ridgeline_export.packed.fuse.linear import ACTIVATIONS, RESIDUALS, linear_rules
from ridgeline_export.packed.fuse.norms import ADDITIONS, CENTRED, NORMS
from ridgeline_export.packed.fuse.pool import fuse_normalize
from ridgeline_export.packed.fuse.report import FusionReport, report
from ridgeline_export.packed.fuse.rotary import fuse_rotary
from ridgeline_export.packed.fuse.scales import fold_scales
from ridgeline_export.packed.fuse.siblings import join_siblings
from ridgeline_export.packed.fuse.splits import join_slices, split_before_views
from ridgeline_export.packed.fuse.transposes import TRANSPOSES, sink_transposes, view_transposes
from ridgeline_export.packed.fuse.values import DOMAIN
from ridgeline_export.packed.fuse.views import cross_views, drop_no_ops, join_views
from ridgeline_export.packed.fuse.weights import Weights

_Step = Callable[[ir.Model], object]


def fuse(program: ir.Model) -> FusionReport:
    """Turn a lowered graph's standard ops into the dialect's fused ones, in place.

    Results stay what they are up to rounding. Values are fused away only when nobody else reads them, graph outputs
    included. Shapes are taken from the graph's values: what has none is left as it is.
    """
    program.graph.opset_imports.setdefault(DOMAIN, 1)
    weights = Weights(program.graph)
    for step in _steps(weights):
        step(program)
        _sweep(program)
    weights.settle_names()
    program.graph.sort()
    common.NameFixPass()(program)
    return report(program)


def _steps(weights: Weights) -> Iterator[_Step]:
    """Every step and its place; a step leaves what the next ones look for."""
    yield onnxscript.optimizer.fold_constants
    yield lambda program: common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(program)
    yield common.CommonSubexpressionEliminationPass()
    yield drop_no_ops
    yield join_views
    yield join_slices
    yield split_before_views
    yield join_views
    # Linears first: they are what activations, gates and siblings are told by.
    for rules in linear_rules(weights):
        yield _applied(rules)
    yield join_views
    yield cross_views
    yield join_views
    yield name_gelus
    # A gate takes its two linears, which are siblings too.
    yield lambda program: fuse_gates(program, weights)
    yield lambda program: join_siblings(program, weights)
    yield split_before_views
    # Embeddings have their own LayerNorm, of a sum that AddNorm would take.
    yield lambda program: fuse_embeddings(program, weights)
    # Norms of heads stand between their transposition and their rotation.
    for rules in (*NORMS, *CENTRED):
        yield _applied(rules)
    yield lambda program: fuse_rotary(program, weights)
    yield sink_transposes
    yield _applied(TRANSPOSES)
    yield view_transposes
    yield drop_no_ops
    yield join_views
    yield split_before_views
    yield fold_scales
    yield join_views
    for rules in (*ADDITIONS, ACTIVATIONS):
        yield _applied(rules)
    yield fuse_normalize
    # An addition behind a linear is cheapest in the norm that follows it: what is left goes to the linear.
    yield _applied(RESIDUALS)
    yield join_views


def _applied(rules: pattern.RewriteRuleSet) -> _Step:
    def step(program: ir.Model) -> None:
        rules.apply_to_model(program)

    return step


def _sweep(program: ir.Model) -> None:
    """Take out what nobody reads."""
    common.RemoveUnusedNodesPass()(program)

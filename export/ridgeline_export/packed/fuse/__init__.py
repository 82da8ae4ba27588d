"""Raw packed graph → the dialect's fused ops: docs/packed.md."""

from ridgeline_export.packed.fuse.report import FusionReport
from ridgeline_export.packed.fuse.steps import fuse

__all__ = ["FusionReport", "fuse"]

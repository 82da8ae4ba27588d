"""What the server says about its own work: timings per answer, metrics per scrape, FLOPs per batch."""

from ridgeline_server.report.metrics import Metrics
from ridgeline_server.report.report import Report

__all__ = ["Metrics", "Report"]

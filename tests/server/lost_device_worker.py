"""A worker that loses its device on a certain token id while the file that MARK_VARIABLE names is there to be removed.

Run in place of the real worker process.
"""

from __future__ import annotations

import os

from ridgeline_server.engine import worker
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import DeviceLostError, Output
from tests.server.faulty_worker import FaultyRuntime

LOSE_DEVICE = 8001
MARK_VARIABLE = "RIDGELINE_TEST_MARK"


class LosingRuntime(FaultyRuntime):
    """Echoes; its device is lost once."""

    def run(self, batch: Batch, slot: int) -> Output:
        mark = os.environ[MARK_VARIABLE]
        if LOSE_DEVICE in batch.input_ids and os.path.exists(mark):
            os.remove(mark)
            raise DeviceLostError("cuda:0 is lost")
        return super().run(batch, slot)


if __name__ == "__main__":
    worker.load_runtime = LosingRuntime
    worker.main()

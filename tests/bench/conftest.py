from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.stand_in import Server


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    running.start()
    yield running
    running.stop()

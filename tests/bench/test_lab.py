"""The lab that experiments share: batches for the bound, processes, the client that looks at answers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from experiments.lab import offline, processes
from experiments.lab.attack import Attacker
from experiments.lab.client import Client, embeddings_body
from experiments.lab.config import server_config

from tests.bench.stand_in import Reply, Server


def test_batches_of_the_bound_hold_every_text_within_the_budget() -> None:
    lengths = [3, 200, 9, 17, 40, 8, 8, 64, 250]
    ids = [np.full(length, length, dtype=np.int32) for length in lengths]
    batches = list(offline.batches_by_length(ids, 256, 8))
    assert sorted(length for batch in batches for length in batch.lengths.tolist()) == sorted(lengths)
    grid = offline.grid_of(batches, 8)
    for batch in batches:
        rows, length = grid.fit(len(batch.lengths), int(batch.lengths.max()))
        assert rows * length <= 256 and length % 8 == 0
        assert rows >= len(batch.lengths) and length >= batch.lengths.max()
        assert int(batch.lengths.sum()) == len(batch.input_ids)
    assert int(batches[0].lengths.max()) == 250


def test_flags_of_serve_make_a_configuration(tmp_path: Path) -> None:
    config = server_config(tmp_path, ["--max-batch-tokens", "256", "--devices=cpu:0,cpu:1", "--max-age-s", "0.2"])
    assert (config.max_batch_tokens, config.devices, config.max_age_s) == (256, "cpu:0,cpu:1", 0.2)
    with pytest.raises(ValueError, match="--nonsense is no option"):
        server_config(tmp_path, ["--nonsense", "1"])


def test_processes_are_read_from_the_kernel() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        pids = processes.tree(os.getpid())
        assert pids[0] == os.getpid() and child.pid in pids
        assert processes.pss_bytes(os.getpid()) > 1 << 20
        assert processes.open_files(os.getpid()) >= 3
        sum(range(3_000_000))
        assert processes.cpu_s(os.getpid()) > 0
    finally:
        child.kill()
        child.wait()
    sample = processes.memory([os.getpid(), child.pid], time.monotonic())
    assert set(sample.pss_bytes) == {os.getpid()}


async def test_the_client_reads_one_answer_after_another(server: Server) -> None:
    server.behave = lambda number: Reply(429, headers=("Retry-After: 3",)) if number == 1 else Reply()
    client = Client(server.port)
    body = embeddings_body("tiny", ["a", "b"])
    first, _, answer = await client.post("/v1/embeddings", body)
    second, headers, _ = await client.post("/v1/embeddings", body)
    client.close()
    assert (first, second, headers["retry-after"]) == (200, 429, "3")
    assert answer.count(b"embedding") >= 2
    assert server.connections == 1


async def test_an_attack_is_decided_by_its_seed_and_leaves_nobody_stopped() -> None:
    code = "import time\nwhile True: time.sleep(0.01)"
    victims = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    try:
        attacker = Attacker(lambda: [each.pid for each in victims if each.poll() is None], 3, 0.02, 0.05)
        attack = asyncio.create_task(attacker.run())
        await asyncio.sleep(0.3)
        attack.cancel()
        await asyncio.wait([attack])
        assert attacker.blows
        for each in victims:
            if each.poll() is None:
                state = Path(f"/proc/{each.pid}/stat").read_text().rpartition(")")[2].split()[0]
                assert state != "T"
    finally:
        for each in victims:
            each.kill()
            each.wait()

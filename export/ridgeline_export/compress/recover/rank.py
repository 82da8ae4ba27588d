"""One of the processes that train on several devices."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from ridgeline_export.compress.progress import Progress, Silent, Step
from ridgeline_export.compress.recover.fit import fit
from ridgeline_export.compress.recover.world import World
from ridgeline_export.errors import ExportError, summary

# While the first process evaluates, the others wait for it; a dead one is noticed by the parent, not by a timeout.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Place:
    """A process among those of a run.

    meeting: a file that does not exist yet, by which the processes find each other
    """

    rank: int
    size: int
    device: str
    meeting: str


class _Reports:
    """Progress of the first process, sent to the one that shows it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def stage(self, description: str) -> AbstractContextManager[None]:
        return nullcontext()

    def train(self, step: Step) -> None:
        self._connection.send(step)

    def say(self, sentence: str) -> None:
        self._connection.send(sentence)


def work(job: bytes, place: Place, connection: Connection) -> None:
    """A process's life: it sends Steps and sentences, and in the end what training came to, or what went wrong.

    job: model, objective, tokens, training, directory and hooks, by torch.save
    """
    # Ctrl-C reaches the whole group of processes; the one that shows the progress decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        with _group(place) as world:
            model, objective, tokens, training, directory, hooks = _unpacked(job)
            progress: Progress = _Reports(connection) if world.rank == 0 else Silent()
            connection.send(fit(model, objective, tokens, training, directory, progress, hooks, world))
    except ExportError as error:
        connection.send(error)
    except Exception as error:
        import traceback

        connection.send(RuntimeError(f"{place.device}: {summary(error)}\n{traceback.format_exc()}"))
        sys.exit(1)


@contextlib.contextmanager
def _group(place: Place) -> Iterator[World]:
    import torch
    from torch import distributed

    device = torch.device(place.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // place.size))
        # All processes are on this machine; without it gloo looks up the host's name, which may lead nowhere.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{place.meeting}",
        rank=place.rank,
        world_size=place.size,
        timeout=_PATIENCE,
        device_id=device if device.type == "cuda" else None,
    )
    yield World(device, place.rank, place.size)
    distributed.destroy_process_group()


def _die_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _unpacked(job: bytes) -> Any:
    import torch

    # Not weights_only: it came from this program's own process, through a pipe.
    return torch.load(io.BytesIO(job), map_location="cpu", weights_only=False)

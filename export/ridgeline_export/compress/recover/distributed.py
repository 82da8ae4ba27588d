"""One training run on several devices: a process each, by torch's DistributedDataParallel.

This process trains nothing: it shows the progress, and ends all others when one of them dies or the user gives up. The
weights come back by the checkpoint, which the first process writes last of all.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.progress import Progress, Silent, Step
from ridgeline_export.compress.recover.fit import fit
from ridgeline_export.compress.recover.objective import Hook, Objective, Trained
from ridgeline_export.compress.recover.rank import Place, work
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.compress.recover.world import World
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import ExportError, TrainingError, summary

if TYPE_CHECKING:
    import torch

# After one process failed, how long others may take to say why they did, which may be the better reason.
_LAST_WORDS_S = 2.0


def fit_on_several(
    model: Any,
    objective: Objective,
    tokens: Tokens,
    training: Training,
    directory: Path,
    progress: Progress,
    hooks: Sequence[Hook],
    devices: Sequence[torch.device],
) -> Trained:
    """Train as `fit` does, with the texts of each batch divided among the devices.

    The model, the objective and the hooks travel to the processes by pickle; what of the objective's loss compares the
    texts of a batch compares those on the same device.
    Raises TrainingError when they cannot travel or a process dies, and whatever a process raises.
    """
    job = _packed((model, objective, tokens, training, directory, tuple(hooks)))
    with tempfile.TemporaryDirectory() as meeting, _Ranks(job, Path(meeting) / "ranks", devices) as ranks:
        resumed_at = ranks.follow(progress)
    # The run is over: this takes the weights and the hooks' state from the checkpoint and makes no step.
    here = World(next(model.parameters()).device)
    trained = fit(model, objective, tokens, training, directory, Silent(), hooks, here)
    return Trained(trained.steps, trained.seconds, trained.history, trained.best, resumed_at)


class _Ranks:
    """The processes; gone when the context ends, however it does."""

    def __init__(self, job: bytes, meeting: Path, devices: Sequence[torch.device]) -> None:
        import torch.multiprocessing as multiprocessing

        context = multiprocessing.get_context("spawn")
        self._devices = devices
        self._connections: list[Connection] = []
        self._theirs: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for rank, device in enumerate(devices):
            mine, theirs = context.Pipe()
            place = Place(rank, len(devices), str(device), str(meeting))
            self._processes.append(context.Process(target=work, args=(job, place, theirs), daemon=True))
            self._connections.append(mine)
            self._theirs.append(theirs)

    def __enter__(self) -> _Ranks:
        try:
            with _quiet_torch():
                for process in self._processes:
                    process.start()
            # Held by the processes alone, so that their ends are seen.
            for connection in self._theirs:
                connection.close()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def follow(self, progress: Progress) -> int:
        """Show what the first process reports until all are done; the step that the run went on from."""
        resumed_at = 0
        is_done = [False] * len(self._processes)
        while not all(is_done):
            going = [rank for rank, done in enumerate(is_done) if not done]
            wait([*(self._connections[rank] for rank in going), *(self._processes[rank].sentinel for rank in going)])
            for rank in going:
                # Asked before the message is: whoever has ended has said everything.
                has_ended = not self._processes[rank].is_alive()
                message = _received(self._connections[rank])
                if isinstance(message, Step):
                    progress.train(message)
                elif isinstance(message, str):
                    progress.say(message)
                elif isinstance(message, Trained):
                    is_done[rank] = True
                    resumed_at = message.resumed_at
                elif isinstance(message, Exception):
                    raise self._reason(rank, message)
                elif has_ended and message is None:
                    raise self._reason(rank, None)
        return resumed_at

    def _reason(self, rank: int, failure: Exception | None) -> Exception:
        """What to raise: when one process fails, the others' collectives fail too, and may say so first."""
        if isinstance(failure, ExportError):
            return failure
        others = {self._connections[number]: number for number in range(len(self._processes)) if number != rank}
        ready = set(wait(list(others), timeout=_LAST_WORDS_S))
        for connection in [each for each in others if each in ready]:
            message = _received(connection)
            while isinstance(message, Step | str):
                message = _received(connection)
            if isinstance(message, ExportError):
                return message
            if message is None:
                process = self._processes[others[connection]]
                process.join(timeout=_LAST_WORDS_S)
                if process.exitcode:
                    failure, rank = None, others[connection]
        if failure is not None:
            return failure
        return TrainingError(
            f"the training process of {self._devices[rank]} ended ({_end_of(self._processes[rank])}); run the same "
            "command again: it goes on from the last checkpoint"
        )

    def _end(self) -> None:
        for process in self._processes:
            if process.pid is not None and process.is_alive():
                process.kill()
        for process in self._processes:
            if process.pid is not None:
                process.join()
        for connection in self._connections:
            connection.close()


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    """Processes started inside do not warn that a model has no unused parameters after all."""
    before = os.environ.get("TORCH_CPP_LOG_LEVEL")
    os.environ["TORCH_CPP_LOG_LEVEL"] = before or "ERROR"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCH_CPP_LOG_LEVEL"]


def _received(connection: Connection) -> Any:
    """The next message; None when there is none, or none will come."""
    try:
        return connection.recv() if connection.poll() else None
    except (EOFError, OSError):
        return None


def _end_of(process: BaseProcess) -> str:
    process.join(timeout=_LAST_WORDS_S)
    code = process.exitcode or 0
    if code == -signal.SIGKILL:
        return "killed, by the system when memory ran out or by somebody"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _packed(parts: tuple[Any, ...]) -> bytes:
    """By torch.save, which keeps shared weights shared; shared memory is scarce in containers."""
    import torch

    buffer = io.BytesIO()
    try:
        torch.save(parts, buffer)
    except Exception as error:  # pickle's errors are of many types
        raise TrainingError(
            f"this model or objective cannot be sent to several devices ({summary(error)}); train on one of --devices"
        ) from error
    return buffer.getvalue()

"""Models that come, go and are replaced while an engine answers.

A new version starts beside the old one: its workers load, warm up and measure while the old one serves. Once it is
ready, new requests go to it; the old one answers what it has taken in, and ends. When it does not get ready, nothing
has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from ridgeline_server.config import ModelSettings, ServerConfig, config_of
from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.loading import LoadedModel, ReadModel, read_model, warn_of_shared_cores
from ridgeline_server.engine.model import BatchObserver
from ridgeline_server.engine.turns import Turns
from ridgeline_server.errors import ConflictError, LoadError, StartupError, UnavailableError
from ridgeline_server.request import ModelInfo
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.memory import free_bytes

log = logging.getLogger(__name__)

_POLL_S = 0.01
_RETRY_AFTER_S = 1.0
_MOST_FAILURES = 64
_MIB = 1 << 20


class Stage(StrEnum):
    """Where a version of a model stands."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version of a model. info: None while it is loading."""

    version: int
    stage: Stage
    settings: ModelSettings
    info: ModelInfo | None = None


class Fleet:
    """Loads, replaces and unloads an engine's models. Lives on the engine's event loop, which nothing here blocks."""

    def __init__(
        self, engine: Engine, config: ServerConfig, observe: BatchObserver, turns: Turns | None = None
    ) -> None:
        """turns: that the engine's models take"""
        self._turns = Turns() if turns is None else turns
        self._engine = engine
        self._config = config
        self._observe = observe
        # One at a time: each measures while nothing else starts.
        self._turn = asyncio.Lock()
        self._versions = {model.served.name: model.served.version for model in engine.loaded}
        self._loading: dict[str, tuple[ModelSettings, asyncio.Task[LoadedModel]]] = {}
        self._draining: dict[LoadedModel, asyncio.Task[None]] = {}
        self._failures: dict[str, str] = {}
        self._watchers: list[Callable[[], None]] = []
        self._is_started = False
        self._is_closed = False

    async def start(self) -> None:
        """Start the engine's first models. Raises StartupError when one cannot be loaded."""
        async with self._turn:
            await self._engine.start()
        self._is_started = True

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever models came, went or were replaced."""
        self._watchers.append(changed)

    async def load(self, settings: ModelSettings) -> ModelInfo:
        """Load a model; return once it serves. One of its name is replaced without a lost request.

        It goes on when the caller is cancelled.

        Raises LoadError when it cannot be loaded, and what was served stays; ConflictError while one of its name is
        being loaded; UnavailableError when the server stops.
        """
        self._check_open()
        name = settings.name
        if name in self._loading:
            raise ConflictError(f"model '{name}' is being loaded already; wait until GET /admin/models tells its end")
        task = asyncio.get_running_loop().create_task(self._load(settings))
        self._loading[name] = settings, task
        task.add_done_callback(lambda done: self._loaded(name, done))
        await asyncio.wait([task])
        if task.cancelled():
            raise _stopping()
        return task.result().info()

    async def unload(self, name: str) -> ModelInfo:
        """Take a model out; return once it has answered what it took in and its workers have ended.

        It goes on when the caller is cancelled.

        Raises UnknownModelError, ConflictError while one of its name is being loaded, UnavailableError before the
        server is ready or when it stops.
        """
        self._check_open()
        if not self._is_started:
            raise UnavailableError("the server is starting; try again when GET /ready says so", _RETRY_AFTER_S)
        if name in self._loading:
            raise ConflictError(f"model '{name}' is being loaded; unload it when GET /admin/models tells its end")
        model = self._engine.take_out(name)
        info = model.info()
        log.info("model '%s', version %d, takes no more requests", name, info.version)
        drained = self._drain(model)
        self._changed()
        await asyncio.wait([drained])
        return info

    def settings_of(self, name: str) -> ModelSettings | None:
        """What was said of a served model; None when no such model is served."""
        return next((model.settings for model in self._engine.loaded if model.served.name == name), None)

    def states(self) -> list[VersionState]:
        """Every version that holds memory: those that serve first, in the engine's order."""
        serving = [_state(model, Stage.SERVING) for model in self._engine.loaded]
        loading = [
            VersionState(self._versions.get(name, 0) + 1, Stage.LOADING, settings)
            for name, (settings, _) in self._loading.items()
        ]
        return [*serving, *loading, *(_state(model, Stage.DRAINING) for model in self._draining)]

    def failures(self) -> dict[str, str]:
        """Why the last load of a name failed, of names whose last load did; the newest last."""
        return dict(self._failures)

    def close(self) -> None:
        """Load and unload nothing any more: what is being loaded ends, and what drains goes on."""
        if not self._is_closed:
            self._is_closed = True
            for _, task in self._loading.values():
                task.cancel()

    async def stop(self) -> None:
        """End all workers; requests that are still here get an error."""
        self.close()
        tasks = [task for _, task in self._loading.values()]
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(self._engine.stop(), *(model.stop() for model in self._draining))

    async def _load(self, settings: ModelSettings) -> LoadedModel:
        async with self._turn:
            name = settings.name
            others = [model.settings for model in self._engine.loaded if model.served.name != name]
            config = config_of(self._config, settings, others)
            try:
                read = await asyncio.to_thread(_read, settings, config)
            except StartupError as error:
                raise LoadError(f"model '{name}' cannot be loaded: {error}") from error
            model = read.serve(self._observe, self._turns, self._versions.get(name, 0) + 1)
            self._take_over_peaks(model)
            await _start(model)
            warn_of_shared_cores(settings, others)
            self._versions[name] = model.served.version
            replaced = self._engine.put(model)
            log.info("model '%s', version %d, serves", name, model.served.version)
            if replaced is not None:
                self._drain(replaced)
            self._changed()
            return model

    def _loaded(self, name: str, done: asyncio.Task[LoadedModel]) -> None:
        del self._loading[name]
        self._failures.pop(name, None)
        if done.cancelled() or (error := done.exception()) is None:
            return
        log.error("%s", error, exc_info=None if isinstance(error, LoadError) else error)
        self._failures[name] = str(error) if isinstance(error, LoadError) else "internal error; the log has more"
        if len(self._failures) > _MOST_FAILURES:
            del self._failures[next(iter(self._failures))]

    def _take_over_peaks(self, model: LoadedModel) -> None:
        """Where the same was measured before, it is not measured again: the server was quieter then."""
        known = {
            _measured_as(replica.load.plan): replica.peak_flops_per_s
            for other in (*self._draining, *self._engine.loaded)
            for replica in other.served.replicas
        }
        for replica in model.served.replicas:
            replica.load = replace(replica.load, peak_flops_per_s=known.get(_measured_as(replica.load.plan)))

    def _drain(self, model: LoadedModel) -> asyncio.Task[None]:
        task = self._draining[model] = asyncio.get_running_loop().create_task(self._answer_rest(model))
        return task

    async def _answer_rest(self, model: LoadedModel) -> None:
        """However long it takes: requests have deadlines. Of a server that stops, `stop` ends it."""
        try:
            while not (model.is_idle or model.served.is_stopped):
                await asyncio.sleep(_POLL_S)
            await model.stop()
        finally:
            del self._draining[model]
        log.info("model '%s', version %d, has ended", model.served.name, model.served.version)
        self._changed()

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()

    def _check_open(self) -> None:
        if self._is_closed:
            raise _stopping()


def _read(settings: ModelSettings, config: ServerConfig) -> ReadModel:
    """As read_model. Raises StartupError also when the weights alone are more than the memory that is left."""
    read = read_model(settings, config)
    plan = read.plans[0]
    needed = len(read.plans) * sum(file.size_bytes for file in plan.files)
    free = free_bytes()
    if plan.device.kind == "cpu" and needed > free:
        raise StartupError(
            f"its weights take {needed / _MIB:,.0f} MiB and {free / _MIB:,.0f} MiB of memory are left, since two "
            "versions are in memory until the old one has answered; unload a model first, or load a smaller variant"
        )
    return read


async def _start(model: LoadedModel) -> None:
    """Start a model; of one that does not get ready nothing is left. Raises LoadError."""
    try:
        await model.start()
    except StartupError as error:
        await model.stop()
        raise LoadError(str(error)) from error
    except BaseException:
        await model.stop()
        raise


def _state(model: LoadedModel, stage: Stage) -> VersionState:
    return VersionState(model.served.version, stage, model.settings, model.info())


def _measured_as(plan: Plan) -> tuple[object, ...]:
    """What the measured peak of a replica depends on."""
    return plan.runtime, plan.precision, plan.float_precision, plan.device, plan.device_share, plan.threads, plan.cores


def _stopping() -> UnavailableError:
    return UnavailableError("the server is stopping", _RETRY_AFTER_S)

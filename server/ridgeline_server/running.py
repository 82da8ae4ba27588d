"""One server from start to stop: HTTP in this process, workers beside it, signals, and a drained end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import time
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

import uvloop

from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.fleet import Fleet
from ridgeline_server.engine.loading import load_models
from ridgeline_server.engine.repository import Repository
from ridgeline_server.engine.turns import Turns
from ridgeline_server.errors import StartupError
from ridgeline_server.heap import give_back_large_buffers
from ridgeline_server.report.cache import CacheMetrics
from ridgeline_server.report.metrics import Metrics
from ridgeline_server.report.report import Report
from ridgeline_server.security.locks import Locks, load_locks

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridgeline_server.config import ServerConfig
    from ridgeline_server.http.ledger import Ledger
    from ridgeline_server.http.server import HttpServer
    from ridgeline_server.logs import JsonHandler
    from ridgeline_server.report.tracing import Tracing
    from ridgeline_server.request import BatchRecord, ModelInfo
    from ridgeline_server.rpc.server import RpcServer

# Workers that have not ended by then end with this process, which holds the other ends of their sockets.
_STOP_S = 3.0
# For sending the last traces, after everything else.
_TRACES_S = 3.0
_MOST_FILES = 65_536
# Connections that the kernel holds until they are accepted.
_BACKLOG = 2048
# How often it is looked whether gRPC is to stop.
_POLL_S = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """What there is to say about a server that is ready. why: for each model, the reason for its plan.

    grpc_port: None where gRPC is not served
    """

    url: str
    models: list[ModelInfo]
    why: list[str]
    seconds: float
    grpc_port: int | None = None


@dataclass(slots=True)
class _Stop:
    """What a signal does: the first one drains the server, if there is one by then; the second ends the process."""

    fleet: Fleet
    server: HttpServer | None = None
    is_asked: bool = False

    def __call__(self, number: int) -> None:
        if self.is_asked or (self.server is not None and self.server.should_exit):
            os._exit(128 + number)
        self.is_asked = True
        self.fleet.close()
        if self.server is not None:
            self.server.stop()


def run(config: ServerConfig, announce: Callable[[Started], None], log: JsonHandler | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; a second signal ends the process at once.

    SIGHUP takes up changed files of keys and certificates, where there are any.

    announce: called once, when every model is ready
    log:      takes a line for each request
    Raises StartupError when the server cannot start.
    """
    locks = load_locks(config)
    give_back_large_buffers()
    _allow_connections()
    tracing = _make_tracing(config)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config, announce, locks, log, tracing))
    finally:
        if tracing is not None:
            tracing.close(_TRACES_S)


def _make_tracing(config: ServerConfig) -> Tracing | None:
    """What takes the spans of requests, None when nobody asks for them. Raises StartupError."""
    if config.otlp_endpoint is None:
        return None
    try:
        from ridgeline_server.report.tracing import make_tracing
    except ImportError as error:
        raise StartupError(
            f"--otlp-endpoint needs a package that is missing ({error}); run: pip install 'ridgeline[otel]'"
        ) from error
    return make_tracing(config.otlp_endpoint, config.trace_ratio, version("ridgeline"))


async def _run(
    config: ServerConfig,
    announce: Callable[[Started], None],
    locks: Locks,
    log: JsonHandler | None,
    tracing: Tracing | None,
) -> None:
    began = time.monotonic()
    report, metrics = Report(), Metrics()

    def observe(record: BatchRecord) -> None:
        report.record_batch(record)
        metrics.record_batch(record)

    repository = None if config.model_repository is None else Repository(config.model_repository)
    if repository is not None and not (locks.keys and locks.keys.has_admin):
        logger.warning("no key is an admin's, so that nobody can load models: RIDGELINE_ADMIN_KEY makes one")
    turns = Turns()
    engine = Engine(load_models(config, observe, turns), config)
    fleet = Fleet(engine, config, observe, turns)
    fleet.watch(partial(_record_peaks, engine, report))
    if engine.cache is not None:
        metrics.registry.register(CacheMetrics(engine.cache.counts, config.cache_bytes))
    with _listen(config) as listener:
        stop = _Stop(fleet)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        if locks.keys is not None or locks.tls is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, locks.reload)
        starting = asyncio.create_task(fleet.start())
        try:
            # Its libraries take a quarter of a second to import: the workers load meanwhile.
            await asyncio.to_thread(import_module, "ridgeline_server.http")
            from ridgeline_server.http.ledger import make_ledger

            ledger = make_ledger(metrics, locks.keys is not None, log)
            server = stop.server = _make_server(
                engine, config, report, metrics, locks, ledger, tracing, fleet, repository
            )
            if stop.is_asked:
                return
            rpc = await _start_rpc(engine, config, metrics, locks, ledger, tracing, fleet)
            serving = asyncio.create_task(_serve(server, listener, rpc, config.drain_timeout_s))
            try:
                await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    _record_peaks(engine, report)
                    why = [model.served.plan.why for model in engine.loaded]
                    # What is loaded by now stays: the garbage collector need not look at it while requests wait.
                    gc.collect()
                    gc.freeze()
                    url = _url(listener, locks.tls is not None)
                    rpc_port = None if rpc is None else rpc.port
                    announce(Started(url, engine.models(), why, time.monotonic() - began, rpc_port))
                    await serving
            finally:
                fleet.close()
                server.stop()
                await serving
        finally:
            starting.cancel()
            await _stop(fleet)


def _make_server(
    engine: Engine,
    config: ServerConfig,
    report: Report,
    metrics: Metrics,
    locks: Locks,
    ledger: Ledger | None,
    tracing: Tracing | None,
    fleet: Fleet,
    repository: Repository | None,
) -> HttpServer:
    """The HTTP server."""
    from ridgeline_server.http.admin import Administration
    from ridgeline_server.http.app import create_app
    from ridgeline_server.http.server import HttpServer

    administration = None if repository is None else Administration(fleet, repository)
    door = create_app(
        engine,
        config,
        report,
        metrics,
        keys=locks.keys,
        ledger=ledger,
        tracing=tracing,
        administration=administration,
    )
    return HttpServer(door, config.drain_timeout_s, None if locks.tls is None else locks.tls.context)


async def _start_rpc(
    engine: Engine,
    config: ServerConfig,
    metrics: Metrics,
    locks: Locks,
    ledger: Ledger | None,
    tracing: Tracing | None,
    fleet: Fleet,
) -> RpcServer | None:
    """The gRPC server, listening; None when it is not asked for. Raises StartupError."""
    if config.grpc_port is None:
        return None
    try:
        from ridgeline_server.rpc.entrance import Entrance
        from ridgeline_server.rpc.server import RpcServer, credentials_of
        from ridgeline_server.rpc.service import Service
    except ImportError as error:
        raise StartupError(
            f"--grpc-port needs a package that is missing ({error}); run: pip install 'ridgeline[grpc]'"
        ) from error
    from ridgeline_server.http.catalog import Catalog

    catalog = Catalog(engine)
    fleet.watch(catalog.forget)
    service = Service(engine, catalog, config, Entrance(config, metrics, locks.keys, ledger, tracing))
    credentials = None
    if config.tls_cert is not None:
        credentials = credentials_of(config.tls_cert, config.tls_key, config.tls_client_ca)
    server = RpcServer(service.handler(), config.max_body_bytes)
    await server.start(config.host, config.grpc_port, credentials)
    return server


async def _serve(server: HttpServer, listener: socket.socket, rpc: RpcServer | None, drain_timeout_s: float) -> None:
    """Serve until the server is stopped, and then drain: HTTP and gRPC at the same time."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    if rpc is not None:
        while not server.should_exit and not serving.done():
            await asyncio.sleep(_POLL_S)
        await rpc.stop(drain_timeout_s)
    await serving


async def _stop(fleet: Fleet) -> None:
    try:
        await asyncio.wait_for(fleet.stop(), _STOP_S)
    except TimeoutError:
        logger.warning("the workers did not end within %g s", _STOP_S)


def _record_peaks(engine: Engine, report: Report) -> None:
    report.forget_peaks()
    for model in engine.loaded:
        for replica in model.served.replicas:
            precision = replica.load.plan.precision
            report.record_peak(model.served.name, replica.index, precision, replica.peak_flops_per_s)


def _allow_connections() -> None:
    """Each connection is an open file, and the usual soft limit of 1024 is few of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _listen(config: ServerConfig) -> socket.socket:
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((config.host, config.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        raise StartupError(
            f"cannot listen on {config.host}, port {config.port}: {error}; choose another with --host or --port"
        ) from error
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket, is_tls: bool) -> str:
    host, port = listener.getsockname()[:2]
    return f"{'https' if is_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

"""The peers: how each is started, in which precision it computes, and the settings among which its best is chosen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peers.environments import CACHE, HERE, model_directory, python_of

# What every peer gets: no hub, no telemetry.
_QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": str(CACHE)}


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of running a peer.

    name:        in words
    command:     with {port} where the port belongs
    environment: variables beside ours
    """

    name: str
    command: list[str]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer of the comparison.

    precision: of its matrix products
    path:      that embeddings are posted to; None = it is no server, `encode_loop.py` runs it
    ready:     answers 200 to a GET once it can embed
    settings:  made when they are needed, since that may install something
    """

    name: str
    precision: str
    path: str | None
    ready: str
    settings: Callable[[Path], list[Setting]]


def _thread_counts() -> list[int]:
    cores = len(os.sched_getaffinity(0))
    return sorted({1, cores})


def _threads(count: int) -> dict[str, str]:
    return {**_QUIET, "OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}


def _ridgeline(variant: str) -> Callable[[Path], list[Setting]]:
    def settings(bundle: Path) -> list[Setting]:
        command = [str(Path(sys.executable).with_name("ridgeline")), "serve", str(bundle), "--variant", variant]
        # Peers queue without end; 32 texts from each of 32 connections are more than the default lets wait.
        return [Setting("a queue of 60 s", [*command, "--max-queue-s", "60", "--port", "{port}"], {})]

    return settings


def _infinity(engine: str) -> Callable[[Path], list[Setting]]:
    def settings(bundle: Path) -> list[Setting]:
        python = str(python_of("infinity"))
        flags = ["--model-id", ".", "--engine", engine, "--device", "cpu"]
        fixed = ["--no-bettertransformer", "--dtype", "float32", "--host", "127.0.0.1", "--port", "{port}"]
        command = [
            python,
            str(HERE.absolute() / "infinity_launch.py"),
            str(model_directory(bundle)),
            "v2",
            *flags,
            *fixed,
            "--log-level",
            "error",
        ]
        return [
            Setting(f"{count} thread(s), batches of {size}", [*command, "--batch-size", str(size)], _threads(count))
            for count in _thread_counts()
            for size in (8, 32)
        ]

    return settings


def _plain(bundle: Path) -> list[Setting]:
    command = [str(python_of("fastapi-onnxruntime")), str(HERE / "plain_server.py"), str(model_directory(bundle))]
    return [
        Setting(f"{count} thread(s) a run", [*command, "--port", "{port}", "--threads", str(count)], _QUIET)
        for count in _thread_counts()
    ]


def _encode(bundle: Path) -> list[Setting]:
    command = [str(python_of("sentence-transformers")), str(HERE / "encode_loop.py"), str(model_directory(bundle))]
    return [
        Setting(f"{count} thread(s)", [*command, "--threads", str(count)], _threads(count))
        for count in _thread_counts()
    ]


PEERS = {
    "ridgeline-int8": Peer("Ridgeline int8", "int8", "/v1/embeddings", "/ready", _ridgeline("int8")),
    "ridgeline-fp32": Peer("Ridgeline fp32", "fp32", "/v1/embeddings", "/ready", _ridgeline("fp32")),
    "infinity-torch": Peer("Infinity, torch", "fp32", "/embeddings", "/models", _infinity("torch")),
    "infinity-optimum": Peer("Infinity, optimum", "fp32", "/embeddings", "/models", _infinity("optimum")),
    "fastapi-onnxruntime": Peer("FastAPI + ONNX Runtime, no batching", "fp32", "/v1/embeddings", "/v1/models", _plain),
    "sentence-transformers": Peer("sentence-transformers encode, no server", "fp32", None, "", _encode),
}

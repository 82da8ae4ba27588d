"""`GET /info`: what the model is and which limits hold."""

from __future__ import annotations

import os

from ridgeline_server.config import ServerConfig
from ridgeline_server.http.tei.kinds import CLASSIFIER, EMBEDDING, RERANKER, SPARSE, SPLADE, kind_of
from ridgeline_server.request import ModelInfo
from ridgeline_server.version import server_version


def describe(info: ModelInfo, config: ServerConfig) -> dict[str, object]:
    """The body of `GET /info` about a model."""
    max_batch_tokens = info.max_batch_tokens or config.max_batch_tokens or info.max_tokens
    return {
        "model_id": info.model_id,
        "model_sha": info.revision,
        "model_dtype": info.precision,
        "model_type": _model_type(info),
        # Admission counts tokens here: so many requests of full length may wait.
        "max_concurrent_requests": max(config.max_queue_tokens // max(info.max_tokens, 1), 1),
        "max_input_length": info.max_tokens,
        "max_batch_tokens": max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": config.max_client_batch_size,
        "auto_truncate": config.overlong == "truncate" if info.truncates is None else info.truncates,
        "tokenization_workers": len(os.sched_getaffinity(0)),
        "version": server_version(),
        "sha": None,
        "docker_label": None,
    }


def _model_type(info: ModelInfo) -> dict[str, object]:
    """What the model is; of tasks that text-embeddings-inference does not know, the task's name is the key."""
    kind = kind_of(info)
    if kind == EMBEDDING:
        return {EMBEDDING: {"pooling": info.pooling or "none"}}
    if kind == SPARSE:
        return {EMBEDDING: {"pooling": SPLADE}}
    labels = info.labels or ()
    if kind in (CLASSIFIER, RERANKER) or labels:
        names = {str(index): label for index, label in enumerate(labels)}
        return {kind: {"id2label": names, "label2id": {label: index for index, label in enumerate(labels)}}}
    return {kind: {}}

"""What text-embeddings-inference calls a model, and the refusal of models that are not for what they are asked."""

from __future__ import annotations

from ridgeline_server.http.errors import WrongModelError, quote
from ridgeline_server.request import ModelInfo

EMBEDDING = "embedding"
SPARSE = "sparse embedding"
SPLADE = "splade"
CLASSIFIER = "classifier"
RERANKER = "reranker"


def kind_of(info: ModelInfo) -> str:
    """What a model is: as there, a classifier of one class is a reranker. Other tasks keep their own name."""
    if info.task == "feature-extraction":
        return EMBEDDING
    if info.task == "fill-mask" and info.pooling == SPLADE:
        return SPARSE
    if info.task == "text-classification":
        return RERANKER if info.labels is not None and len(info.labels) == 1 else CLASSIFIER
    return info.task


def check_embeds(info: ModelInfo) -> None:
    """Raises: WrongModelError unless the model gives dense embeddings."""
    if info.task != "feature-extraction":
        raise _wrong(info, "is not an embedding model")


def check_embeds_sparsely(info: ModelInfo) -> None:
    """Raises: WrongModelError unless the model gives sparse embeddings, whether or not it was trained for it."""
    if info.task != "fill-mask":
        raise _wrong(info, "is not an embedding model with SPLADE pooling")


def check_classifies(info: ModelInfo) -> None:
    """Raises: WrongModelError unless the model is a classifier, of one class or more."""
    if info.task != "text-classification":
        raise _wrong(info, "is not a classifier model")


def check_reranks(info: ModelInfo) -> None:
    """Raises: WrongModelError unless the model gives a pair of texts one score, as far as its labels tell."""
    is_known_otherwise = info.labels is not None and len(info.labels) != 1
    if info.task != "text-classification" or is_known_otherwise:
        raise _wrong(info, "is not a re-ranker model")


def _wrong(info: ModelInfo, what: str) -> WrongModelError:
    classes = f" of {len(info.labels)} classes" if info.labels else ""
    return WrongModelError(
        f"model {what}: {quote(info.name)} is for {info.task}{classes}; ask it for that, or name another model: "
        "GET /v1/models tells what each is for"
    )

"""text-embeddings-inference's routes.

As there, fields that it does not know are ignored, `normalize` is on unless switched off, an absent `truncate` means
the server's default, and the routes without a model's name speak of the first one. Statuses follow its OpenAPI
document: 400 empty, 413 too many or too long, 422 invalid, 424 the model failed or is not for that, 429 overloaded,
503 unhealthy.
"""

from __future__ import annotations

from ridgeline_server.http.tei.info import describe
from ridgeline_server.http.tei.routes import TextEmbeddingsInference

__all__ = ["TextEmbeddingsInference", "describe"]

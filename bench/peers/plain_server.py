"""Runs in an environment of its own: FastAPI and ONNX Runtime with no batching, as a first version is often written.

The endpoint is a plain function, so that FastAPI runs it in its thread pool. One request is one run of the model.
"""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from fastapi.responses import ORJSONResponse
from pydantic import BaseModel
from tokenizers import Tokenizer

_MOST_TOKENS = 256


class EmbeddingsRequest(BaseModel):
    """What OpenAI's schema asks for, as far as it is answered here."""

    input: str | list[str]
    model: str = "plain"
    encoding_format: str = "float"


def create_app(model: Path, threads: int) -> FastAPI:
    """An application that serves model/model.onnx, each run on `threads` threads."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(_MOST_TOKENS)
    tokenizer.enable_padding()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model / "model.onnx", options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "plain", "object": "model"}]}

    @app.post("/v1/embeddings")
    def embed(request: EmbeddingsRequest) -> ORJSONResponse:
        texts = [request.input] if isinstance(request.input, str) else request.input
        encodings = tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in encodings])
        mask = np.array([each.attention_mask for each in encodings])
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = session.run(["last_hidden_state"], feed)
        vectors = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        is_base64 = request.encoding_format == "base64"
        rows = [base64.b64encode(row.tobytes()).decode() if is_base64 else row.tolist() for row in vectors]
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        tokens = int(mask.sum())
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return ORJSONResponse({"object": "list", "data": data, "model": "plain", "usage": usage})

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    app = create_app(given.model, given.threads)
    uvicorn.run(app, host="127.0.0.1", port=given.port, access_log=False, log_level="warning")

import asyncio
import json
import os

import numpy as np
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferInput, InferRequestedOutput

host = os.environ["RIDGELINE_URL"].removeprefix("http://")
headers = {"Authorization": f"Bearer {os.environ['RIDGELINE_KEY']}"}
model = "all-MiniLM-L6-v2"


def make_texts(*texts: str, is_raw: bool = True) -> list[InferInput]:
    tensor = InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], np.object_), binary_data=is_raw)
    return [tensor]


def make_tokens(ids: list[int]) -> list[InferInput]:
    tensors = []
    for name, values in (("input_ids", ids), ("attention_mask", [1] * len(ids))):
        tensors.append(InferInput(name, [1, len(ids)], "INT64"))
        tensors[-1].set_data_from_numpy(np.array([values], np.int64))
    return tensors


texts = make_texts("How tall is the tower?", "Une tour à Paris 🗼")
as_json = make_texts("How tall is the tower?", "Une tour à Paris 🗼", is_raw=False)
json_output = [InferRequestedOutput("embedding", binary_data=False)]

with tritonclient.http.InferenceServerClient(host) as client:
    is_ready = client.is_server_ready(headers) and client.is_model_ready(model, headers=headers)
    metadata = client.get_model_metadata(model, headers=headers)
    results = {
        "raw": client.infer(model, texts, headers=dict(headers)),
        "json": client.infer(model, as_json, outputs=json_output, headers=dict(headers)),
        "tokens": client.infer(model, make_tokens([101, 7592, 102]), headers=dict(headers)),
        "later": client.async_infer(model, texts, headers=dict(headers)).get_result(),
    }
    for name in ("gzip", "deflate"):
        results[name] = client.infer(
            model,
            texts,
            headers=dict(headers),  # the client adds to what it is given
            request_compression_algorithm=name,
            response_compression_algorithm=name,
        )
    classes = client.infer("nli", texts, headers=dict(headers))


async def infer() -> tritonclient.http.InferResult:
    async with tritonclient.http.aio.InferenceServerClient(host) as client:
        return await client.infer(model, texts, headers=dict(headers))


results["asyncio"] = asyncio.run(infer())
print(
    json.dumps(
        {
            "is_ready": is_ready,
            "metadata": metadata,
            "embeddings": {name: result.as_numpy("embedding").tolist() for name, result in results.items()},
            "labels": [label.decode() for label in classes.as_numpy("label")],
            "scores": classes.as_numpy("scores").tolist(),
        }
    )
)

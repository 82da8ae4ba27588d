import asyncio
import json
import os
from queue import Queue

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.grpc import InferInput, InferResult

address = os.environ["RIDGELINE_GRPC"]
headers = {"authorization": f"Bearer {os.environ['RIDGELINE_KEY']}"}
model = "all-MiniLM-L6-v2"


def make_texts(*texts: str) -> list[InferInput]:
    tensor = InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], np.object_))
    return [tensor]


def make_tokens(ids: list[int]) -> list[InferInput]:
    tensors = []
    for name, values in (("input_ids", ids), ("attention_mask", [1] * len(ids))):
        tensors.append(InferInput(name, [1, len(ids)], "INT64"))
        tensors[-1].set_data_from_numpy(np.array([values], np.int64))
    return tensors


texts = make_texts("How tall is the tower?", "Une tour à Paris 🗼")
done: Queue[InferResult | Exception] = Queue()

with tritonclient.grpc.InferenceServerClient(address) as client:
    is_ready = client.is_server_ready(headers) and client.is_model_ready(model, headers=headers)
    metadata = client.get_model_metadata(model, headers=headers, as_json=True)
    results = {
        "raw": client.infer(model, texts, headers=headers),
        "tokens": client.infer(model, make_tokens([101, 7592, 102]), headers=headers),
        "gzip": client.infer(model, texts, headers=headers, compression_algorithm="gzip"),
    }
    classes = client.infer("nli", texts, headers=headers)
    client.async_infer(model, texts, lambda result, error: done.put(error or result), headers=headers)
    results["later"] = done.get(timeout=30)


async def infer() -> InferResult:
    async with tritonclient.grpc.aio.InferenceServerClient(address) as client:
        return await client.infer(model, texts, headers=headers)


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

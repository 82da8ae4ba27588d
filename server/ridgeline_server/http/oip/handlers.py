"""The Open Inference Protocol over HTTP, with the binary tensor extension.

A body is JSON, or JSON of as many bytes as the header `Inference-Header-Content-Length` says and then the raw elements
of the inputs that have a `binary_data_size`, in their order. Answers likewise, where a request wants raw elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.asking import ask, beside_loop, write_json
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import quote
from ridgeline_server.http.exchange import JSON, OCTETS, Exchange, Headers
from ridgeline_server.http.oip import metadata, tensors
from ridgeline_server.http.oip.inference import Asked, prepare
from ridgeline_server.http.oip.tensors import Tensor
from ridgeline_server.http.parsing import json_object, optional_object

_KEYS = (b'"inputs"', b'"outputs"', b'"parameters"', b'"id"')
HEADER_LENGTH = b"inference-header-content-length"
# Of a request's parameters those that say how it travels, or that Triton's clients send without a meaning here.
_TRANSPORT = ("binary_data_output", "sequence_id", "sequence_start", "sequence_end", "priority", "timeout")


class OpenInference:
    """Handlers of the `/v2` routes."""

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig) -> None:
        self._engine = engine
        self._catalog = catalog
        self._config = config

    async def infer(self, exchange: Exchange, body: bytes) -> tuple[bytes, Headers]:
        """`POST /v2/models/{name}[/versions/{version}]/infer`."""
        model = self._catalog.find(exchange.params.get("name"))
        metadata.check_version(model, exchange.params.get("version"))
        head, raw = _split(body, exchange.given.get(HEADER_LENGTH))
        fields = json_object(head, _KEYS)
        request_id = fields.get("id")
        if request_id is not None and type(request_id) is not str:
            raise InvalidInputError(f"`id` is {quote(request_id)}; give a text, or leave it out", "id")
        parameters = optional_object(fields.get("parameters"), "parameters")
        outputs = fields.get("outputs")
        wanted = [] if outputs is None else _entries(outputs, "outputs")
        asked = Asked(
            inputs=_inputs(fields.get("inputs"), raw, self._config.max_client_batch_size),
            outputs=tuple(name for name, _ in wanted),
            parameters={key: value for key, value in parameters.items() if key not in _TRANSPORT},
        )
        work = prepare(model, asked, self._config.max_answer_bytes)
        found: list[Tensor] = await ask(self._engine, exchange, model, work)
        is_binary = {
            name: optional_object(entry.get("parameters"), f"outputs.{name}").get("binary_data")
            for name, entry in wanted
        }
        default = parameters.get("binary_data_output") is True
        answer: dict[str, Any] = {"model_name": model.name, "model_version": metadata.version_of(model)}
        if request_id:
            answer["id"] = request_id
        if exchange.wants_cost:
            answer["parameters"] = {"ridgeline": exchange.cost()}
        wants_raw = [tensor for tensor in found if is_binary.get(tensor.name, default)]
        elements = await beside_loop(
            exchange.size, lambda: {tensor.name: tensors.to_bytes(tensor) for tensor in wants_raw}
        )
        answer["outputs"] = [_described(tensor, elements.get(tensor.name)) for tensor in found]
        head = await write_json(exchange, answer)
        if not elements:
            return head, [JSON]
        body = await beside_loop(exchange.size, b"".join, (head, *elements.values()))
        return body, [OCTETS, (b"inference-header-content-length", b"%d" % len(head))]

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """`GET /v2/models/{name}`. Raises UnknownModelError."""
        info = self._catalog.find(name)
        metadata.check_version(info, version)
        return metadata.model_metadata(info)

    def is_model_ready(self, name: str, version: str | None = None) -> bool:
        """`GET /v2/models/{name}/ready`. Raises UnknownModelError."""
        known = self._catalog.find(name)
        metadata.check_version(known, version)
        return any(info.ready_replicas for info in self._engine.models() if info.name == known.name)

    def index(self) -> list[dict[str, Any]]:
        """`POST /v2/repository/index`."""
        return metadata.model_index(self._engine.models())


def _split(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isdigit() or len(header_length) > 18 or int(header_length) > len(body):
        raise InvalidInputError(
            f"Inference-Header-Content-Length is {quote(header_length.decode('latin-1'))} and the body has {len(body)} "
            "bytes; give the length of the JSON that the body begins with"
        )
    length = int(header_length)
    return body[:length], memoryview(body)[length:]


def _entries(value: object, field: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Named objects of an array, by name."""
    if type(value) is not list:
        raise InvalidInputError(f"`{field}` is {quote(value)}; give an array of objects with a name", field)
    found: dict[str, Mapping[str, Any]] = {}
    for index, entry in enumerate(value):
        name = entry.get("name") if type(entry) is dict else None
        if type(name) is not str or not name:
            raise InvalidInputError(f"`{field}[{index}]` has no name; give an object with a name", field)
        if name in found:
            raise InvalidInputError(f"`{field}` holds {quote(name)} twice; give each once", field)
        found[name] = entry
    return list(found.items())


def _inputs(value: object, raw: memoryview, most_inputs: int) -> dict[str, Tensor]:
    entries = _entries(value, "inputs") if value is not None else []
    if not entries:
        raise InvalidInputError("`inputs` is missing or empty; give the model's input tensors", "inputs")
    found = {}
    at = 0
    for name, entry in entries:
        datatype = tensors.check_datatype(entry.get("datatype"), name)
        shape = tensors.read_shape(entry.get("shape"), name, datatype, most_inputs)
        size = optional_object(entry.get("parameters"), f"inputs.{name}.parameters").get("binary_data_size")
        if size is None:
            if "data" not in entry:
                raise InvalidInputError(
                    f"input '{name}' has no `data` and no `binary_data_size`; give one of them", name
                )
            found[name] = tensors.of_values(name, datatype, shape, entry["data"])
            continue
        if type(size) is not int or not 0 <= size <= len(raw) - at:
            raise InvalidInputError(
                f"input '{name}' has the binary_data_size {quote(size)}, and {len(raw) - at} bytes are left for it",
                name,
            )
        found[name] = tensors.of_bytes(name, datatype, shape, raw[at : at + size])
        at += size
    if at != len(raw):
        raise InvalidInputError(
            f"{len(raw) - at} bytes behind the JSON belong to no input; give each a binary_data_size"
        )
    return found


def _described(tensor: Tensor, raw: bytes | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if raw is not None:
        return entry | {"parameters": {"binary_data_size": len(raw)}}
    return entry | {"data": tensors.to_values(tensor)}

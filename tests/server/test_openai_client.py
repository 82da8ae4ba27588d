"""The official client against a server on a loopback port."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import numpy as np
import openai
import pytest
import uvicorn

from ridgeline_server.errors import DeadlineError, InputTooLongError, OverloadedError, UnavailableError
from ridgeline_server.request import Request
from tests.server.http_fakes import DIM, Server, embedding_of


@pytest.fixture(scope="module")
def server() -> Server:
    return Server(max_body_bytes=1_000_000)


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.app, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def client(url: str, server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        yield client
    server.engine.behave = None


def test_default_call_decodes_base64(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="tiny", input=["one", "three"])
    assert [item.index for item in answer.data] == [0, 1]
    np.testing.assert_allclose(answer.data[1].embedding, embedding_of("three"), rtol=1e-6)
    assert (answer.model, answer.object) == ("tiny", "list")
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 12


def test_float_lists_are_the_same_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="tiny", input="one", encoding_format="float", dimensions=DIM, user="me")
    np.testing.assert_allclose(answer.data[0].embedding, embedding_of("one"), rtol=1e-6)


def test_token_ids(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model="tiny", input=[[1, 2, 3], [4]]).data) == 2


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "other"]
    assert client.models.retrieve("other").owned_by == "ridgeline"


def test_raw_answers_carry_our_headers(client: openai.OpenAI) -> None:
    headers = client.embeddings.with_raw_response.create(
        model="tiny", input="x" * 50, extra_headers={"X-Request-Id": "mine"}
    ).headers
    assert (headers["x-truncated"], headers["x-request-id"]) == ("1", "mine")
    assert "compute;dur=" in headers["server-timing"]


def test_errors_become_the_clients_exceptions(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError) as not_found:
        client.embeddings.create(model="gpt-9", input="a")
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="empty text") as bad:
        client.embeddings.create(model="tiny", input="")
    assert (bad.value.type, bad.value.param) == ("invalid_request_error", "input")
    with pytest.raises(openai.APIStatusError, match="larger than the allowed") as too_large:
        client.embeddings.create(model="tiny", input="x" * 3_000_000)
    assert too_large.value.status_code == 413
    server.engine.fail_with(InputTooLongError("too long", "input"))
    with pytest.raises(openai.BadRequestError) as too_long:
        client.embeddings.create(model="tiny", input="a")
    assert too_long.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OverloadedError("full", 2.0), openai.RateLimitError),
        (UnavailableError("down", 2.0), openai.InternalServerError),
        (DeadlineError("late"), openai.InternalServerError),
        (RuntimeError("bug"), openai.InternalServerError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_server_errors_become_the_clients_exceptions(
    client: openai.OpenAI, server: Server, error: Exception, kind: type[openai.APIStatusError]
) -> None:
    server.engine.fail_with(error)
    with pytest.raises(kind) as raised:
        client.embeddings.create(model="tiny", input="a")
    assert raised.value.response.headers.get("retry-after") == ("2" if hasattr(error, "retry_after_s") else None)


def test_a_refused_upload_leaves_the_connection_usable(client: openai.OpenAI, server: Server) -> None:
    server.engine.full_for_s = 1.0
    try:
        with pytest.raises(openai.RateLimitError):
            client.embeddings.create(model="tiny", input=["x" * 900] * 1000)
    finally:
        server.engine.full_for_s = None
    assert client.embeddings.create(model="tiny", input="a").data


def test_a_client_that_hangs_up_cancels_its_work(client: openai.OpenAI, server: Server) -> None:
    was_cancelled = threading.Event()

    async def wait(_: Request) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    server.engine.behave = wait
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).embeddings.create(model="tiny", input="a")
    assert was_cancelled.wait(30)

"""The programs of docs/clients.md, run by an environment of their own against a real server that is locked.

What they are told is held against PyTorch, transformers' pipelines, and the server's own routes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, pipeline

from ridgeline_export.source import find_model
from tests.conftest import Exported
from tests.server.running_server import RunningServer, running_server

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
ENVIRONMENT = ROOT / "build" / "clients"
PROGRAMS = sorted(HERE.glob("*_client.py"))
KEY = "rk_the-key-of-the-clients"
TEXTS = ["How tall is the tower?", "Une tour à Paris 🗼"]
DOCUMENTS = ["The tower is 330 metres tall.", "Butter and sugar", "Une tour à Paris 🗼"]
SERVED = ("nli", "ner", "qa", "mlm", "ranker")
REFUSALS = {
    "cohere_client": "UnauthorizedError",
    "huggingface_client": "HfHubHTTPError",
    "langchain_client": "AuthenticationError",
    "llama_index_client": "AuthenticationError",
    "openai_client": "AuthenticationError",
    "triton_grpc_client": "InferenceServerException",
    "triton_http_client": "InferenceServerException",
}


@pytest.fixture(scope="module")
def clients() -> Path:
    """The interpreter of the clients' environment."""
    if not (ENVIRONMENT / ".installed").exists():
        message = "the clients are not installed: run tests/clients/install.sh, as `make test` does"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return ENVIRONMENT / "bin" / "python"


@pytest.fixture(scope="module")
def server(
    default_bundle: Path, task_bundles: Mapping[str, Exported], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    first = tmp_path_factory.mktemp("clients") / "all-MiniLM-L6-v2"
    first.symlink_to(default_bundle, target_is_directory=True)
    bundles = [first, *(task_bundles[name].bundle.path for name in SERVED)]
    flags = ("--variant", "fp32", "--runtime", "onnxruntime", "--grpc-port", "0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIDGELINE_API_KEY", KEY)
        with running_server(*map(str, bundles), *flags) as running:
            yield running


@pytest.fixture(scope="module")
def told(server: RunningServer, clients: Path) -> dict[str, Any]:
    return run(clients, server, PROGRAMS)


@pytest.fixture(scope="module")
def embeddings() -> Any:
    """The default model's vectors of TEXTS, and of one token between its special ones. [3, 384] fp32"""
    directory = find_model("default").directory
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).eval()
    with torch.no_grad():
        feeds = [tokenizer(text, return_tensors="pt") for text in TEXTS]
        feeds.append({"input_ids": torch.tensor([[101, 7592, 102]])})
        means = torch.cat([model(**feed).last_hidden_state.mean(1) for feed in feeds])
    return torch.nn.functional.normalize(means).numpy()


def run(python: Path, server: RunningServer, programs: list[Path]) -> dict[str, Any]:
    """What the programs are told, and how they are refused without the key."""
    port = re.search(r"gRPC on port (\d+)", server.log.read_text())
    assert port is not None
    address = {"RIDGELINE_URL": server.url, "RIDGELINE_GRPC": f"127.0.0.1:{port[1]}", "RIDGELINE_KEY": KEY}
    command = [str(python), "-P", str(HERE / "run.py"), json.dumps(address), *map(str, programs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=quiet_environment())
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def quiet_environment() -> dict[str, str]:
    """Without what could lead clients elsewhere: proxies, tokens, and the packages of this environment."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")
    return {name: os.environ[name] for name in kept if name in os.environ}


def ask(server: RunningServer, path: str, **body: Any) -> Any:
    """The server's own answer, without a client."""
    response = httpx.post(f"{server.url}{path}", json=body, headers={"x-api-key": KEY}, timeout=60)
    response.raise_for_status()
    return response.json()


def assert_close(given: Any, wanted: Any) -> None:
    np.testing.assert_allclose(given, wanted, atol=2e-5)


def assert_equal_answers(given: Any, wanted: Any) -> None:
    """Equal, but for what rounding does to numbers."""
    if isinstance(wanted, dict):
        for name in wanted:
            assert_equal_answers(given[name], wanted[name])
    elif isinstance(wanted, (list, tuple)):
        assert len(given) == len(wanted)
        for one, other in zip(given, wanted, strict=True):
            assert_equal_answers(one, other)
    elif isinstance(wanted, (float, np.floating)):
        assert given == pytest.approx(wanted, rel=1e-3, abs=2e-5)
    else:
        assert given == wanted


def test_the_documentation_shows_the_programs_as_they_are() -> None:
    text = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert sorted(shown) == sorted(program.read_text(encoding="utf-8") for program in PROGRAMS)


def test_every_program_is_run(told: dict[str, Any]) -> None:
    assert set(told["answers"]) == set(told["refusals"]) == set(REFUSALS)


def test_a_key_that_nobody_has_is_refused_in_each_clients_own_words(told: dict[str, Any]) -> None:
    assert {name: text.partition(":")[0] for name, text in told["refusals"].items()} == REFUSALS
    assert all("API key" in text for text in told["refusals"].values()), told["refusals"]


def test_openai(told: dict[str, Any], embeddings: Any) -> None:
    answer = told["answers"]["openai_client"]
    assert answer["models"] == ["all-MiniLM-L6-v2", *SERVED]
    assert_close(answer["embeddings"], embeddings[:2])
    assert_close(answer["as_lists"], embeddings[:2])
    tokenizer = AutoTokenizer.from_pretrained(find_model("default").directory)
    assert answer["tokens"] == sum(map(len, tokenizer(TEXTS)["input_ids"]))


@pytest.mark.parametrize("own", [False, True], ids=["clients' environment", "newest huggingface_hub"])
def test_huggingface(
    told: dict[str, Any],
    server: RunningServer,
    embeddings: Any,
    task_bundles: Mapping[str, Exported],
    own: bool,
) -> None:
    if own:
        told = run(Path(sys.executable), server, [HERE / "huggingface_client.py"])
        assert "401" in told["refusals"]["huggingface_client"]
    answer = told["answers"]["huggingface_client"]

    def pipe(name: str, task: Any, *inputs: Any, **options: Any) -> Any:
        return pipeline(task, model=str(task_bundles[name].model), device="cpu")(*inputs, **options)

    assert_close(answer["embeddings"], embeddings[:2])
    similarities = ask(server, "/tasks/sentence-similarity", inputs={"source_sentence": "A tower", "sentences": TEXTS})
    assert_equal_answers(answer["similarities"], similarities["outputs"][0])
    assert_equal_answers(answer["classes"], pipe("nli", "text-classification", TEXTS[0], top_k=None))
    labels, template = ["news", "a recipe"], {"hypothesis_template": "This is {}."}
    for given, options in ((answer["zero_shot"], template), (answer["several"], {"multi_label": True})):
        wanted = pipe("nli", "zero-shot-classification", TEXTS[0], labels, **options)
        scored = [
            {"label": label, "score": score} for label, score in zip(wanted["labels"], wanted["scores"], strict=True)
        ]
        assert_equal_answers(given, scored)
    assert_equal_answers(
        answer["entities"], pipe("ner", "token-classification", TEXTS[1], aggregation_strategy="simple")
    )
    assert answer["entities"]
    question = {"question": TEXTS[0], "context": "The tower is 330 metres tall."}
    found = ask(server, "/tasks/question-answering", inputs=question)["outputs"][0]
    assert_equal_answers(answer["answer"], found)
    assert_equal_answers(answer["fills"], pipe("mlm", "fill-mask", "The tower is [MASK] tall.", top_k=3))


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_triton(told: dict[str, Any], server: RunningServer, embeddings: Any, transport: str) -> None:
    answer = told["answers"][f"triton_{transport}_client"]
    assert answer["is_ready"] is True
    assert [tensor["name"] for tensor in answer["metadata"]["outputs"]] == ["embedding", "last_hidden_state"]
    ways = {"http": {"raw", "json", "gzip", "deflate", "later", "asyncio"}, "grpc": {"raw", "gzip", "later", "asyncio"}}
    assert set(answer["embeddings"]) == ways[transport] | {"tokens"}
    for name, given in answer["embeddings"].items():
        assert_close(given, embeddings[2:] if name == "tokens" else embeddings[:2])
    classes = ask(server, "/models/nli/predict", inputs=[[text] for text in TEXTS])
    assert answer["labels"] == [best["label"] for best, *_ in classes]
    order = ("contradiction", "neutral", "entailment")
    assert_close(answer["scores"], [[{c["label"]: c["score"] for c in row}[name] for name in order] for row in classes])


@pytest.mark.parametrize("library", ["langchain", "llama_index"])
def test_embedding_classes(told: dict[str, Any], embeddings: Any, library: str) -> None:
    answer = told["answers"][f"{library}_client"]
    assert len(answer) == 4
    for name, given in answer.items():
        assert_close(given, embeddings[0] if name.endswith("query") else embeddings[:2])


def test_cohere(told: dict[str, Any], server: RunningServer) -> None:
    answer = told["answers"]["cohere_client"]
    ranks = ask(server, "/models/ranker/rerank", query=TEXTS[0], texts=DOCUMENTS)
    assert_equal_answers(answer["older"], [(rank["index"], rank["score"]) for rank in ranks])
    assert_equal_answers(answer["ranked"], [(rank["index"], rank["score"]) for rank in ranks[:2]])

"""Whole encodings are what a tokenizer without a maximum gives, and decoding is its own."""

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from ridgeline_server.config import ServerConfig
from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.tokenization import TextTokenizer, TokenizerThreads
from ridgeline_server.errors import DeadlineError, OverloadedError, RequestTooLargeError, UnknownModelError

WORDS = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "a": 3, "b": 4, "é": 5, "😀": 6, "字": 7}
TEXTS = ["a", "a b é 😀 字 [SEP] a b", "a " * 40, "e\u0301 😀😀 \u202ea", "[CLS] b"]


def plain_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return tokenizer


@pytest.fixture(scope="module", params=["right", "left"])
def cutting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    tokenizer = plain_tokenizer()
    tokenizer.enable_truncation(5, direction=request.param)
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return TextTokenizer(path, 5, len(WORDS))


@pytest.mark.parametrize("special_tokens", [True, False])
def test_nothing_is_cut_off(cutting: TextTokenizer, special_tokens: bool) -> None:
    whole = plain_tokenizer()
    for text, found in zip(TEXTS, cutting.encode_whole(TEXTS, special_tokens), strict=True):
        wanted = whole.encode(text, add_special_tokens=special_tokens)
        assert found.ids.tolist() == wanted.ids
        assert found.tokens == wanted.tokens
        assert found.special.tolist() == [bool(flag) for flag in wanted.special_tokens_mask]
        assert found.offsets[~found.special].tolist() == [
            list(offsets) for offsets, flag in zip(wanted.offsets, wanted.special_tokens_mask, strict=True) if not flag
        ]
        assert found.offsets.dtype == found.ids.dtype == np.int32


def test_a_text_without_tokens_is_its_special_ones(cutting: TextTokenizer) -> None:
    with_special, without = cutting.encode_whole([" "], True)[0], cutting.encode_whole([" "], False)[0]
    assert with_special.ids.tolist() == [0, 1] and with_special.special.all()
    assert without.ids.tolist() == [] and without.offsets.shape == (0, 2)


def test_decoding_is_the_librarys(cutting: TextTokenizer) -> None:
    assert cutting.decode([[0, 3, 6, 1], [4]], True) == ["a 😀", "b"]
    assert cutting.decode([[0, 3, 6, 1]], False) == ["[CLS] a 😀 [SEP]"]


def test_the_engine_holds_requests_to_its_limits(cutting: TextTokenizer) -> None:
    threads = TokenizerThreads(cutting, 1)
    settings = SimpleNamespace(max_request_tokens=None)
    served = SimpleNamespace(name="tiny", bundle=SimpleNamespace(manifest=None))
    model: Any = SimpleNamespace(served=served, tokenizer=threads, settings=settings, shape=None)
    engine = Engine([model], ServerConfig(bundles=(Path("tiny"),), max_request_tokens=6))

    async def ask() -> None:
        (encoding,) = await engine.tokenize("tiny", ["a b a"], True, time.monotonic() + 60)
        assert encoding.ids.tolist() == [0, 3, 4, 3, 1]
        assert await engine.decode(None, [encoding.ids.tolist()], True) == ["a b a"]
        with pytest.raises(RequestTooLargeError, match="hold 7 tokens; one request may hold 6"):
            await engine.tokenize(None, ["a b a b a"], True)
        with pytest.raises(RequestTooLargeError, match="hold 7 tokens"):
            await engine.decode(None, [[3, 4, 3], [3, 3, 3, 3]], True)
        with pytest.raises(UnknownModelError):
            await engine.tokenize("none", ["a"], True)
        with pytest.raises(DeadlineError):
            await engine.tokenize("tiny", ["a"], True, time.monotonic() - 1)
        threads.pending_characters = 10**9
        with pytest.raises(OverloadedError):
            await engine.tokenize("tiny", ["a"], True)

    asyncio.run(ask())
    threads.stop()


def test_other_work_runs_in_the_threads(cutting: TextTokenizer) -> None:
    threads = TokenizerThreads(cutting, 1)

    def work() -> str:
        return threading.current_thread().name

    def fail() -> str:
        raise KeyError("x")

    async def ask() -> None:
        assert (await threads.run(work, 7)).startswith("tokenizer-")
        with pytest.raises(RuntimeError, match="KeyError"):
            await threads.run(fail, 7)
        assert threads.pending_characters == 0

    asyncio.run(ask())
    threads.stop()

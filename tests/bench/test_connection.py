from __future__ import annotations

import pytest

from ridgeline_bench.connection import prompt_tokens


@pytest.mark.parametrize(
    ("chunks", "tokens"),
    [
        ([b'{"data": [], "usage": {"prompt_tokens":27,"total_tokens":27}}'], 27),
        ([b'{"usage": {"prompt_tok', b'ens": 5}, "data": []}'], 5),
        ([b'{"usage": {"prompt_tokens": null}}'], 0),
        ([b'{"usage": {"prompt_tokens":'], 0),
        ([b"[[0.5]]"], 0),
        ([], 0),
    ],
)
def test_finds_the_tokens_of_the_usage(chunks: list[bytes], tokens: int) -> None:
    assert prompt_tokens(chunks) == tokens

"""`/tokenize` and `/decode`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.asking import beside_loop
from ridgeline_server.http.errors import quote
from ridgeline_server.http.exchange import JSON, Exchange
from ridgeline_server.http.parsing import check_token_ids, inputs_of, json_object, optional_bool
from ridgeline_server.http.reply import as_json
from ridgeline_server.http.tei.fields import read_prompt_name, required
from ridgeline_server.http.tei.handlers import NUL, Answer, Handlers
from ridgeline_server.sequences import Encoding
from ridgeline_server.tasks.prompts import find_prompt

_TOKENIZE_KEYS = (b'"inputs"', b'"add_special_tokens"', b'"prompt_name"')
_DECODE_KEYS = (b'"ids"', b'"skip_special_tokens"')
# So many tokens are written at once: neither the event loop nor the interpreter's lock is held for longer.
_TOKENS_AT_ONCE = 2_048


class Tokens(Handlers):
    """Handlers that only the tokenizer answers: their texts may be longer than what the model takes."""

    async def tokenize(self, exchange: Exchange, body: bytes) -> Answer:
        """`POST /tokenize`: the tokens of each text. Offsets are characters, Unicode code points, after the prompt."""
        info = self.model(exchange)
        fields = json_object(body, _TOKENIZE_KEYS)
        value = required(fields, "inputs", "a text or an array of texts")
        is_wanted = optional_bool(fields, "add_special_tokens")
        prompt = find_prompt(info, read_prompt_name(fields))
        inputs = inputs_of(value, "inputs", self._config.max_client_batch_size, NUL in body)
        texts = [prompt + text for text in inputs if type(text) is str]
        if len(texts) < len(inputs):
            raise InvalidInputError("`inputs` holds token ids; give texts, or ask /decode for theirs", "inputs")
        exchange.model = info.name
        encodings = await self._engine.tokenize(info.name, texts, is_wanted is not False, exchange.deadline)
        tokens = sum(len(encoding.ids) for encoding in encodings)
        return await beside_loop(tokens, _render, texts, encodings), [JSON]

    async def decode(self, exchange: Exchange, body: bytes) -> Answer:
        """`POST /decode`: a text for each list of token ids."""
        info = self.model(exchange)
        fields = json_object(body, _DECODE_KEYS)
        value = required(fields, "ids", "an array of token ids, or an array of such arrays")
        is_unwanted = optional_bool(fields, "skip_special_tokens")
        if type(value) is not list or any(type(entry) is str for entry in value):
            given = "an array with a text" if type(value) is list else quote(value)
            raise InvalidInputError(f"`ids` is {given}; give an array of token ids, or an array of such arrays", "ids")
        ids: Any = inputs_of(value, "ids", self._config.max_client_batch_size, has_nul=False)
        check_token_ids(ids, "ids", info.vocab_size, info.max_request_tokens or self._config.max_request_tokens)
        exchange.model = info.name
        texts = await self._engine.decode(info.name, ids, is_unwanted is not False, exchange.deadline)
        return as_json(texts), [JSON]


def _render(texts: Sequence[str], encodings: Sequence[Encoding]) -> bytes:
    return b"[%b]" % b",".join(_render_one(text, encoding) for text, encoding in zip(texts, encodings, strict=True))


def _render_one(text: str, encoding: Encoding) -> bytes:
    pieces = []
    for begin in range(0, len(encoding.ids), _TOKENS_AT_ONCE):
        part = slice(begin, begin + _TOKENS_AT_ONCE)
        ids, special = encoding.ids[part].tolist(), encoding.special[part].tolist()
        tokens = zip(ids, encoding.offsets[part].tolist(), special, encoding.tokens[part], strict=True)
        pieces.append(as_json([_token(text, *token) for token in tokens])[1:-1])
    return b"[%b]" % b",".join(pieces)


def _token(text: str, token_id: int, offsets: list[int], is_special: bool, token: str) -> dict[str, object]:
    if is_special:
        return {"id": token_id, "text": token, "special": True, "start": None, "stop": None}
    start, stop = offsets
    return {"id": token_id, "text": text[start:stop], "special": False, "start": start, "stop": stop}

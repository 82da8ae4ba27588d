"""What a bundle's tokenizer knows of tokens, beside how it reads texts: see sequences.Vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

from ridgeline_server.errors import InvalidInputError

# The spaces that transformers takes out of decoded text where a tokenizer's config asks for it, in this order.
_CLEANED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


class TokenizerVocabulary:
    """The Vocabulary of a tokenizer of the tokenizers library."""

    def __init__(self, tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
        """config: content of tokenizer_config.json; where it names no unknown token, the tokenizer's own holds."""
        self._tokenizer = tokenizer
        self._special = {number for number, added in tokenizer.get_added_tokens_decoder().items() if added.special}
        self.unk_id = self._id_in(config, "unk_token")
        if self.unk_id is None:
            unknown = getattr(tokenizer.model, "unk_token", None)
            self.unk_id = None if unknown is None else tokenizer.token_to_id(unknown)
        self.pad_id = self._id_in(config, "pad_token")
        self.cls_id = self._id_in(config, "cls_token")
        self.mask_token = _content(config, "mask_token")
        self.mask_id = self._id_in(config, "mask_token")
        self.marks_subwords = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))
        # In the text of byte pairs each space is a token's own.
        self._is_cleaned = bool(config.get("clean_up_tokenization_spaces")) and not isinstance(tokenizer.model, BPE)

    def id_of(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def token(self, token_id: int) -> str | None:
        found: str | None = self._tokenizer.id_to_token(token_id)
        return found

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except BaseException as error:  # the library raises bare Exception, and panics
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise InvalidInputError(f"a text cannot be tokenized: {error}") from error
        return [encoding.ids for encoding in encodings]

    def join(self, tokens: Sequence[str]) -> str:
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        text = str(self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))
        if self._is_cleaned:
            for spaced in _CLEANED:
                text = text.replace(spaced, spaced.strip())
        return text

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special

    def _id_in(self, config: Mapping[str, Any], key: str) -> int | None:
        token = _content(config, key)
        return None if token is None else self.id_of(token)


def _content(config: Mapping[str, Any], key: str) -> str | None:
    """A token as tokenizer_config.json has it: a text, or an object with one; None = it has none."""
    token = config.get(key)
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def read_vocabulary(tokenizer: Tokenizer, path: Path) -> TokenizerVocabulary:
    """The vocabulary of a tokenizer.json, with what tokenizer_config.json beside it says, where there is one.

    Raises OSError, or ValueError for a config that is no JSON object.
    """
    beside = path.with_name("tokenizer_config.json")
    config = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    if not isinstance(config, dict):
        raise ValueError(f"{beside} is not a JSON object")
    return TokenizerVocabulary(tokenizer, config)

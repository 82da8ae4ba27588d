"""The tokenizer as the server runs it: `tokenizers.Tokenizer` alone, without transformers.

Everything that transformers' tokenizer decides in Python (special tokens, lowercasing, truncation) is written into
`tokenizer.json`, and the export itself tokenizes with that file's content, so that what is measured is what is served.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.errors import ModelError, summary

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Text = str | tuple[str, str]
Feed = dict[str, NDArray[np.int64]]
_ENCODED_TEXTS = 1024
_VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.bpe", "tokenizer.model*")


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """Texts to token ids, padded on the right.

    backend:        truncates to the model's max tokens; its own padding is off
    input_names:    graph inputs to fill, of input_ids, attention_mask, token_type_ids
    config:         content of the bundle's tokenizer_config.json
    mask_token_id:  None for a tokenizer without a mask token
    """

    backend: Tokenizer
    input_names: tuple[str, ...]
    config: dict[str, Any]
    pad_token_id: int
    mask_token_id: int | None

    def encode(self, texts: Sequence[Text]) -> list[Encoding]:
        """One encoding per text or pair of texts, truncated and unpadded."""
        encodings: list[Encoding] = self.backend.encode_batch(list(texts))
        return encodings

    def encode_each(self, texts: Iterable[Text]) -> Iterator[Encoding]:
        """The same one by one, for many texts: an encoding holds far more than its ids."""
        waiting = iter(texts)
        while piece := list(itertools.islice(waiting, _ENCODED_TEXTS)):
            yield from self.encode(piece)

    def pad(self, encodings: Sequence[Encoding]) -> Feed:
        """One batch: arrays [batch, longest sequence], int64, by name of graph input."""
        shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
        feed = {
            "input_ids": np.full(shape, self.pad_token_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            feed["input_ids"][row, :length] = encoding.ids
            feed["attention_mask"][row, :length] = 1
            feed["token_type_ids"][row, :length] = encoding.type_ids
        return {name: feed[name] for name in self.input_names}

    def save(self, directory: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json."""
        self.backend.save(str(directory / "tokenizer.json"))
        text = json.dumps(self.config, indent=2, sort_keys=True, ensure_ascii=False)
        (directory / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def load_pretrained_tokenizer(directory: Path) -> Any:
    """transformers' fast tokenizer of a model directory; a slow one is converted when transformers can.

    Raises ModelError when there is no tokenizer, or none that the `tokenizers` library can run.
    """
    from transformers import AutoTokenizer

    if not any(next(directory.glob(pattern), None) for pattern in _VOCABULARY_FILES):
        raise ModelError(f"{directory} has no tokenizer; expected tokenizer.json, or a vocabulary to make it from")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            directory, use_fast=True, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # transformers raises whatever its converters and parsers raise
        raise ModelError(f"the tokenizer of {directory} cannot be loaded: {summary(error)}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the tokenizer of {directory} ({type(tokenizer).__name__}) has no fast version; "
            "save one as tokenizer.json beside the model"
        )
    return tokenizer


def make_encoder(tokenizer: Any, input_names: Sequence[str], max_tokens: int, lowercase: bool = False) -> TextEncoder:
    """The tokenizer as it goes into the bundle.

    tokenizer:   transformers' fast tokenizer
    input_names: inputs of the model's graph
    lowercase:   True to lowercase texts first, as sentence-transformers' do_lower_case does
    """
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.enable_truncation(max_tokens, direction=getattr(tokenizer, "truncation_side", "right"))
    if lowercase:
        _lowercase(backend)
    pad = tokenizer.pad_token_id
    return TextEncoder(
        backend=backend,
        input_names=tuple(input_names),
        config=_config(tokenizer, max_tokens),
        pad_token_id=0 if pad is None else int(pad),
        mask_token_id=tokenizer.mask_token_id,
    )


def _lowercase(backend: Tokenizer) -> None:
    from tokenizers import normalizers

    first = normalizers.Lowercase()
    backend.normalizer = first if backend.normalizer is None else normalizers.Sequence([first, backend.normalizer])


def _config(tokenizer: Any, max_tokens: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "model_input_names": list(tokenizer.model_input_names),
        "truncation_side": getattr(tokenizer, "truncation_side", "right"),
        "padding_side": "right",
        "clean_up_tokenization_spaces": bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
        **{
            name: token
            for name in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
            if (token := getattr(tokenizer, name, None)) is not None
        },
    }

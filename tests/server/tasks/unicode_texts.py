"""Random texts of all scripts, and of what breaks offsets: emoji, combining marks, controls, special tokens."""

from __future__ import annotations

import random

_PIECES = (
    *("parameter", "function", "value", "Microsoft", "can't", "re-use", "e.g.", "x=1;", "JSON", "naïve", "Ünïcödé"),
    *("the", "of", "Return", "a", "is", "object", "if", "string", "default", "Signature", "decoder", "cache"),
    "cafe\u0301",  # a combining acute accent
    "Å\u0323\u0302",
    *("北京大学", "東京タワー", "서울", "ﬁne", "Straße", "İstanbul", "ΑΘΗΝΑ", "Москва"),
    *("שלום", "مرحبا", "नमस्ते", "สวัสดี"),
    *("👍", "👩\u200d👩\u200d👧", "🇩🇪", "👍🏽", "☃", "\U0001d4b3"),
    *("\u200b", "\u00ad", "\x07", "\u202eabc\u202c", "\ufffd", "\u3000"),
    *("[SEP]", "</s>", "##ing", "▁a", "Ġthe", "..."),
    "supercalifragilisticexpialidocious",
)
_GAPS = (" ", " ", " ", " ", "  ", "", "\n", "\t", "\u00a0", ", ", ". ", "-")


def random_texts(count: int, pieces: int, seed: int) -> list[str]:
    """Texts of 1 to `pieces` pieces, with a letter each."""
    source = random.Random(seed)
    texts = []
    for _ in range(count):
        parts = [source.choice(_PIECES) + source.choice(_GAPS) for _ in range(source.randint(1, pieces))]
        texts.append("".join(["a ", *parts]))
    return texts

"""Texts of many scripts and of what breaks tokenizers, and a long one."""

from __future__ import annotations

TEXTS = (
    "A server batches tokens.",
    "x",
    "Zoë naïve e\u0301 a\u030a\u0323",
    "\U0001d54cnicode 👩\u200d👩\u200d👧 🇩🇪",
    "搜索引擎 と 検索",
    "שלום עולם مرحبا",
    "tab\tline\nend\r\u0007\u200b",
    "[SEP] </s> <mask>",
)
LONG = "the queue of the server holds tokens, and each batch takes some; " * 12

"""Triton's interpreter without the work that it does again and again.

Before every kernel, and before every function that a kernel calls, it replaces what `triton.language` holds by its own
versions, and looks through all of its names for that. Once they are replaced, the second time changes nothing.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import triton.language as tl
from triton.runtime import interpreter


def quicken_the_interpreter() -> None:
    """Let Triton's interpreter skip replacing what is replaced; Tritons that work in another way stay as they are."""
    scope = getattr(interpreter, "_LangPatchScope", None)
    original: Any = getattr(interpreter, "_patch_lang", None)
    if scope is None or original is None or getattr(original, "is_quick", False):
        return

    def patch_lang(fn: Any) -> Any:
        languages = _languages(fn)
        return scope() if languages and all(map(_is_replaced, languages)) else original(fn)

    patch_lang.is_quick = True  # type: ignore[attr-defined]
    patch_lang.original = original  # type: ignore[attr-defined]
    interpreter._patch_lang = patch_lang


@functools.cache
def _languages(fn: Any) -> tuple[Any, ...]:
    """The modules of Triton's language that a function sees."""
    return tuple(value for value in fn.__globals__.values() if inspect.ismodule(value) and value in (tl, tl.core))


def _is_replaced(language: Any) -> bool:
    """Whether a module holds the interpreter's versions, and so do the tensors that its functions take."""
    return language.static_range.__name__ == "_new_range" and "__index__" in vars(language.tensor)

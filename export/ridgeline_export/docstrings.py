"""Docstrings of the standard library and of installed packages: real text that lies on every machine."""

from __future__ import annotations

import ast
import functools
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

_NOT_LIBRARY = frozenset({"site-packages", "test", "tests", "idle_test", "lib2to3"})
_NOT_PACKAGE = frozenset({"test", "tests", "testing", "idle_test"})
_LEAST_WORDS = 3


def standard_library() -> Iterator[tuple[str, str]]:
    """(top-level package or module, docstring) of the interpreter's standard library, in a fixed order."""
    return ((module[0].removesuffix(".py"), text) for module, texts in _library() for text in texts)


def installed_packages() -> Iterator[tuple[str, str]]:
    """The same of what is installed beside the standard library."""
    return ((module[0].removesuffix(".py"), text) for module, texts in _packages() for text in texts)


def documents(least_words: int) -> Iterator[str]:
    """All docstrings of a module, one after the other, for each module that has so many words of them."""
    for modules in (_library(), _packages()):
        for _, texts in modules:
            text = "\n\n".join(texts)
            if len(text.split()) >= least_words:
                yield text


_Module = tuple[tuple[str, ...], list[str]]


def _library() -> tuple[_Module, ...]:
    return _once(Path(sysconfig.get_path("stdlib")))


@functools.cache
def _once(root: Path) -> tuple[_Module, ...]:
    """The standard library's; kept, since reading them takes seconds."""
    return tuple(_of_directory(root, _NOT_LIBRARY))


def _packages() -> Iterator[_Module]:
    for directory in dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")):
        yield from _of_directory(Path(directory), _NOT_PACKAGE)


def _of_directory(root: Path, left_out: frozenset[str]) -> Iterator[_Module]:
    """Each module's place and its docstrings, in a fixed order."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if left_out.isdisjoint(parts):
            yield parts, list(_of_file(path))


def _of_file(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
            if len(text.split()) >= _LEAST_WORDS:
                yield text

"""Where examples come from: the docstrings of this machine, with packages as labels or without, or a user's file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ridgeline_estimate.host import cache_directory, write_whole
from ridgeline_export.compress.data.data import Data, Example, key_of
from ridgeline_export.compress.data.files import read_examples
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.docstrings import documents, installed_packages, standard_library
from ridgeline_export.errors import UsageError

MIN_TEXTS = 100
_CLASSES = 10
_LEAST_JUDGED = 8
_LONG_WORDS = 1000


def load_data(settings: DataSettings) -> Data:
    """The examples that `settings` ask for, each distinct text once.

    Raises UsageError for a file that cannot be read or holds too little, naming it.
    """
    if settings.data in _BUILT_IN:
        name, read = _BUILT_IN[settings.data]
        examples = read()
    else:
        path = Path(settings.data)
        if not path.is_file():
            raise UsageError(
                f"--data is '{settings.data}', which is no file; give a .txt, .jsonl, .csv or .tsv file, or one of: "
                f"{', '.join(_BUILT_IN)}"
            )
        name, examples = path.name, read_examples(path)
    held_out = None if settings.held_out is None else _distinct(read_examples(settings.held_out))
    data = Data(name, _distinct(examples), settings, held_out)
    _check(data)
    return data


def _check(data: Data) -> None:
    if len(data.examples) < MIN_TEXTS:
        raise UsageError(
            f"--data {data.name} has {len(data.examples)} distinct texts; training and judging need at least "
            f"{MIN_TEXTS}, and thousands do better"
        )
    for purpose, examples, least in (
        ("training", data.training, 1),
        ("validation", data.validation, _LEAST_JUDGED),
        ("judging", data.quality, 0 if data.held_out is not None else _LEAST_JUDGED),
    ):
        if len(examples) < least:
            raise UsageError(_too_few(data, purpose, len(examples), least))
    if len(data.quality) < _LEAST_JUDGED:
        raise UsageError(
            f"--held-out has {len(data.quality)} texts that are not among those of --data; judging needs at least "
            f"{_LEAST_JUDGED}"
        )
    unlike = {example.label for example in data.held_out or ()} - {None, *(data.labels or ())}
    if data.labels is not None and unlike:
        raise UsageError(
            f"--held-out has the label '{min(map(str, unlike))}', which no example of --data has; it has: "
            f"{', '.join(data.labels)}"
        )


def _too_few(data: Data, purpose: str, count: int, least: int) -> str:
    texts = len({key_of(example.text) for example in data.examples})
    what, advice = "it is split by a hash of each text", "give more texts"
    if any(not isinstance(example.text, str) for example in data.examples):
        what = f"pairs are split by a hash of their first text, and there are {texts} distinct first texts"
        advice = "give pairs of more first texts"
    if purpose == "judging":
        advice += ", or a --held-out file to judge on"
    return (
        f"of {len(data.examples)} examples of --data {data.name} {count} are for {purpose}, which needs at least "
        f"{least}: {what}; {advice}"
    )


def _distinct(examples: Iterable[Example]) -> tuple[Example, ...]:
    """The first example of each text."""
    found: dict[object, Example] = {}
    for example in examples:
        found.setdefault(example.text, example)
    return tuple(found.values())


def _library() -> list[Example]:
    return [Example(text) for _, text in standard_library()]


def _packages() -> list[Example]:
    sources = (standard_library, installed_packages)
    return _remembered("packages", lambda: (text for source in sources for _, text in source()))


def _documents() -> list[Example]:
    return _remembered("documents", lambda: documents(_LONG_WORDS))


def _remembered(name: str, read: Callable[[], Iterable[str]]) -> list[Example]:
    """Texts of everything installed; reading it takes most of a minute, so they are kept."""
    path = None
    with suppress(RuntimeError):  # a user without a home
        path = cache_directory() / "docstrings" / f"{name}-{_installed()}.json"
    if path is not None and path.is_file():
        with suppress(OSError, ValueError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(kept, list) and all(isinstance(text, str) for text in kept):
                return list(map(Example, kept))
    texts = list(dict.fromkeys(read()))
    if path is not None:
        with suppress(OSError):  # a cache that cannot be written costs time alone
            write_whole(path, json.dumps(texts))
    return list(map(Example, texts))


def _installed() -> str:
    """A digest of what is installed."""
    packages = sorted(f"{each.metadata['Name']}=={each.version}" for each in importlib.metadata.distributions())
    text = "\n".join([sys.version, sysconfig.get_path("purelib"), *packages])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _library_labels() -> list[Example]:
    """The standard library's largest packages as classes; a text that several of them have is left out."""
    root = Path(sysconfig.get_path("stdlib"))
    places: dict[str, set[str]] = defaultdict(set)
    for package, text in standard_library():
        if (root / package).is_dir():
            places[text].add(package)
    only = {text: next(iter(packages)) for text, packages in places.items() if len(packages) == 1}
    sizes = Counter(only.values())
    largest = set(sorted(sizes, key=lambda package: (-sizes[package], package))[:_CLASSES])
    return [Example(text, package) for text, package in only.items() if package in largest]


_BUILT_IN = {
    "packages": ("docstrings of the standard library and the installed packages", _packages),
    "documents": ("docstrings of whole modules of the standard library and the installed packages", _documents),
    "stdlib": ("standard library docstrings", _library),
    "stdlib-labels": ("packages of the standard library", _library_labels),
}

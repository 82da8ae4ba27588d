"""The bundle: one directory that holds a model as Ridgeline serves it.

`ridgeline.json` is its manifest; every other file is listed there with its size and sha256. This module imports only
the standard library, because the server reads bundles with it and must not import torch or transformers.

    BundleError
    ├── NotABundleError        no readable manifest
    ├── BundleFormatError      a manifest that this version cannot read
    └── BundleCorruptError     a listed file is missing or differs from its checksum, or one outside is used
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline_export.external_data import external_locations

MANIFEST_NAME = "ridgeline.json"
# Read by their names, listed or not.
SHARED_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
FORMAT = 1
SPLADE = "splade"


class BundleError(Exception):
    """A bundle cannot be read."""


class NotABundleError(BundleError):
    """The path holds no readable manifest."""


class BundleFormatError(BundleError):
    """The manifest is of a format that this version cannot read."""


class BundleCorruptError(BundleError):
    """A file listed in the manifest is missing or was changed, or a file that is not listed is used."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and checksum of one file of the bundle."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Quality:
    """A variant against the PyTorch fp32 model, on `texts` held-out texts of `corpus`, in mixed-length batches.

    metric:    what `value` is: "max_abs_error", "mean_cosine", "label_agreement", or for models of one score
               (rerankers) "order_agreement", the share of pairs of texts put in the same order
    value:     the figure that the gate judged
    gate:      the limit: an upper one for max_abs_error, a lower one for the others
    details:   further figures by name (cosine_min, spearman, largest_logit_difference, …)
    """

    metric: str
    value: float
    gate: float
    corpus: str
    texts: int
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.value <= self.gate if self.metric == "max_abs_error" else self.value >= self.gate


@dataclass(frozen=True, slots=True)
class Variant:
    """One ONNX graph of the model.

    precision:        dtype that the layers' matmuls are made for: "fp32", "fp16", "bf16", "int8" or "fp8"
    graph:            path of the graph inside the bundle, such as "fp32/model.onnx"
    files:            files of the variant by path inside the bundle, the graph among them
    nodes:            how many nodes the graph has
    runtimes:         runtimes that the variant is meant for, the best first: "openvino", "onnxruntime", "triton"
    batch_invariant:  False when an answer can depend on what it was batched with
    fusion:           of a packed graph, how many nodes of each op: "fused" ops of the dialect, "unfused" standard ops
                      that compute; "quantized" counts linears and smoothed inputs. Empty for others, and then absent
                      from the manifest
    """

    name: str
    precision: str
    graph: str
    files: Mapping[str, FileEntry]
    nodes: int
    opset: int
    ir_version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    runtimes: tuple[str, ...]
    batch_invariant: bool
    quality: Quality
    fusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself.

    task:          optimum's name of the task, such as "feature-extraction" or "text-classification"
    pooling:       "mean", "cls", "max" or "last" for sentence embeddings, SPLADE for a masked language model that gives
                   sparse ones, None for a model without pooling
    normalize:     True when embeddings are scaled to unit length
    labels:        names of the classes by index, None for a model without classes
    prompts:       texts that sentence-transformers puts before an input, by name, such as {"query": "query: "};
                   one may be empty. Absent from the manifest of a model without any
    default_prompt: name of the one that goes before a text when none is asked for; None = nothing does, and then absent
    max_tokens:    longest input in tokens, special tokens included
    shape:         fields of ridgeline_estimate.ModelShape
    files:         files that all variants share (config and tokenizer), by path inside the bundle
    exported_with: versions of the packages that made the bundle, by name
    """

    model_id: str
    revision: str | None
    task: str
    architecture: str
    pooling: str | None
    normalize: bool
    labels: tuple[str, ...] | None
    max_tokens: int
    pad_token_id: int
    shape: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    variants: Mapping[str, Variant]
    exported_with: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    format: int = FORMAT

    def to_json(self) -> str:
        raw = dataclasses.asdict(self)
        for name in ("prompts", "default_prompt"):
            if not raw[name]:
                del raw[name]
        for variant in raw["variants"].values():
            if not variant["fusion"]:
                del variant["fusion"]
        return json.dumps(raw, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse a manifest.

        Raises BundleFormatError when the text is no manifest, or is one of a newer format.
        """
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise BundleFormatError(f"{MANIFEST_NAME} is not valid JSON ({error}); export the model again") from error
        version = raw.get("format") if isinstance(raw, dict) else None
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise BundleFormatError(f"{MANIFEST_NAME} has no format number; export the model again")
        if version > FORMAT:
            raise BundleFormatError(
                f"{MANIFEST_NAME} has format {version}; this version of Ridgeline reads formats up to {FORMAT}; "
                "upgrade Ridgeline or export the model again"
            )
        try:
            return _manifest(raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleFormatError(
                f"{MANIFEST_NAME} lacks or garbles a field ({type(error).__name__}: {error}); export the model again"
            ) from error


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk: its directory and its manifest."""

    path: Path
    manifest: Manifest

    def variant(self, name: str) -> Variant:
        """The variant of that name; raises BundleError naming those that there are."""
        try:
            return self.manifest.variants[name]
        except KeyError:
            have = ", ".join(sorted(self.manifest.variants)) or "none"
            raise BundleError(f"bundle {self.path} has no variant '{name}'; it has: {have}") from None

    def verify(self, variant: str | None = None) -> None:
        """Compare the shared files and those of one variant (of all, when None) with their checksums.

        Graphs may use files that are listed for them, and no others.

        Raises BundleCorruptError naming the first file that differs, or is used and not listed.
        """
        variants = [entry for name, entry in self.manifest.variants.items() if variant is None or name == variant]
        wanted = dict(self.manifest.files)
        for entry in variants:
            wanted.update(entry.files)
        for name in SHARED_FILES:
            if name not in wanted:
                _check_inside(self.path, name)
        for relative, expected in wanted.items():
            _verify_file(self.path, relative, expected)
        for entry in variants:
            _verify_graph(self.path, entry)


def read_bundle(path: Path | str) -> Bundle:
    """Read the manifest of the bundle in a directory.

    Raises NotABundleError when there is none, BundleFormatError when it cannot be read.
    """
    directory = Path(path)
    try:
        text = (directory / MANIFEST_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotABundleError(
            f"{directory} is not a bundle: cannot read its {MANIFEST_NAME} ({error}); "
            "make one with: ridgeline export MODEL OUT"
        ) from error
    try:
        return Bundle(directory, Manifest.from_json(text))
    except BundleFormatError as error:
        raise BundleFormatError(f"bundle {directory}: {error}") from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest into a directory, flushed to disk."""
    with open(directory / MANIFEST_NAME, "w", encoding="utf-8") as file:
        file.write(manifest.to_json())
        file.flush()
        os.fsync(file.fileno())


def file_entry(path: Path) -> FileEntry:
    """Size and sha256 of a file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(size_bytes=path.stat().st_size, sha256=digest)


def _check_inside(directory: Path, relative: str) -> Path:
    path = directory / relative
    try:
        is_inside = path.resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, NUL characters
        is_inside = False
    if not is_inside:
        raise BundleCorruptError(
            f"bundle {directory} lists '{relative}', which lies outside it; export the model again"
        )
    return path


def _verify_graph(directory: Path, variant: Variant) -> None:
    """Refuse a graph that is not listed, and one that has its weights elsewhere than in the variant's files."""
    allowed = {posixpath.normpath(name) for name in variant.files}
    if posixpath.normpath(variant.graph) not in allowed:
        raise BundleCorruptError(
            f"bundle {directory}: the graph '{variant.graph}' of variant {variant.name} is not among its files; export "
            "the model again"
        )
    try:
        locations = external_locations(directory / variant.graph)
    except (OSError, ValueError) as error:
        raise BundleCorruptError(
            f"bundle {directory}: {variant.graph} is no ONNX graph ({error}); export the model again"
        ) from error
    folder = posixpath.dirname(posixpath.normpath(variant.graph))
    for location in sorted(locations):
        if posixpath.isabs(location) or posixpath.normpath(posixpath.join(folder, location)) not in allowed:
            raise BundleCorruptError(
                f"bundle {directory}: {variant.graph} has weights in {location[:200]!r}, which is not among the files "
                f"of variant {variant.name}; export the model again"
            )


def _verify_file(directory: Path, relative: str, expected: FileEntry) -> None:
    path = _check_inside(directory, relative)
    try:
        actual = file_entry(path)
    except OSError as error:
        raise BundleCorruptError(f"bundle {directory} lacks {relative} ({error}); export the model again") from error
    if actual != expected:
        raise BundleCorruptError(
            f"bundle {directory} is damaged: {relative} has {actual.size_bytes} bytes and sha256 "
            f"{actual.sha256[:12]}…, the manifest says {expected.size_bytes} bytes and {expected.sha256[:12]}…; "
            "export the model again"
        )


def _manifest(raw: dict[str, Any]) -> Manifest:
    labels = raw["labels"]
    prompts = raw.get("prompts", {})
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise TypeError("prompts is no object of texts")
    default_prompt = raw.get("default_prompt")
    if default_prompt is not None and default_prompt not in prompts:
        raise ValueError(f"default_prompt '{default_prompt}' is none of its prompts")
    return Manifest(
        **{
            **raw,
            "labels": None if labels is None else tuple(labels),
            "files": _files(raw["files"]),
            "variants": {name: _variant(entry) for name, entry in raw["variants"].items()},
        }
    )


def _variant(raw: dict[str, Any]) -> Variant:
    sequences = {key: tuple(raw[key]) for key in ("inputs", "outputs", "runtimes")}
    return Variant(**{**raw, **sequences, "files": _files(raw["files"]), "quality": Quality(**raw["quality"])})


def _files(raw: dict[str, Any]) -> dict[str, FileEntry]:
    return {name: FileEntry(**entry) for name, entry in raw.items()}

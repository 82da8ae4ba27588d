"""Tiny bundles of every task, under short names, as one server serves them beside the default model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ridgeline_export.bundle import read_bundle
from ridgeline_export.config import ExportOptions, Fp32
from ridgeline_export.export import export
from ridgeline_export.quiet import quiet
from tests.conftest import Exported
from tests.models import write_model

NLI = ("contradiction", "neutral", "entailment")
# Those that other tests export, too, and what is told of each anew.
_SHARED: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "nli": ("modernbert", "text-classification", {"labels": list(NLI)}),
    "ner": ("electra", "token-classification", {}),
    "qa": ("distilbert", "question-answering", {}),
    "mlm": ("deberta-v2", "fill-mask", {}),
    "splade": ("deberta-v2", "fill-mask", {"pooling": "splade"}),
}


def make_task_bundles(
    tiny_exports: Callable[[str, str], Exported], texts: Path, folder: Path
) -> Mapping[str, Exported]:
    """A model of entailment, one that finds entities, one that answers questions, one that fills masks, SPLADE, and a
    cross-encoder, by name, and their bundles under the folder.

    texts: that exports are judged on
    """
    made = {name: _named(name, tiny_exports(*source), folder, fields) for name, (*source, fields) in _SHARED.items()}
    one_class = {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    model = write_model(folder / "models" / "ranker", "bert", "text-classification", **one_class)
    with quiet():
        report = export(ExportOptions(str(model), folder / "ranker", (Fp32(),), texts=texts, quality_texts=24))
    assert report.has_bundle, report.outcomes
    return {**made, "ranker": Exported(model, read_bundle(folder / "ranker"))}


def _named(name: str, exported: Exported, folder: Path, fields: Mapping[str, Any]) -> Exported:
    bundle = folder / name
    shutil.copytree(exported.bundle.path, bundle)
    _update(bundle / "ridgeline.json", {"model_id": name, **fields})
    if "labels" not in fields:
        return Exported(exported.model, read_bundle(bundle))
    model = folder / "models" / name
    shutil.copytree(exported.model, model)
    labels = fields["labels"]
    _update(
        model / "config.json",
        {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}},
    )
    return Exported(model, read_bundle(bundle))


def _update(path: Path, fields: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | dict(fields)), encoding="utf-8")

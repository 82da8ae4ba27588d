"""Reports of tiny models, measured for real: what stands in them, what is done once, and what goes wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ridgeline_export import export as exporter
from ridgeline_export.compress.data.load import load_data
from ridgeline_export.compress.progress import Silent
from ridgeline_export.compress.report import measuring
from ridgeline_export.compress.report.compare import compare_reports
from ridgeline_export.compress.report.exporting import calibration_texts, export_once
from ridgeline_export.compress.report.plot import draw
from ridgeline_export.compress.report.report import _replaced, write_report
from ridgeline_export.compress.report.settings import ReportSettings
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.errors import ExportError, OutputError, UsageError
from ridgeline_export.quiet import quiet
from tests.models import write_model


@dataclasses.dataclass(frozen=True)
class Case:
    """Two tiny models, a report on them, and how it was asked for."""

    before: Path
    after: Path
    out: Path
    data: DataSettings
    settings: ReportSettings
    sentence: str

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "report.json").read_text())
        return found


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, texts_file: Path) -> Case:
    """A BERT of two layers, and of one."""
    root = tmp_path_factory.mktemp("report")
    before = write_model(root / "big", "bert")
    after = write_model(root / "small", "bert", num_hidden_layers=1)
    settings = ReportSettings(("onnxruntime",), ("fp32", "int8-dynamic"), None, 2, 0.01, root / "bundles")
    data = DataSettings(data=str(texts_file), quality_texts=32)
    with quiet():
        sentence = write_report(str(before), after, after / "report", data, Silent(), settings)
    return Case(before, after, after / "report", data, settings, sentence)


def test_every_plan_has_its_speed_its_memory_and_its_quality(case: Case) -> None:
    report = case.report
    plans = report["plans"]
    assert [(plan["model"], plan["variant"]) for plan in plans] == [
        ("before", "fp32"),
        ("after", "fp32"),
        ("before", "int8-dynamic"),
        ("after", "int8-dynamic"),
    ]
    for plan in plans:
        assert plan["failure"] is None
        assert plan["throughput"]["texts_per_s"] > 0
        assert plan["alone"]["p99_s"] >= plan["alone"]["p50_s"] > 0
        assert [(shape["texts"], shape["tokens"]) for shape in plan["shapes"]] == [(8, 128)]
        assert plan["memory_bytes"] > 1e7
        assert plan["against_baseline"]["median"] > 0
    assert plans[0]["against_baseline"] == {"median": 1.0, "least": 1.0, "most": 1.0}
    assert plans[3]["against_same"]["median"] > 0
    quality = [plan["quality"]["figures"] for plan in plans]
    assert quality[0]["spearman"] == pytest.approx(1)
    assert quality[0]["mean_cosine"] == pytest.approx(1)
    assert quality[0]["neighbour_recall_10"] == 1
    assert quality[1]["spearman"] < 0.99
    assert 0.9 < quality[2]["spearman"] < 1


def test_the_models_are_weighed(case: Case) -> None:
    before, after = case.report["before"], case.report["after"]
    assert after["parameters"] < before["parameters"]
    assert after["nonzero_parameters"] <= after["parameters"]
    for model in (before, after):
        assert model["weights"]["file_bytes"] > 4 * model["parameters"] - 1
        assert model["variants"]["int8-dynamic"]["file_bytes"] < model["variants"]["fp32"]["file_bytes"]
        (work,) = model["estimated"]
        assert work["shape"] == [8, 128]
    assert after["estimated"][0]["flops"] < 0.7 * before["estimated"][0]["flops"]


def test_people_are_told_the_same(case: Case) -> None:
    text = (case.out / "report.md").read_text()
    assert text.startswith("# small beside big")
    assert "| after | int8-dynamic on onnxruntime |" in text
    assert f"ridgeline compress report {case.after} --against {case.before}" in text
    assert "--runtimes onnxruntime --variants fp32,int8-dynamic --passes 2" in text
    assert "the throughput of the original's fp32 on onnxruntime, Spearman" in case.sentence
    assert (case.out / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (case.out / "report.svg").read_text()
    assert {path.name for path in case.out.iterdir()} == {"report.json", "report.md", "report.png", "report.svg"}


def test_a_model_is_exported_once(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(exporter, "export", forbidden)
    bundle = Path(case.report["after"]["bundle"])
    texts = calibration_texts(load_data(case.data), tmp_path / "texts.txt")
    assert texts is not None
    names = ("fp32", "int8-dynamic")
    again = export_once(str(case.after), None, names, texts, bundle.parent, Silent())
    assert (again.bundle.path, again.failures) == (bundle, {})
    with pytest.raises(AssertionError, match="exported again"):
        export_once(str(case.after), None, names, None, bundle.parent, Silent())  # calibrated on other texts


def test_a_report_is_replaced_only_by_a_whole_one(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (case.out / "report.json").read_text()

    def fails(*_: object) -> dict[str, Any]:
        raise ExportError("the models cannot be measured: no memory")

    monkeypatch.setattr("ridgeline_export.compress.report.report.measure", fails)
    with quiet(), pytest.raises(ExportError, match="no memory"):
        write_report(str(case.before), case.after, case.out, case.data, Silent(), case.settings)
    assert (case.out / "report.json").read_text() == before
    assert sorted(path.name for path in case.after.iterdir() if path.name.startswith(".")) == []


def test_the_old_report_is_there_again_where_the_new_one_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / "report.json").write_text("old")

    def fails(*_: object) -> None:
        raise OSError("no such luck")

    with monkeypatch.context() as patched:
        patched.setattr("ridgeline_export.compress.report.report.publish", fails)
        with pytest.raises(OSError, match="no such luck"), _replaced(out):
            pass
    assert (out / "report.json").read_text() == "old"
    with _replaced(out) as directory:
        (directory / "report.json").write_text("new")
    assert (out / "report.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_names_that_look_like_formulas_are_drawn(case: Case, tmp_path: Path) -> None:
    report = case.report
    for side in ("before", "after"):
        report[side]["name"] = r"$\frac$"
    draw(report, tmp_path)
    assert (tmp_path / "report.png").is_file()


def test_another_directory_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="exists and holds no report"), _replaced(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_an_original_without_the_classes_is_compared_in_speed_alone(case: Case, tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 1, "max_position_embeddings": 32}
    after = write_model(tmp_path / "classifier", "bert", "text-classification", **sizes)
    names = ("calm", "glad", "sad")
    lines = Path(case.data.data).read_text().splitlines()
    rows = [json.dumps({"text": line, "label": names[index % 3]}) for index, line in enumerate(lines)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    data = DataSettings(data=str(tmp_path / "data.jsonl"), quality_texts=32)
    settings = dataclasses.replace(case.settings, passes=1)
    with quiet():
        write_report(str(case.before), after, tmp_path / "report", data, Silent(), settings)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (report["before"]["task"], report["after"]["task"]) == ("feature-extraction", "text-classification")
    assert any("their answers cannot be compared" in note for note in report["notes"])
    assert any("both were timed on texts cut to 32 tokens" in note for note in report["notes"])
    assert len({plan["tokens"] for plan in report["plans"]}) == 1
    quality = {(plan["model"], plan["variant"]): plan["quality"] for plan in report["plans"]}
    assert quality["before", "fp32"] is None
    assert quality["after", "fp32"]["metric"] == "accuracy"
    assert set(quality["after", "fp32"]["figures"]) == {"accuracy", "macro_f1"}


def test_reports_of_different_originals_are_told_apart(case: Case, tmp_path: Path) -> None:
    other = tmp_path / "other" / "report"
    shutil.copytree(case.out, other)
    changed = case.report
    changed["machine_in_words"] = "a faster machine"
    changed["before"]["sha256"] = "0" * 64
    (other / "report.json").write_text(json.dumps(changed))
    said = compare_reports([case.after, other.parent, case.out], tmp_path / "out")
    assert said.startswith("3 reports compared")
    assert "a ratio to that report's own baseline" in said
    assert "different machines or versions" in said
    assert "different originals" in said


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        (ReportSettings(shapes=("8by128",)), UsageError, "--shapes has '8by128'; give texts x tokens"),
        (ReportSettings(shapes=("1x4096",)), UsageError, "takes? texts of 160 tokens at most"),
    ],
)
def test_wrong_settings_are_one_sentence(
    case: Case, tmp_path: Path, settings: ReportSettings, error: type[Exception], sentence: str
) -> None:
    wrong = dataclasses.replace(case.settings, shapes=settings.shapes)
    with quiet(), pytest.raises(error, match=sentence):
        write_report(str(case.before), case.after, tmp_path / "out", case.data, Silent(), wrong)
    assert not (tmp_path / "out").exists()


def test_the_server_says_why_it_cannot_measure(case: Case) -> None:
    with pytest.raises(ExportError, match=r"the models cannot be measured: the specification .* cannot be read"):
        measuring._run(case.before / "none.json")


def test_without_a_runtime_there_is_a_sentence(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measuring, "_is_installed", lambda _: False)
    with quiet(), pytest.raises(ExportError, match="none of the runtimes onnxruntime is installed"):
        write_report(str(case.before), case.after, tmp_path / "out", case.data, Silent(), case.settings)

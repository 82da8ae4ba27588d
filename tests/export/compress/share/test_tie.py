from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from ridgeline_export.compress.method import method_of
from ridgeline_export.compress.share.factorize import Factorize
from ridgeline_export.compress.share.tie import Tie
from ridgeline_export.errors import UsageError
from ridgeline_export.form.factors import FactorizedHead
from tests.export.compress.share.sharing import BRIEF, outputs, parameters, read, share
from tests.models import write_model


def untied(directory: Path, name: str) -> Path:
    """A model whose output layer has a table and a bias of its own, not zeros."""
    path = write_model(directory / f"untied-{name}", name, "fill-mask", tie_word_embeddings=False)
    model = transformers.AutoModelForMaskedLM.from_pretrained(path)
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_(generator=torch.Generator().manual_seed(0))
    model.save_pretrained(path)
    return path


def tables(model: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Copies of the input's table, the output's, and the output's bias."""
    head = model.get_output_embeddings()  # type: ignore[attr-defined]
    found = model.get_input_embeddings().weight, head.weight, head.bias  # type: ignore[attr-defined]
    return tuple(each.detach().clone() for each in found)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "modernbert"])
def test_both_ends_read_one_table_and_the_bias_stays(name: str, texts_file: Path, tmp_path: Path) -> None:
    model = untied(tmp_path, name)
    before_input, before_output, bias = tables(read(model).model)
    share(Tie(recover=False), model, tmp_path / "out", texts_file)
    result = read(tmp_path / "out").model
    assert result.get_output_embeddings().weight is result.get_input_embeddings().weight
    assert parameters(tmp_path / "out") <= parameters(model) - before_output.numel()
    after_input, _, after_bias = tables(result)
    torch.testing.assert_close(after_input, (before_input + before_output) / 2)
    torch.testing.assert_close(after_bias, bias)
    stock = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    torch.testing.assert_close(outputs(stock), outputs(result), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untied(tmp_path_factory.mktemp("models"), "bert")


@pytest.mark.parametrize("table", ["input", "output"])
def test_the_table_is_the_one_that_was_asked_for(table: str, model: Path, texts_file: Path, tmp_path: Path) -> None:
    before = tables(read(model).model)
    outcome = share(Tie(table=table, recover=False), model, tmp_path / "out", texts_file)
    after = tables(read(tmp_path / "out").model)
    assert torch.equal(after[0], before[0 if table == "input" else 1]) and outcome.figures["table"] == table


def test_recovery_trains_the_one_table(model: Path, texts_file: Path, tmp_path: Path) -> None:
    outcome = share(Tie(training=BRIEF), model, tmp_path / "out", texts_file)
    result = read(tmp_path / "out").model
    assert result.get_output_embeddings().weight is result.get_input_embeddings().weight
    assert outcome.figures["recovery"]["steps"] == 3
    assert outcome.figures["parameters"] == parameters(tmp_path / "out")


def test_a_factorized_table_is_tied_by_its_factors(model: Path, texts_file: Path, tmp_path: Path) -> None:
    share(Factorize(rank=5, recover=False), model, tmp_path / "factorized", texts_file)
    assert isinstance(read(tmp_path / "factorized").model.get_output_embeddings(), torch.nn.Linear)
    with pytest.raises(UsageError, match="table is average, but the input's is a product of two"):
        share(Tie(table="average", recover=False), tmp_path / "factorized", tmp_path / "out", texts_file)
    share(Tie(training=BRIEF), tmp_path / "factorized", tmp_path / "out", texts_file)
    result = read(tmp_path / "out").model
    assert isinstance(result.get_output_embeddings(), FactorizedHead)
    stock = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    assert stock.get_output_embeddings().weight is stock.get_input_embeddings().weight
    torch.testing.assert_close(outputs(stock), outputs(result), atol=1e-4, rtol=1e-4)
    with pytest.raises(UsageError, match="tied already"):
        share(Tie(recover=False), tmp_path / "out", tmp_path / "again", texts_file)


def test_models_with_nothing_to_tie_are_refused(texts_file: Path, tmp_path: Path) -> None:
    plain = write_model(tmp_path / "plain", "bert")
    with pytest.raises(UsageError, match="BertModel has no output layer over the vocabulary"):
        share(Tie(recover=False), plain, tmp_path / "out", texts_file)
    tied = write_model(tmp_path / "tied", "bert", "fill-mask")
    with pytest.raises(UsageError, match="tied already"):
        share(Tie(recover=False), tied, tmp_path / "out", texts_file)
    assert not (tmp_path / "out").exists()


def test_tables_of_different_shapes_are_refused(
    model: Path, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers.BertForMaskedLM, "get_output_embeddings", lambda _: torch.nn.Linear(8, 9))
    with pytest.raises(UsageError, match=r"the output layer of BertForMaskedLM is 9 × 8 and the word table \d+ × 32"):
        share(Tie(recover=False), model, tmp_path / "out", texts_file)


def test_the_method_is_known() -> None:
    method = method_of(Tie())
    assert (method.family, method.name) == ("share", "tie")

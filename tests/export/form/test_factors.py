"""A word table that is a product: smaller in memory, whole for stock transformers, the product again when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from ridgeline_export.errors import ModelError, UnsupportedModelError
from ridgeline_export.form.dissolve import dissolve, extras_of
from ridgeline_export.form.extras import write_extras
from ridgeline_export.form.factors import FactorizedEmbedding, FactorizedHead, factors_of, install_factors
from ridgeline_export.form.form import Form, write_form
from ridgeline_export.form.restore import restore
from tests.export.form.encoders import NAMES, make_encoder, outputs

RANK = 5
FORM = Form(embedding_rank=RANK)
_SMALL = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
          "intermediate_size": 24, "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
HEADS = ("Bert", "Roberta", "DistilBert", "Albert", "Electra", "MPNet", "DebertaV2", "ModernBert", "NomicBert")


def install(model: Any) -> Any:
    """Random factors in the place of the word table."""
    vocabulary, width = model.get_input_embeddings().weight.shape
    generator = torch.Generator().manual_seed(0)
    table, projection = (torch.randn(*shape, generator=generator) for shape in ((vocabulary, RANK), (RANK, width)))
    install_factors(model, table, projection)
    return model


def save(model: Any, directory: Path) -> None:
    stock = dissolve(model, FORM)
    write_form(stock.config, FORM)
    stock.save_pretrained(directory)
    write_extras(directory, extras_of(model, FORM))


def read(model: Any, directory: Path) -> Any:
    return type(model).from_pretrained(directory, attn_implementation="eager").eval()


@pytest.mark.parametrize("name", NAMES)
def test_any_encoder_answers_alike_with_the_product_and_with_the_whole_table(name: str, tmp_path: Path) -> None:
    model = make_encoder(name)
    vocabulary, width = model.get_input_embeddings().weight.shape
    whole = int(model.num_parameters())
    install(model)
    expected = outputs(model)
    assert int(model.num_parameters()) == whole - vocabulary * width + RANK * (vocabulary + width)
    assert isinstance(model.get_input_embeddings(), FactorizedEmbedding)
    save(model, tmp_path)
    stock = read(model, tmp_path)
    assert isinstance(stock.get_input_embeddings(), nn.Embedding) and int(stock.num_parameters()) == whole
    torch.testing.assert_close(outputs(stock), expected, atol=1e-4, rtol=1e-4)
    assert restore(stock, tmp_path) == FORM
    torch.testing.assert_close(outputs(stock), expected, atol=1e-4, rtol=1e-4)
    assert int(stock.num_parameters()) == int(model.num_parameters())


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("prefix", HEADS)
def test_an_output_layer_reads_the_same_factors_where_it_was_tied(prefix: str, is_tied: bool, tmp_path: Path) -> None:
    fields = {"embedding_size": 16} if prefix in ("Albert", "Electra") else {}
    fields |= {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 24} if prefix == "DistilBert" else {}
    config = getattr(transformers, f"{prefix}Config")(**_SMALL | fields, tie_word_embeddings=is_tied)
    torch.manual_seed(1)
    model = getattr(transformers, f"{prefix}ForMaskedLM")._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_()
    install(model)
    head = model.get_output_embeddings()
    assert isinstance(head, FactorizedHead) is is_tied
    expected = outputs(model)
    if is_tied:
        states = torch.randn(2, head.in_features)
        torch.testing.assert_close(head(states), states @ head.weight.t() + head.bias, atol=1e-4, rtol=1e-4)
        assert head.table is model.get_input_embeddings().table.weight and head.out_features == 60
    save(model, tmp_path)
    stock = read(model, tmp_path)
    torch.testing.assert_close(outputs(stock), expected, atol=1e-4, rtol=1e-4)
    restore(stock, tmp_path)
    torch.testing.assert_close(outputs(stock), expected, atol=1e-4, rtol=1e-4)
    assert int(stock.num_parameters()) == int(model.num_parameters())


def test_a_training_step_reaches_both_factors_and_they_are_saved_as_it_left_them(tmp_path: Path) -> None:
    model = install(make_encoder("roberta")).train()
    before = factors_of(model)
    model(input_ids=torch.arange(6, 12)[None])[0].square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    after = factors_of(model)
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    save(model.eval(), tmp_path)
    again = read(model, tmp_path)
    restore(again, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(factors_of(again), after, strict=True))


def test_factors_that_are_not_there_or_not_the_tables_are_refused(tmp_path: Path) -> None:
    model = install(make_encoder("bert"))
    save(model, tmp_path)
    stock = read(model, tmp_path)
    write_form(stock.config, Form(embedding_rank=RANK + 1))
    with pytest.raises(ModelError, match="make no word table of \\(60, 32\\) at rank 6"):
        restore(stock, tmp_path)
    write_form(stock.config, FORM)
    with torch.no_grad():
        stock.get_input_embeddings().weight[7, 3] += 1
    with pytest.raises(ModelError, match="not the product of its factors"):
        restore(stock, tmp_path)
    (tmp_path / "ridgeline.safetensors").unlink()
    with pytest.raises(ModelError, match="has no factors"):
        restore(stock, tmp_path)


def test_a_table_that_does_more_than_look_up_is_refused() -> None:
    model = make_encoder("bert")

    class Scaled(nn.Embedding):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) * 2

    model.set_input_embeddings(Scaled(60, 32))
    with pytest.raises(UnsupportedModelError, match="Scaled, which cannot be factorized"):
        install(model)

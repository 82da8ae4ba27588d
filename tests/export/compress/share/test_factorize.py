from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from ridgeline_export.answers import run_graph
from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.method import method_of
from ridgeline_export.compress.share.factorize import Factorize, factors, token_counts
from ridgeline_export.compress.share.layers import ShareLayers
from ridgeline_export.errors import TargetError
from ridgeline_export.form.factors import FactorizedEmbedding, FactorizedHead
from ridgeline_export.form.form import Form, read_form
from ridgeline_export.packed.command import make_graph
from ridgeline_export.packed.save import save_packed
from ridgeline_export.packed.torch_model import load_torch_model
from ridgeline_export.quiet import quiet
from ridgeline_export.source import Source
from tests.export.compress.share.sharing import BRIEF, outputs, parameters, read, share
from tests.models import add_sentence_modules, write_model


def table(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A table [50, 12] whose values fall off slowly, and how often each row is used; some never."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(50, 12)) * np.linspace(2, 0.5, 12) + rng.normal(size=12)
    return torch.from_numpy(weight).float(), torch.from_numpy(rng.zipf(1.3, 50).clip(max=5000) - 1).double()


def weighted_error(weight: torch.Tensor, product: torch.Tensor, counts: torch.Tensor | None) -> float:
    rows = (weight.double() - product.double()).square().sum(dim=1)
    return float((rows * (1 if counts is None else counts + 1)).sum())


@pytest.mark.parametrize("rank", [1, 4, 11])
@pytest.mark.parametrize("is_weighted", [True, False])
def test_no_product_of_that_rank_is_nearer(rank: int, is_weighted: bool) -> None:
    weight, uses = table()
    counts = uses if is_weighted else None
    left, right, kept = factors(weight, rank, counts)
    assert left.shape == (50, rank) and right.shape == (rank, 12)
    torch.testing.assert_close(right @ right.t(), torch.eye(rank), atol=1e-5, rtol=1e-5)
    error = weighted_error(weight, left @ right, counts)
    # The theorem's own bound: the singular values of the scaled table that are left out.
    scaled = weight.double() * (1 if counts is None else (counts + 1).sqrt()[:, None])
    values = torch.linalg.svdvals(scaled)
    assert error == pytest.approx(float(values[rank:].square().sum()), rel=1e-4)
    assert kept == pytest.approx(float(values[:rank].square().sum() / values.square().sum()), rel=1e-6)


def test_frequent_rows_are_nearer_than_without_counts() -> None:
    weight, counts = table()
    by_count, plain = factors(weight, 4, counts), factors(weight, 4, None)
    assert weighted_error(weight, by_count[0] @ by_count[1], counts) < weighted_error(
        weight, plain[0] @ plain[1], counts
    )
    assert weighted_error(weight, by_count[0] @ by_count[1], None) > weighted_error(weight, plain[0] @ plain[1], None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, texts_file: Path) -> Path:
    """A sentence encoder whose two layers have the same weights."""
    whole = add_sentence_modules(write_model(tmp_path_factory.mktemp("models") / "whole", "bert"))
    share(ShareLayers(groups=("1",), recover=False), whole, whole.parent / "shared", texts_file)
    return whole.parent / "shared"


@pytest.fixture(scope="module")
def factorized(model: Path, texts_file: Path) -> Path:
    out = model.parent / "factorized"
    outcome = share(Factorize(rank=6, training=BRIEF), model, out, texts_file)
    assert 0.3 < outcome.figures["kept"] < 1 and outcome.figures["recovery"]["steps"] == 3
    assert f"of {parameters(model):,} parameters are left" in outcome.summary
    return out


def test_the_factors_lie_beside_the_whole_table(model: Path, factorized: Path) -> None:
    loaded = read(factorized)
    embedding = loaded.model.get_input_embeddings()
    assert isinstance(embedding, FactorizedEmbedding)
    saved = parameters(model) - int(loaded.model.num_parameters())
    rows = embedding.num_embeddings
    assert saved == rows * 32 - 6 * (rows + 32)
    assert read_form(loaded.model.config) == Form(shared_layers=((0, 1),), embedding_rank=6)
    extras, weights = load_file(factorized / "ridgeline.safetensors"), load_file(factorized / "model.safetensors")
    product = extras["embeddings.table"] @ extras["embeddings.projection"]
    torch.testing.assert_close(product, weights["embeddings.word_embeddings.weight"], atol=1e-5, rtol=1e-5)
    stock = transformers.AutoModel.from_pretrained(factorized, attn_implementation="eager").eval()
    torch.testing.assert_close(outputs(stock), outputs(loaded.model), atol=1e-4, rtol=1e-4)


def test_tokens_are_counted_as_the_model_reads_them(model: Path) -> None:
    encoder = read(model).encoder
    counts = token_counts(encoder, [Example("a"), Example(("a", "a a"))] * 600, 500)
    (lone, pair) = (encoding.ids for encoding in encoder.encode(["a", ("a", "a a")]))
    assert int(counts.sum()) == 600 * (len(lone) + len(pair))
    assert int(counts[lone[0]]) == 1200 and int(counts[lone[1]]) == 2400


def test_a_packed_graph_has_the_factors_and_each_shared_weight_once(factorized: Path, tmp_path: Path) -> None:
    with quiet():
        source = load_torch_model(Source(factorized, "tiny"), None)
        program, _ = make_graph(source, "fp32", None, inline=False)
        run, names = run_graph(save_packed(program, tmp_path))
    loaded = read(factorized)
    rows = loaded.model.get_input_embeddings().num_embeddings
    shapes = [tuple(value.shape.numpy()) for value in program.graph.initializers.values() if value.shape is not None]
    assert (rows, 6) in shapes and (rows, 32) not in shapes
    assert [sorted(shape) for shape in shapes].count([32, 64]) == 2, "two matrices of the feed-forward for both layers"
    ids = np.arange(20, 27)[None]
    given = {"position_ids": np.arange(7)[None], "token_type_ids": np.zeros_like(ids)}
    feed = {"input_ids": ids, "cu_seqlens": np.array([0, 7], np.int32), **given}
    answer = run({name: feed[name] for name in names})["last_hidden_state"]
    with torch.no_grad():
        expected = loaded.model(input_ids=torch.from_numpy(ids))[0].numpy()
    np.testing.assert_allclose(answer, expected, atol=2e-5)


def test_a_factorized_model_can_be_factorized_further(factorized: Path, texts_file: Path, tmp_path: Path) -> None:
    share(Factorize(rank=3, by_frequency=False, recover=False), factorized, tmp_path / "out", texts_file)
    assert read(tmp_path / "out").model.get_input_embeddings().table.embedding_dim == 3
    with pytest.raises(TargetError, match=r"rank 6 saves nothing: .* product of rank 6 already; give a rank of 1 to 5"):
        share(Factorize(rank=6, recover=False), factorized, tmp_path / "again", texts_file)


def test_a_rank_that_saves_nothing_is_refused(model: Path, texts_file: Path, tmp_path: Path) -> None:
    rows = read(model).model.get_input_embeddings().num_embeddings
    largest = (rows * 32 - 1) // (rows + 32)
    with pytest.raises(TargetError, match=f"rank 31 saves nothing: .* {rows} × 32; give a rank of 1 to {largest}"):
        share(Factorize(rank=31, recover=False), model, tmp_path / "out", texts_file)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["electra", "deberta-v2"])
def test_a_model_that_fills_in_words_multiplies_by_the_factors_too(name: str, texts_file: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", name, "fill-mask")
    outcome = share(Factorize(training=BRIEF), model, tmp_path / "out", texts_file)
    loaded = read(tmp_path / "out")
    assert loaded.task == "fill-mask" and isinstance(loaded.model.get_output_embeddings(), FactorizedHead)
    width = loaded.model.get_input_embeddings().embedding_dim
    assert outcome.figures["rank"] == width // 4
    stock = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    assert stock.get_output_embeddings().weight is stock.get_input_embeddings().weight
    torch.testing.assert_close(outputs(stock), outputs(loaded.model), atol=1e-4, rtol=1e-4)


def test_the_method_is_known() -> None:
    method = method_of(Factorize())
    assert (method.family, method.name) == ("share", "factorize")

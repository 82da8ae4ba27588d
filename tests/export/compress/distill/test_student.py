from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_export.compress.data.data import Data, Example
from ridgeline_export.compress.distill.distill import Distill
from ridgeline_export.compress.distill.narrow import narrow
from ridgeline_export.compress.distill.projection import fit_projection
from ridgeline_export.compress.distill.student import make_student
from ridgeline_export.compress.method import Job
from ridgeline_export.compress.progress import Silent
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.errors import UnsupportedModelError, UsageError
from ridgeline_export.form.form import Form, LayerForm
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.source import find_model
from tests.models import write_model

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
INPUTS = {"input_ids": torch.arange(10, 22).view(2, 6), "attention_mask": MASK}
EXAMPLES = [Example(f"text {number} of a few that are here to be counted, {number * number}") for number in range(40)]


@pytest.fixture
def load(tiny_models: Callable[[str, str], Path]) -> Callable[..., LoadedModel]:
    def loaded(name: str, task: str = "feature-extraction") -> LoadedModel:
        return load_model(find_model(str(tiny_models(name, task))), task)

    return loaded


def make_job(loaded: LoadedModel, form: Form | None = None) -> Job:
    data = Data("texts", tuple(EXAMPLES), DataSettings())
    return Job(loaded, form or Form(), {}, data, Path(), Silent())


def answer(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**INPUTS)[0]
    return found[MASK.bool()]


@pytest.mark.parametrize(
    "name", ["bert", "roberta", "distilbert", "albert", "electra", "mpnet", "deberta-v2", "modernbert"]
)
def test_as_wide_as_the_teacher_it_is_the_teacher(load: Callable[..., LoadedModel], name: str) -> None:
    loaded = load(name, "fill-mask")
    same = narrow(loaded, EXAMPLES, 16, hidden=32)
    assert same.model is not loaded.model
    torch.testing.assert_close(same.model(**INPUTS).logits, loaded.model(**INPUTS).logits)


@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "mpnet"])
def test_what_does_nothing_goes_first(load: Callable[..., LoadedModel], name: str) -> None:
    """With useless channels, heads and states planted, leaving them out changes nothing but layer norms' statistics."""
    from ridgeline_export.form.layout import read_layout

    loaded = load(name)
    layout = read_layout(loaded.model)
    with torch.no_grad():
        for layer in layout.layers:
            for cut in layer.channel_cuts:
                cut.module.weight.index_fill_(cut.dim, cut.index[1::2], 0.0)
                if cut.dim == 0 and cut.module.bias is not None:
                    cut.module.bias.index_fill_(0, cut.index[1::2], 0.0)
    before = answer(loaded.model)
    thin = narrow(loaded, EXAMPLES, 16, ffn=32)
    torch.testing.assert_close(answer(thin.model), before)
    assert thin.model.num_parameters() < loaded.model.num_parameters()


def test_the_states_that_vary_are_kept(load: Callable[..., LoadedModel]) -> None:
    loaded = load("bert")
    kept = [1, 2, 5, 6, 7, 11, 12, 13, 17, 18, 20, 21, 25, 28, 30, 31]
    still = [channel for channel in range(32) if channel not in kept]
    with torch.no_grad():
        for module in loaded.model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight[still] = 1e-4
    student = narrow(loaded, EXAMPLES, 16, hidden=16).model
    table = loaded.model.embeddings.word_embeddings.weight
    assert torch.equal(student.embeddings.word_embeddings.weight, table[:, kept])
    config = student.config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (16, 2, 32)


def test_projections_are_the_best_linear_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(300, 4, generator=generator)
    weight, bias = torch.randn(4, 7, generator=generator), torch.randn(7, generator=generator)
    before = torch.random.get_rng_state()
    linear = fit_projection(student, student @ weight + bias)
    torch.testing.assert_close(linear(student), student @ weight + bias, rtol=0, atol=0.2)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "kept"),
    [(Distill(student_layers=1), (0,)), (Distill(student_layers=2), (0, 3)), (Distill(layers=(1, 2, 3)), (1, 2, 3))],
)
def test_layers_are_the_teachers(tmp_path: Path, config: Distill, kept: tuple[int, ...]) -> None:
    loaded = load_model(find_model(str(write_model(tmp_path / "model", "bert", num_hidden_layers=4))))
    layers = list(loaded.model.encoder.layer)
    job = make_job(loaded)
    teacher = make_student(config, job, EXAMPLES)
    assert len(teacher.model.encoder.layer) == 4 and teacher.model.config.num_hidden_layers == 4
    assert [layers.index(layer) for layer in job.loaded.model.encoder.layer] == list(kept)
    owned = {parameter.data_ptr() for parameter in teacher.model.parameters()}
    assert not owned & {parameter.data_ptr() for parameter in job.loaded.model.parameters()}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (Distill(), "nothing says how small the student is"),
        (Distill(student_layers=3), "student_layers is 3, but the teacher has 2"),
        (Distill(layers=(0, 2)), "layers is 0, 2; give numbers from 0 to 1"),
        (Distill(layers=(1, 0)), "in ascending order, each once"),
        (Distill(layers=(0,), student_layers=1), "both say which layers"),
        (Distill(student=Path("x"), hidden=16), "a model of its own, which hidden cannot change"),
        (Distill(hidden=64), "hidden is 64, wider than the teacher's 32"),
        (Distill(ffn=65), "ffn is 65, wider than the teacher's 64"),
        (Distill(hidden=20), "give a multiple of 8"),
        (Distill(heads=2), "give hidden 16 for 2 heads"),
    ],
)
def test_students_that_are_none(load: Callable[..., LoadedModel], config: Distill, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make_student(config, make_job(load("bert")), EXAMPLES)


def test_a_compressed_model_is_not_made_narrower(load: Callable[..., LoadedModel]) -> None:
    job = make_job(load("bert"), Form(layers=(LayerForm((0,), 8),) * 2))
    with pytest.raises(UsageError, match="this one was compressed before"):
        make_student(Distill(hidden=16), job, EXAMPLES)


def test_electra_whose_embeddings_would_need_no_projection(load: Callable[..., LoadedModel]) -> None:
    with pytest.raises(UnsupportedModelError, match="'electra' models cannot be made narrower in this way"):
        narrow(load("electra"), EXAMPLES, 16, hidden=16)


@pytest.fixture
def smaller(tmp_path: Path) -> Path:
    return write_model(tmp_path / "smaller", "bert", num_hidden_layers=1, hidden_size=16, intermediate_size=32)


def test_a_students_own_directory(load: Callable[..., LoadedModel], smaller: Path) -> None:
    loaded = load("bert")
    job = make_job(loaded)
    assert make_student(Distill(student=smaller), job, EXAMPLES) is loaded
    assert job.loaded.model.config.hidden_size == 16
    assert job.form.is_plain


def test_a_plain_student_pools_as_its_teacher(tiny_models: Callable[..., Path], tmp_path: Path, smaller: Path) -> None:
    from tests.models import add_sentence_modules

    directory = add_sentence_modules(write_model(tmp_path / "teacher", "bert"), pooling="cls", normalize=True)
    job = make_job(load_model(find_model(str(directory))))
    make_student(Distill(student=smaller), job, EXAMPLES)
    assert job.loaded.modules is not None and job.loaded.modules.pooling == "cls" and job.loaded.modules.normalize
    assert job.loaded.source.directory == directory


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("roberta", {}, "has another tokenizer than the teacher"),
        ("bert", {"num_hidden_layers": 3}, "has 3 layers, more than the teacher's 2"),
        ("bert", {"hidden_size": 40}, "has 40 dimensions, more than the teacher's 32"),
    ],
)
def test_students_of_ones_own_that_do_not_fit(
    load: Callable[..., LoadedModel], tmp_path: Path, name: str, fields: dict[str, Any], sentence: str
) -> None:
    directory = write_model(tmp_path / "student", name, **fields)
    with pytest.raises(UsageError, match=sentence):
        make_student(Distill(student=directory), make_job(load("bert")), EXAMPLES)


def test_a_student_gets_the_teachers_head(load: Callable[..., LoadedModel], smaller: Path) -> None:
    loaded = load("bert", "text-classification")
    heads = []
    for seed in (0, 0, 1):
        job = make_job(loaded)
        config = Distill(student=smaller)
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
        make_student(config, job, EXAMPLES)
        assert job.loaded.labels == ("calm", "glad", "sad")
        heads.append(job.loaded.model.classifier.weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])

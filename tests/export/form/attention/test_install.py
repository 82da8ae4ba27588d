from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ridgeline_export.errors import ModelError, UnsupportedModelError, UsageError
from ridgeline_export.form.attention import (
    attention_extras,
    attention_form,
    attention_of,
    attention_tensors,
    initial_extras,
    install_attention,
    remove_attention,
    sample_tokens,
)
from ridgeline_export.form.form import AttentionForm
from ridgeline_export.load import load_model
from ridgeline_export.source import Source
from tests.models import write_model

LOCAL = AttentionForm("local-global", {"window": 4, "global_tokens": 1})
FORMS = {
    "nystrom": AttentionForm("nystrom", {"landmarks": 8, "iterations": 6, "conv": 3}),
    "linformer": AttentionForm("linformer", {"rank": 8, "max_length": 160, "separate_values": True}),
    "lsh": AttentionForm("lsh", {"chunk": 16, "key_chunks": 2, "buckets": 4, "rounds": 2}),
    "local-global": LOCAL,
}
Models = Callable[..., Path]


def load(directory: Path) -> Any:
    return load_model(Source(directory, "tiny")).model


def install(model: Any, form: AttentionForm, seed: int = 0) -> dict[str, Tensor]:
    extras = initial_extras(model, form, seed)
    install_attention(model, form, extras)
    return extras


def batch(lengths: tuple[int, ...] = (90, 41, 3), seed: int = 0) -> dict[str, Tensor]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 400, mask.shape, generator=torch.Generator().manual_seed(seed))
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def answer(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        states: Tensor = model(**inputs)[0]
    return states


def attentions(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if attention_of(module) is not None]


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "distilbert", "albert", "electra", "modernbert"])
def test_padding_changes_nothing_and_attention_is_replaced(tiny_models: Models, name: str) -> None:
    model = load(tiny_models(name, "feature-extraction"))
    inputs = batch()
    exact = answer(model, inputs)
    install(model, LOCAL)
    given = answer(model, inputs)
    assert (given[0] - exact[0]).abs().max() > 1e-3
    for row, length in enumerate((90, 41, 3)):
        alone = answer(model, {key: tensor[row : row + 1, :length] for key, tensor in inputs.items()})
        torch.testing.assert_close(given[row, :length], alone[0], atol=2e-5, rtol=0)
    assert torch.equal(answer(model, {"input_ids": inputs["input_ids"][:1]}), answer(model, batch((90,))))
    remove_attention(model)
    torch.testing.assert_close(answer(model, inputs), exact, atol=0, rtol=0)
    assert not attentions(model) and not any("ridgeline" in key for key in model.state_dict())


@pytest.mark.parametrize("method", FORMS)
def test_each_method_is_installed_from_what_was_saved(tiny_models: Models, method: str) -> None:
    directory = tiny_models("bert", "feature-extraction")
    model, again = load(directory), load(directory)
    form, inputs = FORMS[method], batch()
    install(model, form)
    for parameter in (each for module in attentions(model) for each in attention_tensors(module).values()):
        parameter.data.add_(0.1)
    extras = attention_extras(model)
    install_attention(again, form, extras)
    assert torch.equal(answer(model, inputs), answer(again, inputs))
    assert attention_form(model) == form and len(attentions(model)) == 2
    names = {name.rpartition(".")[2] for name in extras}
    assert names == set(attention_tensors(attentions(model)[0]))
    assert (
        names
        == {
            "nystrom": {"conv_kernel"},
            "linformer": {"key_projection", "value_projection"},
            "lsh": {"rotations"},
            "local-global": set(),
        }[method]
    )


def test_trained_tensors_are_parameters_and_drawn_ones_are_not(tiny_models: Models) -> None:
    directory = tiny_models("bert", "feature-extraction")
    for method, is_trained in (("linformer", True), ("lsh", False)):
        model = load(directory)
        before = {name: tensor.clone() for name, tensor in install(model, FORMS[method]).items()}
        named = dict(model.named_parameters())
        assert any("ridgeline_attention" in name for name in named) is is_trained
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model(**batch())[0].square().sum().backward()
        optimizer.step()
        after = attention_extras(model)
        assert all(torch.equal(before[name], after[name]) is not is_trained for name in before)


def test_rotations_differ_between_layers_and_follow_the_seed(tiny_models: Models) -> None:
    model = load(tiny_models("bert", "feature-extraction"))
    first, second, other = (initial_extras(model, FORMS["lsh"], seed) for seed in (0, 0, 1))
    name = "attention.0.rotations"
    assert torch.equal(first[name], second[name]) and not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first["attention.1.rotations"])


def test_chosen_layers_alone_are_replaced(tiny_models: Models) -> None:
    model = load(tiny_models("bert", "feature-extraction"))
    form = AttentionForm(LOCAL.method, {**LOCAL.settings, "layers": [1]})
    install(model, form)
    assert attentions(model) == [model.encoder.layer[1].attention.self]
    assert attention_form(model) == form
    # A layer less below: what was layer 1 is layer 0.
    del model.encoder.layer[0]
    assert attention_form(model) == AttentionForm(LOCAL.method, {**LOCAL.settings, "layers": [0]})


def test_modernberts_local_layers_stay_as_they_are(tiny_models: Models) -> None:
    model = load(tiny_models("modernbert", "feature-extraction"))
    kinds = model.config.layer_types
    install(model, LOCAL)
    replaced = [attention_of(layer.attn) is not None for layer in model.layers]
    assert replaced == [kind == "full_attention" for kind in kinds] and set(replaced) == {False, True}
    local = AttentionForm(LOCAL.method, {**LOCAL.settings, "layers": [kinds.index("sliding_attention")]})
    with pytest.raises(UnsupportedModelError, match="does not see the whole text"):
        initial_extras(model, local, 0)


def test_alberts_layers_share_one_attention(tiny_models: Models) -> None:
    model = load(tiny_models("albert", "feature-extraction"))
    install(model, FORMS["linformer"])
    assert len(attentions(model)) == 1
    assert set(attention_extras(model)) == {"attention.0.key_projection", "attention.0.value_projection"}
    with pytest.raises(UnsupportedModelError, match="share their attention"):
        initial_extras(model, AttentionForm(LOCAL.method, {**LOCAL.settings, "layers": [0]}), 0)


@pytest.mark.parametrize("name", ["mpnet", "deberta-v2"])
def test_models_that_compute_attention_by_themselves_are_refused(tiny_models: Models, name: str) -> None:
    model = load(tiny_models(name, "feature-extraction"))
    with pytest.raises(UnsupportedModelError, match=f"'{name}' models compute attention by themselves"):
        initial_extras(model, LOCAL, 0)


def test_relative_bias_and_causal_attention_are_refused() -> None:
    import transformers

    sizes: dict[str, Any] = {"vocab_size": 50, "num_layers": 1, "d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 64}
    t5 = transformers.T5EncoderModel(transformers.T5Config(**sizes, is_encoder_decoder=False, use_cache=False))
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    llama = transformers.LlamaModel(transformers.LlamaConfig(**sizes, intermediate_size=64, use_cache=False))
    for model in (t5, llama):
        before = model.config._attn_implementation
        with pytest.raises(UnsupportedModelError):
            initial_extras(model, LOCAL, 0)
        assert model.config._attn_implementation == before


def test_padding_on_the_left_is_refused(tiny_models: Models) -> None:
    model = load(tiny_models("bert", "feature-extraction"))
    install(model, LOCAL)
    inputs = batch()
    with pytest.raises(UsageError, match="padding on the right alone"):
        answer(model, {**inputs, "attention_mask": inputs["attention_mask"].flip(1)})


def test_forms_and_tensors_that_do_not_belong_to_the_model_are_refused(tiny_models: Models) -> None:
    model = load(tiny_models("bert", "feature-extraction"))
    extras = initial_extras(model, FORMS["lsh"], 0)
    with pytest.raises(
        ModelError, match=r"'attention.1.rotations' is missing; lsh attention needs it as \[1, 2, 8, 2\]"
    ):
        install_attention(model, FORMS["lsh"], {"attention.0.rotations": extras["attention.0.rotations"]})
    with pytest.raises(ModelError, match=r"has the shape \[1, 2, 8, 1\]"):
        install_attention(model, FORMS["lsh"], {name: tensor[..., :1] for name, tensor in extras.items()})
    for layers in ([2], [-1], "all"):
        with pytest.raises(ModelError, match="the model's layers have the numbers 0 to 1"):
            install_attention(model, AttentionForm(LOCAL.method, {**LOCAL.settings, "layers": layers}), {})
    assert not attentions(model)


def test_a_copy_attends_as_the_model_and_by_itself(tiny_models: Models) -> None:
    model = load(tiny_models("bert", "feature-extraction"))
    install(model, FORMS["nystrom"])
    twin = copy.deepcopy(model)
    assert torch.equal(answer(twin, batch()), answer(model, batch()))
    remove_attention(twin)
    assert not torch.equal(answer(twin, batch()), answer(model, batch()))


def test_grouped_keys_serve_their_queries() -> None:
    from ridgeline_export.form.attention.replacement import Replacement

    replacement = Replacement(LOCAL, {})
    q, k, v = torch.randn(2, 4, 30, 8), torch.randn(2, 2, 30, 8), torch.randn(2, 2, 30, 8)
    is_token = torch.ones(2, 30, dtype=torch.bool)
    given = replacement(q, k, v, is_token, 0.3, 0.0)
    whole = replacement(q, *(x.repeat_interleave(2, dim=1) for x in (k, v)), is_token, 0.3, 0.0)
    torch.testing.assert_close(given, whole)


def test_a_sample_to_export_from_has_more_than_one_block(tiny_models: Models, tmp_path: Path) -> None:
    model = load(write_model(tmp_path, "bert"))
    assert sample_tokens(model) == 0
    install(model, FORMS["lsh"])
    assert sample_tokens(model) > 2 * 16


def test_a_model_runs_in_another_process(tiny_models: Models, tmp_path: Path) -> None:
    model = load(tiny_models("bert"))
    install(model, LOCAL)
    inputs = batch()
    torch.save((model, inputs), tmp_path / "model.pt")
    run = (
        "import sys, torch; model, inputs = torch.load(sys.argv[1], weights_only=False); "
        "torch.save(model(**inputs)[0].detach(), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", run, tmp_path / "model.pt", tmp_path / "answer.pt"], check=True)
    torch.testing.assert_close(torch.load(tmp_path / "answer.pt"), answer(model, inputs))

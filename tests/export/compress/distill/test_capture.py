from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_export.compress.distill.capture import capture
from ridgeline_export.compress.distill.seen import Wanted, observe, pooled
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.sentence_modules import SentenceModules
from ridgeline_export.source import find_model

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
IDS = torch.arange(10, 22).view(2, 6)


@pytest.fixture(scope="module")
def load(tiny_models: Callable[[str, str], Path]) -> Callable[[str], LoadedModel]:
    made: dict[str, LoadedModel] = {}

    def loaded(name: str) -> LoadedModel:
        if name not in made:
            made[name] = load_model(find_model(str(tiny_models(name, "feature-extraction"))))
        return made[name]

    return loaded


@pytest.mark.parametrize("name", ["bert", "albert", "modernbert", "mpnet", "deberta-v2"])
def test_hidden_states_are_those_of_the_layers(load: Callable[[str], LoadedModel], name: str) -> None:
    model = load(name).model
    with torch.no_grad():
        expected = model(input_ids=IDS, attention_mask=MASK, output_hidden_states=True).hidden_states
        with capture(model, hidden=True, attention=False) as captured:
            model(input_ids=IDS, attention_mask=MASK)
    assert len(captured.hidden) == len(expected) == 3
    # The last of transformers' may have a final norm more.
    for ours, theirs in zip(captured.hidden[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(ours, theirs)
    with capture(model, hidden=False, attention=False) as nothing:
        model(input_ids=IDS, attention_mask=MASK)
    assert not nothing.hidden and len(captured.hidden) == 3


def make_t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    config._attn_implementation = "eager"
    return T5EncoderModel(config).eval()


@pytest.mark.parametrize("name", ["bert", "albert", "modernbert", "t5"])
def test_scores_are_what_attention_is_computed_from(load: Callable[[str], LoadedModel], name: str) -> None:
    model = make_t5() if name == "t5" else load(name).model
    with torch.no_grad():
        expected = model(input_ids=IDS, attention_mask=MASK, output_attentions=True)
        with capture(model, hidden=False, attention=True) as captured:
            given = model(input_ids=IDS, attention_mask=MASK)
    assert torch.equal(given.last_hidden_state, expected.last_hidden_state)
    assert model.config._attn_implementation == "eager"
    assert len(captured.attentions) == len(expected.attentions) == 2
    is_real = MASK.bool()
    for call, weights in zip(captured.attentions, expected.attentions, strict=True):
        visible = call.visible(is_real)
        scores = call.scores().masked_fill(~visible, -torch.inf).softmax(dim=-1)
        rows = is_real[:, None, :].expand(scores.shape[:3])
        torch.testing.assert_close(scores[rows], weights[rows])


def test_a_model_that_fails_is_as_before(load: Callable[[str], LoadedModel]) -> None:
    model = load("bert").model
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    with pytest.raises(ZeroDivisionError), capture(model, hidden=True, attention=True):
        raise ZeroDivisionError
    assert model.config._attn_implementation == "eager"
    assert sum(len(module._forward_hooks) for module in model.modules()) == hooks


@pytest.mark.parametrize("name", ["mpnet", "deberta-v2"])
def test_models_that_compute_attention_themselves_are_refused(load: Callable[[str], LoadedModel], name: str) -> None:
    loaded = load(name)
    with pytest.raises(UsageError, match=f"'{name}' models compute attention themselves.*hidden_loss.* work"):
        observe(loaded.model, loaded, {"input_ids": IDS, "attention_mask": MASK}, Wanted(relation=1))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_is_that_of_each_text_alone(pooling: str, normalize: bool) -> None:
    from ridgeline_export.metrics import pool

    hidden = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    modules = SentenceModules(Path(), pooling=pooling, normalize=normalize)
    expected = torch.from_numpy(pool([hidden[0].numpy(), hidden[1, :3].numpy()], pooling)).float()
    if normalize:
        expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(pooled(hidden, MASK.bool(), modules), expected)

"""Probabilities of dropout that a config gives for training."""

from __future__ import annotations

from collections.abc import Mapping

from ridgeline_estimate.architecture import Dropout
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError

# T5 has one probability for all of them.
_HIDDEN = ("hidden_dropout_prob", "hidden_dropout", "resid_pdrop", "residual_dropout", "dropout", "dropout_rate")
_ATTENTION = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "dropout_rate")
_INNER = ("activation_dropout", "mlp_dropout", "dropout_rate")

# What the config classes of transformers 5.23 take for probabilities that a config.json does not hold; 0 elsewhere.
_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    **dict.fromkeys(
        ("bert", "biogpt", "camembert", "deberta-v2", "electra", "mpnet", "roberta", "xlm-roberta"),
        {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    ),
    **dict.fromkeys(("gpt2", "gpt_bigcode", "openai-gpt"), {"resid_pdrop": 0.1, "attn_pdrop": 0.1}),
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers"), {"dropout_rate": 0.1}),
    **dict.fromkeys(
        (
            "bart",
            "bigbird_pegasus",
            "blenderbot",
            "blenderbot-small",
            "led",
            "marian",
            "mbart",
            "mvp",
            "opt",
            "pegasus",
        ),
        {"dropout": 0.1},
    ),
    **dict.fromkeys(
        ("distilbert", "m2m_100", "nllb-moe", "plbart", "xglm"), {"dropout": 0.1, "attention_dropout": 0.1}
    ),
    "ctrl": {"resid_pdrop": 0.1},
    "prophetnet": {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1},
    "seed_oss": {"residual_dropout": 0.1, "attention_dropout": 0.1},
}


def read_dropout(values: Values) -> Dropout:
    """Dropout of hidden states, of attention's probabilities, and inside the feed-forward.

    Raises ShapeError when one is no probability.
    """
    return Dropout(*(_probability(values, names) for names in (_HIDDEN, _ATTENTION, _INNER)))


def _probability(values: Values, names: tuple[str, ...]) -> float:
    defaults = _DEFAULTS.get(values.model_type, {})
    for name in names:
        found = values.config.get(name) if name in values.config else defaults.get(name)
        if found is None:
            continue
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < 1:
            raise ShapeError(f"the config's {name} is {found!r}; it should be a number from 0 up, below 1")
        return float(found)
    return 0.0

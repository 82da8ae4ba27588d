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
_BERT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
_GPT2 = {"resid_pdrop": 0.1, "attn_pdrop": 0.1}
_T5 = {"dropout_rate": 0.1}
_BART = {"dropout": 0.1}
_M2M_100 = {"dropout": 0.1, "attention_dropout": 0.1}
_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "bart": _BART,
    "bert": _BERT,
    "bigbird_pegasus": _BART,
    "biogpt": _BERT,
    "blenderbot": _BART,
    "blenderbot-small": _BART,
    "camembert": _BERT,
    "ctrl": {"resid_pdrop": 0.1},
    "data2vec-text": _BERT,
    "deberta-v2": _BERT,
    "distilbert": _M2M_100,
    "electra": _BERT,
    "ernie": _BERT,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gte": {"hidden_dropout_prob": 0.1},
    "ibert": _BERT,
    "jina_embeddings_v3": _BERT,
    "led": _BART,
    "longt5": _T5,
    "m2m_100": _M2M_100,
    "marian": _BART,
    "mbart": _BART,
    "megatron-bert": _BERT,
    "mpnet": _BERT,
    "mt5": _T5,
    "mvp": _BART,
    "nllb-moe": _M2M_100,
    "openai-gpt": _GPT2,
    "opt": _BART,
    "pegasus": _BART,
    "plbart": _M2M_100,
    "prophetnet": {**_M2M_100, "activation_dropout": 0.1},
    "roberta": _BERT,
    "roberta-prelayernorm": _BERT,
    "roformer": _BERT,
    "seed_oss": {"residual_dropout": 0.1, "attention_dropout": 0.1},
    "switch_transformers": _T5,
    "t5": _T5,
    "umt5": _T5,
    "xglm": _M2M_100,
    "xlm-roberta": _BERT,
    "xlm-roberta-xl": _BERT,
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

"""Tiny random models with real tokenizers, written to a directory as `save_pretrained` would.

Every architecture has the kind of tokenizer that its published models have: WordPiece, byte-level BPE or Unigram,
trained on the docstrings of a few modules of the standard library.
"""

from __future__ import annotations

import functools
import inspect
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer

VOCABULARY = 500
LAYERS = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 160,
}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("Bert", "bert", {}),
    "roberta": ("Roberta", "roberta", {"pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": 162}),
    "xlm-roberta": ("XLMRoberta", "xlm-roberta", {"pad_token_id": 1, "max_position_embeddings": 162}),
    "distilbert": ("DistilBert", "bert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "albert": ("Albert", "albert", {"embedding_size": 16}),
    "electra": ("Electra", "bert", {"embedding_size": 16}),
    "mpnet": ("MPNet", "mpnet", {"pad_token_id": 1, "max_position_embeddings": 162}),
    "deberta-v2": (
        "DebertaV2",
        "deberta-v2",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "modernbert": (
        "ModernBert",
        "modernbert",
        {"num_hidden_layers": 2, "local_attention": 16, "global_attn_every_n_layers": 2, "pad_token_id": 1},
    ),
}
HEADS = {
    "feature-extraction": "Model",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "fill-mask": "ForMaskedLM",
}


def write_model(directory: Path, name: str, task: str = "feature-extraction", **config: Any) -> Path:
    """Write a random model of an architecture with the head of a task, and its tokenizer.

    config: fields of the config that differ from the tiny defaults
    """
    prefix, tokenizer, fields = ARCHITECTURES[name]
    if task in ("text-classification", "token-classification"):
        config = {"id2label": {0: "calm", 1: "glad", 2: "sad"}, "label2id": {"calm": 0, "glad": 1, "sad": 2}} | config
    settings = getattr(transformers, f"{prefix}Config")(**LAYERS | {"pad_token_id": 0} | fields | config)
    torch.manual_seed(0)
    model = getattr(transformers, prefix + HEADS[task])(settings).eval()
    # At their initial 0.02, random weights give nearly equal answers to all texts.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    model.save_pretrained(directory)
    make_tokenizer(tokenizer).save_pretrained(directory)
    return directory


def add_sentence_modules(directory: Path, pooling: str = "mean", normalize: bool = True, **settings: Any) -> Path:
    """Declare pooling beside a model, in the files that sentence-transformers writes.

    settings: content of sentence_bert_config.json
    """
    names = ["Transformer", "Pooling"] + (["Normalize"] if normalize else [])
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if index == 0 else f"{index}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for index, name in enumerate(names)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    keys = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "lasttoken": "lasttoken"}
    config = {f"pooling_mode_{key}": mode == pooling for mode, key in keys.items()}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **config}))
    (directory / "sentence_bert_config.json").write_text(json.dumps(settings))
    return directory


@functools.cache
def training_texts() -> tuple[str, ...]:
    """Docstrings to train the tokenizers on."""
    modules = (inspect, json, functools)
    found = [inspect.getdoc(value) or "" for module in modules for _, value in inspect.getmembers(module)]
    return tuple(text for text in dict.fromkeys(found) if text)


@functools.cache
def make_tokenizer(kind: str) -> Any:
    """transformers' tokenizer class of an architecture, with a vocabulary of VOCABULARY tokens at most."""
    if kind == "bert":
        return transformers.BertTokenizer(vocab=_word_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    if kind == "mpnet":
        vocab = _word_pieces(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"])
        return transformers.MPNetTokenizer(vocab=vocab)
    if kind == "roberta":
        vocab, merges = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        return transformers.RobertaTokenizer(vocab=vocab, merges=merges)
    if kind == "xlm-roberta":
        return transformers.XLMRobertaTokenizer(vocab=_unigrams(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<unk>"))
    if kind == "albert":
        return transformers.AlbertTokenizer(vocab=_unigrams(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>"))
    if kind == "deberta-v2":
        return transformers.DebertaV2Tokenizer(vocab=_unigrams(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "[UNK]"))
    return _modernbert_tokenizer()


def _modernbert_tokenizer() -> Any:
    vocab, merges = _byte_pairs(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    backend = Tokenizer(BPE(vocab=vocab, merges=[tuple(merge) for merge in merges]))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=160,
    )


def _word_pieces(special_tokens: list[str]) -> dict[str, int]:
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special_tokens, show_progress=False)
    tokenizer.train_from_iterator(training_texts(), trainer)
    return dict(tokenizer.get_vocab())


def _byte_pairs(special_tokens: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special_tokens,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _unigrams(special_tokens: list[str], unknown: str) -> list[tuple[str, float]]:
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = Metaspace()
    trainer = UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=special_tokens, unk_token=unknown, show_progress=False
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    return [(token, float(score)) for token, score in json.loads(tokenizer.to_str())["model"]["vocab"]]

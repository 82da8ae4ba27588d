"""Vocabulary pruning: embeddings of tokens that a corpus does not use go, and the tokenizer's tokens with them.

Nothing but the tables gets smaller: the layers compute what they did. It pays for multilingual models used in a few
languages, whose tables hold most of their weights.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.method import Job, Outcome, handles
from ridgeline_export.compress.prune.tokens import needed_tokens, with_tokens
from ridgeline_export.compress.setting import setting
from ridgeline_export.errors import TargetError, UnsupportedModelError, UsageError
from ridgeline_export.tokenizer import make_encoder

if TYPE_CHECKING:
    from torch import Tensor

_SPECIAL_IDS = ("pad", "bos", "eos", "cls", "sep", "mask", "unk", "decoder_start")
_CHECKED_TEXTS = 500


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Remove tokens that the data's texts use too rarely."""

    min_count: int = setting(1, help="Keep tokens that the data's texts use so often at least.", least=1)
    max_vocabulary: int | None = setting(
        None, help="Keep the most frequent tokens alone, so that so many are left at most.", least=16
    )


@handles(Vocabulary, "prune", "vocabulary")
def _vocabulary(config: Vocabulary, job: Job) -> Outcome:
    loaded = job.loaded
    if job.form.embedding_rank is not None:
        raise UsageError("the model's embeddings are factorized; prune the vocabulary first, then factorize")
    raw = json.loads(loaded.encoder.backend.to_str())
    raw["truncation"] = raw["padding"] = None
    with job.progress.stage("Counting the tokens that the data uses"):
        counts = _counts(job)
        used = [number for number, count in counts.most_common() if count >= config.min_count]
        kept = needed_tokens(raw, used)
        if config.max_vocabulary is not None:
            kept = _limited(raw, used, config.max_vocabulary)
    before = int(loaded.model.get_input_embeddings().num_embeddings)
    if len(kept) >= before:
        raise TargetError(
            f"the data uses every one of the {before} tokens at least {config.min_count} times; raise --min-count, or "
            "give --max-vocabulary"
        )
    with job.progress.stage("Removing the others"):
        tokenizer = _tokenizer(loaded.tokenizer, with_tokens(raw, kept))
        _check(loaded.encoder.backend, tokenizer.backend_tokenizer, kept, set(used), _texts(job.data.training))
        _remove_rows(loaded.model, kept)
    encoder = make_encoder(tokenizer, loaded.encoder.input_names, loaded.max_tokens,
                           lowercase=False)  # fmt: skip
    job.loaded = dataclasses.replace(loaded, tokenizer=tokenizer, encoder=encoder)
    saved = before - len(kept)
    return Outcome(
        f"{len(kept)} of {before} tokens are left; {saved * loaded.model.get_input_embeddings().embedding_dim} weights "
        "went. The layers compute what they did: expect a smaller file, no more speed.",
        {"tokens_before": before, "tokens": len(kept), "coverage": _coverage(counts, set(kept))},
    )


def _texts(examples: Sequence[Example]) -> list[Any]:
    return [example.text for example in examples]


def _counts(job: Job) -> Counter[int]:
    """How often the texts for training and validation use each token; those that judge are not looked at."""
    counts: Counter[int] = Counter()
    for encoding in job.loaded.encoder.encode_each(_texts([*job.data.training, *job.data.validation])):
        counts.update(encoding.ids)
    return counts


def _coverage(counts: Counter[int], kept: set[int]) -> float:
    return sum(count for number, count in counts.items() if number in kept) / counts.total()


def _limited(raw: dict[str, Any], used: Sequence[int], limit: int) -> list[int]:
    """The tokens that stay when the most frequent are taken until the limit is reached."""
    least = len(needed_tokens(raw, ()))
    if least > limit:
        raise TargetError(
            f"--max-vocabulary is {limit}, but special tokens and single characters are {least} already; give more"
        )
    low, high = 0, len(used)
    while low < high:  # more used tokens never need fewer tokens in all
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(needed_tokens(raw, used[:middle])) <= limit else (low, middle - 1)
    return needed_tokens(raw, used[:low])


def _tokenizer(old: Any, raw: dict[str, Any]) -> Any:
    """transformers' tokenizer around the new file's content; its special tokens are the old one's."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    names = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
    special = {name: getattr(old, name) for name in names if getattr(old, name, None) is not None}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=Tokenizer.from_str(json.dumps(raw)),
        model_max_length=old.model_max_length,
        model_input_names=list(old.model_input_names),
        truncation_side=old.truncation_side,
        padding_side=old.padding_side,
        **special,
    )


def _check(old: Any, new: Any, kept: Sequence[int], used: set[int], texts: Sequence[Any]) -> None:
    """Texts of used tokens alone must be read as before."""
    numbers = {number: place for place, number in enumerate(kept)}
    sample = list(texts[:_CHECKED_TEXTS])
    old = type(old).from_str(old.to_str())
    old.no_truncation()
    for before, after in zip(old.encode_batch(sample), new.encode_batch(sample), strict=True):
        if set(before.ids) <= used & set(kept) and [numbers[number] for number in before.ids] != list(after.ids):
            raise UnsupportedModelError(
                "the tokenizer reads texts differently without the tokens that they do not use, so its vocabulary "
                "cannot be pruned; please report the model"
            )


def _remove_rows(model: Any, kept: Sequence[int]) -> None:
    """Bring the rows that stay to the front, then let transformers cut the tables, tied or not."""
    import torch

    old_pad = getattr(model.config, "pad_token_id", None)
    size = int(model.get_input_embeddings().num_embeddings)
    rest = sorted(set(range(size)) - set(kept))
    order = torch.tensor([*kept, *rest])
    tables: dict[int, Tensor] = {}
    output = model.get_output_embeddings()
    for tensor in (model.get_input_embeddings().weight, *(() if output is None else (output.weight, output.bias))):
        if tensor is not None and tensor.shape[0] == size:
            tables[tensor.data_ptr()] = tensor
    with torch.no_grad():
        for tensor in tables.values():
            tensor.copy_(tensor[order])
    model.resize_token_embeddings(len(kept))
    numbers = {number: place for place, number in enumerate(kept)}
    for name in _SPECIAL_IDS:
        number = getattr(model.config, f"{name}_token_id", None)
        if isinstance(number, int):
            setattr(model.config, f"{name}_token_id", numbers.get(number, number if number < len(kept) else None))
    padding = model.get_input_embeddings().padding_idx
    if padding is not None and old_pad is not None:
        model.get_input_embeddings().padding_idx = numbers[old_pad]

"""Fill-mask: what likely stands where a text has the model's mask token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Float32Array, Readout, ReadoutKind, Tokens, Vocabulary
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.scores import finite
from ridgeline_server.tasks.truncation import ABOUT_TRUNCATION, TRUNCATIONS, read_truncation

# Characters of the filled texts of one answer: each takes time to decode, and memory.
_MOST_ANSWER_CHARACTERS = 16 * 1024 * 1024
# More than tokens have on average; what is cut off of a long text does not count.
_CHARACTERS_PER_TOKEN = 8
# Of targets that are no tokens: to find those that they begin with takes the event loop's time.
_MOST_TARGETS_CHARACTERS = 8_192


@dataclass(frozen=True, slots=True)
class Parameters:
    """Those of transformers' FillMaskPipeline."""

    top_k: int = parameter(5, about="How many tokens to tell for each mask, the likeliest first.", least=1, most=1000)
    targets: tuple[str, ...] | None = parameter(
        None,
        about="Tokens to choose from, instead of all: as the vocabulary writes them, or words, of which the first "
        "token counts.",
        least=1,
        most=1000,
    )
    truncation: str | None = parameter(None, about=ABOUT_TRUNCATION, choices=TRUNCATIONS)


@dataclass(slots=True)  # not frozen: that doubles the time to make one, and an answer may hold tens of thousands
class Fill:
    """A token in the place of a mask.

    score:     its probability among all tokens
    token:     its id
    token_str: its text
    sequence:  the text with it, as the tokenizer decodes it; with special tokens where there are several masks
    """

    score: float
    token: int
    token_str: str
    sequence: str


def prepare(model: ModelInfo, inputs: Sequence[str | list[int]], parameters: Parameters) -> Work:
    """A sequence for each text; the answer to each: a list of Fill, or where it has several masks such a list of each.

    Raises InvalidInputError for a text without the model's mask token, targets that are no tokens of the model, and
    more than one answer may hold.
    """
    if model.mask_token is None or model.mask_token_id is None:
        raise InvalidInputError(
            f"the tokenizer of model '{model.name}' has no mask token, so that nothing can be filled"
        )
    assert model.vocabulary is not None
    among = () if parameters.targets is None else _target_ids(model, model.vocabulary, parameters.targets)
    top = min(parameters.top_k, len(among) or model.vocab_size)
    characters = 0
    for index, text in enumerate(inputs):
        mask = model.mask_token_id if isinstance(text, list) else model.mask_token
        masks = text.count(mask)  # type: ignore[arg-type]  # ids of ids, or texts of texts
        if not masks:
            raise _no_mask(model, index, "")
        length = len(text) * _CHARACTERS_PER_TOKEN if isinstance(text, list) else len(text)
        length = min(length, _CHARACTERS_PER_TOKEN * model.max_tokens)
        characters += min(masks, model.max_tokens) * top * length
    if characters > _MOST_ANSWER_CHARACTERS:
        raise InvalidInputError(
            f"the filled texts would hold about {characters} characters, each text once for each mask and token; an "
            f"answer may hold {_MOST_ANSWER_CHARACTERS}: give a lower `top_k`, fewer masks or fewer texts"
        )
    truncate, reading = read_truncation(model, parameters.truncation)
    return Work(
        inputs=inputs,
        finish=partial(_finish, model),
        reading=reading,
        readout=Readout(ReadoutKind.FILLS, top=top, among=among, mask_id=model.mask_token_id),
        truncate=truncate,
        finish_tokens=characters // _CHARACTERS_PER_TOKEN,  # each fill decodes its whole text
    )


def _target_ids(model: ModelInfo, vocabulary: Vocabulary, targets: Sequence[str]) -> tuple[int, ...]:
    """Ids of targets: of the vocabulary, or of the first tokens of texts; those without any token are left out."""
    ids = {target: vocabulary.id_of(target) for target in targets}
    words = [target for target, found in ids.items() if found is None]
    characters = sum(map(len, words))
    if characters > _MOST_TARGETS_CHARACTERS:
        raise InvalidInputError(
            f"the targets that are no tokens have {characters} characters in all; they may have "
            f"{_MOST_TARGETS_CHARACTERS}: give tokens, or fewer words",
            "targets",
        )
    for word, tokens in zip(words, vocabulary.encode(words), strict=True):
        ids[word] = next(iter(tokens), None)
    for target, found in ids.items():
        if found is not None and found >= model.vocab_size:
            raise InvalidInputError(
                f"the target '{target}' is token {found}, which the model does not know: it has {model.vocab_size} "
                "tokens; give another one",
                "targets",
            )
    known = {found for found in ids.values() if found is not None}
    if not known:
        raise InvalidInputError("no target has any token; give words that are not empty", "targets")
    return tuple(sorted(known))


def _no_mask(model: ModelInfo, index: int, where: str) -> InvalidInputError:
    return InvalidInputError(
        f"input {index} has no mask token{where}; write '{model.mask_token}', that of model '{model.name}', where a "
        "word is to be found",
        "inputs",
    )


def _finish(model: ModelInfo, result: Result) -> list[list[Fill] | list[list[Fill]]]:
    answers: list[list[Fill] | list[list[Fill]]] = []
    for index, (tokens, fills) in enumerate(zip(result.sequences, result.arrays, strict=True)):
        if not len(fills):
            raise _no_mask(model, index, " among the tokens that the model reads of it: its text is too long")
        of_masks = _fills(model, tokens, finite(fills))
        answers.append(of_masks[0] if len(of_masks) == 1 else of_masks)
    return answers


def _fills(model: ModelInfo, tokens: Tokens, fills: Float32Array) -> list[list[Fill]]:
    """The likeliest tokens of each mask of a sequence, by its [masks, fills, 2] ids and probabilities."""
    vocabulary = model.vocabulary
    assert vocabulary is not None
    ids: list[int] = tokens.ids.tolist()
    masks = [at for at, token_id in enumerate(ids) if token_id == model.mask_token_id]
    # The masks beside the one that is filled are special tokens too, and stay.
    is_single = len(masks) == 1
    texts: dict[int, str] = {}
    found = []
    for at, row in zip(masks, fills.tolist(), strict=True):
        of_mask = []
        for token, score in row:
            token_id = int(token)
            if token_id not in texts:
                texts[token_id] = vocabulary.decode([token_id])
            filled = [*ids[:at], token_id, *ids[at + 1 :]]
            sequence = [one for one in filled if one != vocabulary.pad_id]
            of_mask.append(Fill(score, token_id, texts[token_id], vocabulary.decode(sequence, is_single)))
        found.append(of_mask)
    return found


TASK = Task(
    name="fill-mask",
    about="The tokens that likely stand where a text has the model's mask token",
    models=("fill-mask",),
    inputs=InputKind.TEXTS,
    parameters=Parameters,
    prepare=prepare,
    example={"inputs": ["Paris is the [MASK] of France."], "parameters": {"top_k": 3}},
    answer=Fill,
    detailed=list[Fill],
    suits=lambda model: model.mask_token_id is not None,
)

"""Writing a compressed model so that stock transformers loads it, and making sure that it does."""

from __future__ import annotations

import dataclasses
import json
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.contents import OF_TRAINING
from ridgeline_export.compress.journal import Entry, write_journal
from ridgeline_export.compress.method import Job
from ridgeline_export.compress.number_format import dtype_of, stored_formats
from ridgeline_export.errors import ExportError
from ridgeline_export.form.dissolve import dissolve, extras_of
from ridgeline_export.form.extras import write_extras
from ridgeline_export.form.form import write_form
from ridgeline_export.form.restore import restore
from ridgeline_export.tokenizer import load_pretrained_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

_LEFT_BEHIND = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.h5", "*.msgpack", "*.ot",
                "onnx", "openvino", ".*", "compression.json", "report", "find", "README.md",
                *OF_TRAINING)  # fmt: skip
# What sentence-transformers says of an embedding model is no longer true of one that became a classifier.
_OF_EMBEDDINGS = ("modules.json", "*_Pooling", "*_Normalize", "*_Dropout", "config_sentence_transformers.json",
                  "sentence_*_config.json")  # fmt: skip
_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.bpe",
)
# Sums in another order: rounding alone differs. Weights in 16 bits are rounded themselves.
_TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1}


def save_model(job: Job, directory: Path, journal: Sequence[Entry]) -> str | None:
    """Write the job's model, tokenizer and everything else of the source's directory into a directory.

    Weights are in the source's number format. Where they cannot be, they are in fp32, and a sentence says why: it is
    returned, and stands in the journal's last entry.
    Raises ExportError when what was written does not answer as the model does: a bug, not the user's mistake.
    """
    loaded = job.loaded
    _follow_attention(job)
    embeds = loaded.modules is not None
    source = loaded.source.directory if embeds else loaded.transformer
    left_behind = _LEFT_BEHIND if embeds else (*_LEFT_BEHIND, *_OF_EMBEDDINGS)
    _copy(source, directory, left_behind)
    place = directory / loaded.transformer.relative_to(source)
    place.mkdir(parents=True, exist_ok=True)
    note = _write_weights(job, place)
    if _is_new(loaded.tokenizer, loaded.transformer):
        for pattern in _TOKENIZER_FILES:
            for path in place.glob(pattern):
                path.unlink()
        loaded.tokenizer.save_pretrained(place)
    _set_longest(place, loaded.max_tokens)
    _set_width(directory, int(loaded.model.config.hidden_size))
    *before, last = journal
    if note is not None:
        last = dataclasses.replace(last, summary=f"{last.summary} {note}")
    write_journal(directory, [*before, last])
    return note


def _copy(source: Path, directory: Path, left_behind: Sequence[str]) -> None:
    """Copy what the files hold; the source may be read-only, the copy never is."""
    ignored = shutil.ignore_patterns(*left_behind)
    shutil.copytree(source, directory, ignore=ignored, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in (directory, *directory.rglob("*")):
        if path.is_dir():
            path.chmod(path.stat().st_mode | stat.S_IRWXU)


def _write_weights(job: Job, place: Path) -> str | None:
    """Write weights, config and extras, and see that they answer as the model does; a sentence where it had to be fp32.

    Raises ExportError when they do not.
    """
    kept, reason = _format_to_keep(job)
    if kept != "fp32":
        try:
            _write_in(kept, job, place)
            return None
        except ExportError:
            reason = f"rounded to {kept}, it answers differently"
    _write_in("fp32", job, place)
    return None if reason is None else f"The weights are in fp32: {reason}."


def _format_to_keep(job: Job) -> tuple[str, str | None]:
    """The number format of the source's weights, and why it is fp32 where some of them are in another one."""
    found = stored_formats(job.loaded.transformer)
    half = min(found & {"fp16", "bf16"}, default=None)
    if half is None:
        return "fp32", None
    if len(found) > 1:
        return "fp32", f"the model's own are in {' and '.join(sorted(found))}"
    if job.form.embedding_rank is not None:
        return "fp32", f"in {half}, the word table would not be the product of its factors"
    return half, None


def _write_in(number_format: str, job: Job, place: Path) -> None:
    for path in place.glob("*.safetensors*"):
        path.unlink()
    stock = dissolve(job.loaded.model, job.form).to(dtype_of(number_format))
    write_form(stock.config, job.form)
    stock.config.architectures = [type(stock).__name__]
    stock.save_pretrained(place)
    write_extras(place, job.extras | extras_of(job.loaded.model, job.form))
    tolerance = _TOLERANCES[number_format]
    _check(job.loaded.model, type(stock), place, tolerance, has_own_attention=job.form.attention is None)


def _is_new(tokenizer: Any, before: Path) -> bool:
    """Whether a method changed the tokenizer that lies in a directory; else its files are copied as they are."""
    old = load_pretrained_tokenizer(before)
    return bool(
        old.backend_tokenizer.to_str() != tokenizer.backend_tokenizer.to_str()
        or old.model_max_length != tokenizer.model_max_length
    )


def _follow_attention(job: Job) -> None:
    """Let the form say of approximate attention what the model has now, and drop the tensors it was made from."""
    from ridgeline_export.form.attention import attention_form, is_extra

    job.form = dataclasses.replace(job.form, attention=attention_form(job.loaded.model))
    job.extras = {name: tensor for name, tensor in job.extras.items() if not is_extra(name)}


def _set_longest(place: Path, tokens: int) -> None:
    """Tell sentence-transformers how long texts may be, where it is told at all."""
    for path in place.glob("sentence_*_config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("max_seq_length"):
            path.write_text(json.dumps({**config, "max_seq_length": tokens}, indent=2) + "\n", encoding="utf-8")


def _set_width(directory: Path, width: int) -> None:
    """Tell sentence-transformers' pooling how wide the states are."""
    for path in directory.glob("*_Pooling/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        for key in ("word_embedding_dimension", "embedding_dimension"):
            if key in config:
                config[key] = width
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _check(model: Any, stock_class: Any, place: Path, tolerance: float, *, has_own_attention: bool) -> None:
    import torch

    reloaded = stock_class.from_pretrained(place, dtype=torch.float32, attn_implementation="eager").eval()
    sample = _sample(model)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        expected = model(**sample)[0]
        if has_own_attention:
            stock = reloaded(**sample)[0]
            _compare(expected, stock, place, "by stock transformers", tolerance)
        restore(reloaded, place)
        restored = reloaded(**sample)[0]
        _compare(expected, restored, place, "by Ridgeline", tolerance)
        if has_own_attention:
            _compare(stock, restored, place, "by Ridgeline", _TOLERANCES["fp32"])
    model.train(was_training)


def _sample(model: Any) -> dict[str, Tensor]:
    import torch

    generator = torch.Generator().manual_seed(0)
    rows, length = 3, min(24, int(getattr(model.config, "max_position_embeddings", 24)) - 2)
    ids = torch.randint(5, int(model.get_input_embeddings().num_embeddings), (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    device = next(model.parameters()).device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _compare(expected: Tensor, given: Tensor, place: Path, how: str, tolerance: float) -> None:
    scale = max(float(expected.abs().max()), 1e-6)
    # Rows of padding mean nothing: the first and last rows have none.
    difference = float((expected[[0, 2]].cpu() - given[[0, 2]].cpu()).abs().max()) / scale
    if not difference <= tolerance:
        raise ExportError(
            f"the compressed model, loaded {how}, answers differently from the one that was made (by {difference:.1e} "
            f"of its largest output); nothing was written to {place.parent}. This is a bug: please report the model"
        )

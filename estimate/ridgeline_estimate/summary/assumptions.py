"""Sentences that an estimate's figures rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.roofline import Prediction
from ridgeline_estimate.summary.machine import Machine
from ridgeline_estimate.summary.question import Question
from ridgeline_estimate.summary.subject import Subject
from ridgeline_estimate.workload import Mode


def assumptions(
    question: Question,
    subject: Subject,
    architecture: Architecture | None,
    precision_note: str,
    found: Machine | str,
    prediction: Prediction | None,
    warnings: Sequence[str],
    *,
    is_packed: bool,
) -> Iterator[str]:
    """The most important ones first."""
    if architecture is not None and subject.graph is None and not architecture.is_known:
        yield (
            f"'{architecture.model_type}' is not in our tables: sizes are the config's, biases and norms those of "
            "usual models"
        )
    yield from warnings
    yield f"Number formats: {precision_note}"
    if subject.other_variants:
        yield (
            f"Variant: {subject.variant}; --variant counts the others that the bundle has: "
            f"{', '.join(subject.other_variants)}"
        )
    workload = question.workload()
    if is_packed:
        yield (
            f"Packed: {workload.new_tokens:,} tokens lie end to end without padding, and attention is counted within "
            "each sequence"
        )
    elif workload.lengths is not None:
        padded = workload.batch * workload.seq
        yield (
            f"Padding: all sequences run as long as the longest, so that {workload.new_tokens:,} of {padded:,} tokens "
            "are real; throughput and cost are of real ones"
        )
    over = "over" if is_packed else "over padding and over"
    yield (
        f"FLOPs: a multiply-add counts 2; attention is dense {over} what masks hide, as PyTorch's FlopCounterMode "
        "counts"
    )
    if subject.graph is None:
        yield _attention_note(question, isinstance(found, Machine) and found.is_calibrated)
    if isinstance(found, Machine) and prediction is not None:
        yield f"Device: {found.source}"
    if question.mode == Mode.TRAIN:
        yield "Training: the backward pass costs twice the forward; activations are all kept, none computed again"
    if question.devices > 1:
        yield (
            "Devices work at once and wait for nothing: what they send to each other is not counted, so that the "
            "latency is a lower bound"
        )


def _attention_note(question: Question, is_calibrated: bool) -> str:
    if question.fused_attention is None and is_calibrated:
        return (
            "Attention: bytes and latency are those of scores that go through memory, as in the runs that the "
            "efficiencies were fitted to; activations are those of PyTorch's SDPA"
        )
    if question.fused_attention is not False:
        return "Attention: scores stay on the chip, as in PyTorch's SDPA; --plain-attention writes them to memory"
    return "Attention: scores are written to memory and read again; --fused-attention keeps them on the chip"

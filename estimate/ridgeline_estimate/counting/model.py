"""All operations of a model on a workload."""

from __future__ import annotations

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.counting.head import head_ops
from ridgeline_estimate.counting.run import Run
from ridgeline_estimate.counting.stack import stack_ops
from ridgeline_estimate.counting.training import backward_ops, optimizer_op
from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.op import Op
from ridgeline_estimate.precision import PRECISIONS, Precision
from ridgeline_estimate.workload import Mode, Workload


def model_ops(
    architecture: Architecture, workload: Workload, precision: Precision, *, materializes_scores: bool = True
) -> list[Op]:
    """Operations in the order that they run in.

    Their `parameters` add up to the model's, except in DECODE, where an encoder-decoder's encoder does not run.
    materializes_scores: attention scores are written to memory and read again, as plain matmuls and softmax do; False
                         for kernels that keep them on the chip (flash attention, fused attention of runtimes)
    Raises EstimateError when the model cannot run in this mode, or not on as many tokens.
    """
    _check(architecture, workload)
    encoder, decoder = architecture.encoder, architecture.decoder
    ops: list[Op] = []
    stack, run = encoder, _encoder_run(workload, precision, materializes_scores)
    if encoder is not None and not (decoder is not None and workload.mode is Mode.DECODE):
        ops += stack_ops(encoder, run, "encoder" if decoder is not None else "", architecture.vocab)
    if decoder is not None:
        stack, run = decoder, _decoder_run(workload, precision, materializes_scores, encoder is not None)
        ops += stack_ops(decoder, run, "decoder" if encoder is not None else "", architecture.vocab)
    assert stack is not None
    last_token_alone = workload.mode in (Mode.PREFILL, Mode.DECODE)
    ops += head_ops(architecture.head, stack, run, last_token_alone=last_token_alone)
    if workload.mode is Mode.TRAIN:
        parameters = sum(op.parameters for op in ops)
        ops += [*backward_ops(ops), optimizer_op(parameters, precision)]
    return ops


def count_parameters(architecture: Architecture) -> int:
    """How many weights the model holds, those that are shared once."""
    return sum(op.parameters for op in model_ops(architecture, Workload(seq=1), PRECISIONS["fp32"]))


def _encoder_run(workload: Workload, precision: Precision, materializes_scores: bool) -> Run:
    return Run(workload.batch, workload.seq, precision, materializes_scores=materializes_scores)


def _decoder_run(workload: Workload, precision: Precision, materializes_scores: bool, has_encoder: bool) -> Run:
    new = workload.seq
    if has_encoder:
        new = workload.seq if workload.target is None else workload.target
    return Run(
        workload.batch,
        1 if workload.mode is Mode.DECODE else new,
        precision,
        past=workload.past,
        source=workload.seq if has_encoder else 0,
        makes_source_keys=workload.mode is not Mode.DECODE,
        materializes_scores=materializes_scores,
    )


def _check(architecture: Architecture, workload: Workload) -> None:
    mode = workload.mode
    has_decoder = architecture.decoder is not None
    if not has_decoder and mode in (Mode.PREFILL, Mode.DECODE):
        raise EstimateError(
            f"a {architecture.model_type} model is an encoder: it has no KV cache and no {mode} mode; "
            "use forward or train"
        )
    if workload.past and (not has_decoder or mode is Mode.TRAIN):
        why = "training keeps no KV cache" if has_decoder else f"a {architecture.model_type} model has no KV cache"
        raise EstimateError(f"past is {workload.past}, but {why}; leave it 0")
    if workload.target is not None and (architecture.encoder is None or not has_decoder):
        raise EstimateError(
            f"target is {workload.target}, but a {architecture.model_type} model is no encoder-decoder; leave it out"
        )

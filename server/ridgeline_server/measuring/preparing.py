"""From a plan as it is asked for to what its process needs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ridgeline_export.bundle import Bundle, BundleError, read_bundle
from ridgeline_server.errors import StartupError
from ridgeline_server.measuring.errors import SpecError
from ridgeline_server.measuring.messages import Prepare
from ridgeline_server.measuring.spec import PlanSpec, Spec, Text
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.choice import choose_runtime
from ridgeline_server.runtimes.devices import CPU, Device, parse_devices
from ridgeline_server.runtimes.placement import place
from ridgeline_server.runtimes.selection import usual_plan
from ridgeline_server.sequences import Tokens

# As in tuning.
_LEAST_TIMED = 256
_EMBEDS = "feature-extraction"


def prepare_all(spec: Spec) -> list[Prepare]:
    """What each plan's process loads and times, in the specification's order.

    Raises SpecError for what cannot be run here.
    """
    device = _device(spec.device)
    tokens: dict[Path, tuple[Tokens, ...]] = {}
    found = []
    for wanted in spec.plans:
        try:
            bundle = read_bundle(wanted.bundle)
            plan = _plan(bundle, wanted, device)
        except (BundleError, StartupError) as error:
            raise SpecError(f"plan '{wanted.name}': {error}") from None
        manifest = bundle.manifest
        for _, length in spec.shapes:
            if length > manifest.max_tokens:
                raise SpecError(
                    f"plan '{wanted.name}' takes texts of {manifest.max_tokens} tokens at most; "
                    f"a shape of {length} tokens cannot be measured"
                )
        if bundle.path not in tokens:
            tokens[bundle.path] = read_tokens(bundle, spec.texts, spec.max_tokens)
        pooling = (manifest.pooling or "mean") if manifest.task == _EMBEDS else None
        found.append(Prepare(plan, pooling, tokens[bundle.path], shapes=spec.shapes))
    return found


def read_tokens(bundle: Bundle, texts: Sequence[Text], max_tokens: int | None = None) -> tuple[Tokens, ...]:
    """The texts' token ids, cut to max_tokens and to what the model takes.

    Few texts are repeated, since they fill no batches.

    Raises SpecError when there is no usable tokenizer, or nothing to read.
    """
    from tokenizers import Tokenizer

    path = bundle.path / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        direction = (tokenizer.truncation or {}).get("direction", "right")
        most = bundle.manifest.max_tokens
        tokenizer.enable_truncation(min(most, max_tokens or most), direction=direction)
        encodings = tokenizer.encode_batch(list(texts))
    except Exception as error:  # the library raises bare Exception
        raise SpecError(f"bundle {bundle.path} cannot tokenize the texts: {error}") from None
    found = [
        Tokens(np.array(each.ids, dtype=np.int32), np.array(each.type_ids, dtype=np.int32), bool(each.overflowing))
        for each in encodings
        if each.ids
    ]
    if not found:
        raise SpecError(f"bundle {bundle.path} reads no token in any of the texts; give other texts")
    return tuple(itertools.islice(itertools.cycle(found), max(len(found), _LEAST_TIMED)))


def _device(name: str) -> Device:
    try:
        devices = parse_devices(name) or (CPU,)
    except StartupError as error:
        raise SpecError(str(error)) from None
    if len(devices) > 1:
        raise SpecError(f"device '{name}' names several; plans are measured on one, such as cpu or cuda:0")
    return devices[0]


def _plan(bundle: Bundle, wanted: PlanSpec, device: Device) -> Plan:
    variant = bundle.variant(wanted.variant)
    bundle.verify(wanted.variant)
    gpus = {device.index} if device.kind == "cuda" else None
    runtime, why = choose_runtime(variant, wanted.runtime, device.kind, gpus)
    (placement,) = place((device,))
    if wanted.streams is not None and device.kind == "cpu" and wanted.streams > placement.threads:
        raise StartupError(f"{wanted.streams} streams are more than the {placement.threads} cores that there are")
    return usual_plan(bundle, variant, runtime, placement, why, concurrency=wanted.streams)

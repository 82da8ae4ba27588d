"""From a bundle's directory to findings about this machine, and to the tuning that `serve` reads."""

from __future__ import annotations

import datetime
from pathlib import Path

from ridgeline_export.bundle import Bundle, BundleError, read_bundle
from ridgeline_server.errors import StartupError
from ridgeline_server.runtimes.choice import RUNTIMES, is_usable
from ridgeline_server.runtimes.cores import available_cores, cpu_flags
from ridgeline_server.runtimes.gpus import cuda_devices
from ridgeline_server.runtimes.machine import Machine
from ridgeline_server.runtimes.selection import check_servable
from ridgeline_server.runtimes.tuned import Tuning, keep_tuning, manifest_digest
from ridgeline_server.tuning.candidates import Surroundings
from ridgeline_server.tuning.errors import TuneError
from ridgeline_server.tuning.results import Findings
from ridgeline_server.tuning.texts import load_texts
from ridgeline_server.tuning.tune import Progress, Tuner, Wish

# Plans are judged by the cosine of their vectors to the fp32 variant's, which says nothing of logits.
_JUDGED_TASK = "feature-extraction"
# GPUs that plans are timed on.
_TIMED_ON = (0,)


def open_bundle(path: Path) -> Bundle:
    """A bundle that is whole, can be served and whose answers can be judged. Raises TuneError when it is not."""
    try:
        bundle = read_bundle(path)
        check_servable(bundle)
        if bundle.manifest.task != _JUDGED_TASK:
            raise TuneError(
                f"bundle {bundle.path} is for {bundle.manifest.task}; tuning judges plans by their embeddings, so it "
                f"is for bundles of {_JUDGED_TASK} alone. Serve this one as it is, or choose the plan by --variant, "
                "--runtime and --max-batch-tokens"
            )
        bundle.verify()
    except (BundleError, StartupError) as error:
        raise TuneError(str(error)) from None
    return bundle


def tune_bundle(bundle: Bundle, wish: Wish, texts: Path | None, progress: Progress) -> Findings:
    """Time and judge the plans of a bundle on this machine. Raises TuneError when there is nothing to time."""
    return Tuner(bundle, surroundings_here(), load_texts(bundle, texts), wish, progress).search()


def surroundings_here() -> Surroundings:
    """This machine, as far as candidates depend on it."""
    kinds = ("cpu", "cuda") if cuda_devices() else ("cpu",)
    usable = {(runtime, kind) for runtime in RUNTIMES for kind in kinds if is_usable(runtime, kind, _TIMED_ON)}
    return Surroundings(available_cores(), cpu_flags(), frozenset(usable))


def keep(bundle: Bundle, machine: Machine, findings: Findings) -> Path:
    """Write the best plan where `serve` finds it. Raises TuneError when it cannot be written."""
    best = findings.best
    assert best is not None
    candidate, arithmetic = best.candidate, best.candidate.arithmetic
    try:
        return keep_tuning(
            Tuning(
                bundle=str(bundle.path.resolve()),
                manifest=manifest_digest(bundle),
                machine=machine,
                created=datetime.datetime.now().astimezone().date().isoformat(),
                reason=findings.reason,
                kind=candidate.kind,
                variant=arithmetic.variant,
                runtime=arithmetic.runtime,
                precision=arithmetic.precision,
                float_precision=arithmetic.float_precision,
                threads=candidate.threads,
                concurrency=candidate.streams,
                max_batch_tokens=candidate.max_batch_tokens,
            )
        )
    except OSError as error:
        raise TuneError(
            f"the best plan cannot be kept ({error}); set RIDGELINE_CACHE to a directory that can be written"
        ) from None

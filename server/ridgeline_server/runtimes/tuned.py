"""What `ridgeline tune` found to be the best plan: one small file a bundle, a machine and a kind of device.

Files lie in `tuned` of the cache directory as BUNDLE-MANIFEST-MACHINE-KIND.json, MANIFEST and MACHINE being digests.
A tuning that does not fit any more is never used, and serving says so; a file that cannot be read is as good as none.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ridgeline_estimate.host import cache_directory, write_whole
from ridgeline_export.bundle import MANIFEST_NAME, Bundle, Variant
from ridgeline_server.config import ServerConfig
from ridgeline_server.runtimes.choice import RUNTIMES, float_precisions, is_usable, precisions
from ridgeline_server.runtimes.machine import Machine, this_machine
from ridgeline_server.runtimes.placement import Placement

log = logging.getLogger(__name__)

_FORMAT = 1
_AGAIN = "run `ridgeline tune` again"
_DIGEST_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Tuning:
    """The best plan for a bundle on a machine; the fields from `variant` on are those of `runtimes.base.Plan`.

    bundle:   path of the bundle's directory
    manifest: sha256 of its manifest
    created:  date, as 2026-11-21
    reason:   why this plan, such as "fastest of 14 plans with cosine ≥ 0.99"
    kind:     kind of device, "cpu" or "cuda"
    """

    bundle: str
    manifest: str
    machine: Machine
    created: str
    reason: str
    kind: str
    variant: str
    runtime: str
    precision: str
    float_precision: str
    threads: int
    concurrency: int
    max_batch_tokens: int

    @property
    def why(self) -> str:
        batches = f"batches of {self.max_batch_tokens} tokens, {self.concurrency} at once"
        return f"tuned on {self.created}: {self.reason}; it computes in {self.precision}, {batches}"


def manifest_digest(bundle: Bundle) -> str:
    """sha256 of the bundle's manifest, which holds the sha256 of every other file. Raises OSError."""
    return hashlib.sha256((bundle.path / MANIFEST_NAME).read_bytes()).hexdigest()


def keep_tuning(tuning: Tuning) -> Path:
    """Write a tuning, whole or not at all, over an older one of the same bundle, machine and kind. Raises OSError."""
    path = _directory() / _file_name(Path(tuning.bundle).name, tuning.manifest, tuning.machine, tuning.kind)
    text = json.dumps({"format": _FORMAT, **asdict(tuning)}, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, text)
    return path


def find_tuning(bundle: Bundle, config: ServerConfig, placements: Sequence[Placement]) -> Tuning | str | None:
    """The tuning to serve a bundle with; or, when one was made that cannot be used, a clause that says why not.

    None when there is none, or none is wanted: it was switched off, or the plan was chosen by flags.
    """
    chosen = config.variant != "auto" or config.runtime != "auto" or config.max_batch_tokens is not None
    if chosen or not config.tuned:
        return None
    try:
        return _find(bundle, placements)
    except (OSError, RuntimeError) as error:  # pathlib raises RuntimeError for a user without a home
        log.warning(
            "tunings are ignored: the cache directory cannot be read (%s); name another in RIDGELINE_CACHE", error
        )
        return None


def _find(bundle: Bundle, placements: Sequence[Placement]) -> Tuning | str | None:
    if not _directory().is_dir():
        return None
    kind = placements[0].device.kind
    here, digest = this_machine(), manifest_digest(bundle)
    # The bundle may have been renamed since: in the file's name its name is for people.
    fitting = set(_directory().glob(_file_name("*", digest, here, kind)))
    others = set(_directory().glob(f"{glob.escape(bundle.path.resolve().name)}-*-{kind}.json")) - fitting
    newest = _newest(fitting) or _newest(others)
    if newest is None:
        return None
    problem = _problem(newest, bundle, digest, here, placements)
    return newest if problem is None else f"the tuning of {newest.created} was ignored: {problem}"


def _problem(tuning: Tuning, bundle: Bundle, digest: str, here: Machine, placements: Sequence[Placement]) -> str | None:
    """Why a tuning does not fit, and what to do; None when it fits."""
    if tuning.manifest != digest:
        return f"the bundle has changed since; {_AGAIN}"
    kind = placements[0].device.kind
    if tuning.kind != kind:
        return f"it is for '{tuning.kind}' and not for {kind}; {_AGAIN}"
    if tuning.runtime not in RUNTIMES:
        return f"its runtime '{tuning.runtime}' is none of {', '.join(RUNTIMES)}; {_AGAIN}"
    gpus = {each.device.index for each in placements} if kind == "cuda" else None
    if not is_usable(tuning.runtime, kind, gpus):
        return f"{tuning.runtime} cannot be used here any more; {_AGAIN}"
    difference = tuning.machine.difference(here)
    if difference is not None:
        return f"{difference}; {_AGAIN}"
    variant = bundle.manifest.variants.get(tuning.variant)
    if variant is None or not _computes(variant, tuning):
        return f"it names a plan that this bundle does not have; {_AGAIN}"
    if len(placements) > 1 and tuning.kind == "cpu":
        return f"it is for one replica on all cores, and {len(placements)} share them"
    if placements[0].cores is not None and tuning.kind == "cpu":
        return "it is for one replica on all cores, and this one has some of them alone"
    return None


def _computes(variant: Variant, tuning: Tuning) -> bool:
    if tuning.precision not in precisions(variant, tuning.runtime, tuning.kind):
        return False
    return tuning.precision != "int8" or tuning.float_precision in float_precisions(tuning.runtime)


def _directory() -> Path:
    return cache_directory() / "tuned"


def _file_name(bundle: str, manifest: str, machine: Machine, kind: str) -> str:
    described = json.dumps(asdict(machine), sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()
    return f"{bundle}-{manifest[:_DIGEST_CHARACTERS]}-{digest[:_DIGEST_CHARACTERS]}-{kind}.json"


def _newest(paths: Iterable[Path]) -> Tuning | None:
    tunings = [tuning for path in sorted(paths) for tuning in _read(path)]
    return max(tunings, key=lambda tuning: tuning.created, default=None)


def _read(path: Path) -> Iterator[Tuning]:
    try:
        yield _parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the tuning in %s is ignored: it cannot be read (%s); %s", path, error, _AGAIN)


def _parse(raw: dict[str, Any]) -> Tuning:
    """A tuning from its JSON. Raises KeyError, TypeError, ValueError or AttributeError when it is none."""
    if raw["format"] != _FORMAT:
        raise ValueError(f"format {raw['format']}, not {_FORMAT}")
    machine = raw["machine"]
    counts = {name: raw[name] for name in ("threads", "concurrency", "max_batch_tokens")}
    if not all(isinstance(count, int) and count > 0 for count in counts.values()):
        raise ValueError(f"counts that are not positive: {counts}")
    names = ("bundle", "manifest", "created", "reason", "kind", "variant", "runtime", "precision", "float_precision")
    fields: dict[str, Any] = {name: str(raw[name]) for name in names} | counts
    return Tuning(
        **fields,
        machine=Machine(
            str(machine["cpu"]), int(machine["cores"]), tuple(machine["gpus"]), dict(machine["packages"].items())
        ),
    )

"""From a bundle's directory to a model that the engine can serve."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.shape import ModelShape
from ridgeline_export.bundle import MANIFEST_NAME, Bundle, BundleError, read_bundle
from ridgeline_server.config import ModelSettings, Overlong, ServerConfig, config_of, settings_of
from ridgeline_server.engine.backlog import Backlog
from ridgeline_server.engine.cost import CostTable, bundle_architecture
from ridgeline_server.engine.model import BatchObserver, ServedModel
from ridgeline_server.engine.replica import Replica, ReplicaState
from ridgeline_server.engine.tokenization import TextTokenizer, TokenizerThreads
from ridgeline_server.engine.turns import Turns
from ridgeline_server.errors import StartupError
from ridgeline_server.request import ModelInfo
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.selection import choose_plans

_MOST_FAILED_STARTS = 2
_POLL_S = 0.01

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A served model and its tokenizer.

    created:  Unix seconds of the bundle's manifest
    problem:  see ModelInfo
    settings: what was said of the model alone
    """

    served: ServedModel
    tokenizer: TokenizerThreads
    shape: ModelShape
    created: int
    problem: str | None
    settings: ModelSettings

    @property
    def is_idle(self) -> bool:
        """True when every request that it took is answered."""
        return not (self.served.unanswered or self.tokenizer.pending_characters)

    async def start(self) -> None:
        """Start the replicas, one after another, so that each measures its peak undisturbed; return when all are ready.

        Raises StartupError when the model cannot be loaded.
        """
        for replica in self.served.replicas:
            replica.start()
            await _wait_ready(self.served, replica)

    async def stop(self) -> None:
        """End workers and threads; what is still here gets an error."""
        await self.served.stop()
        self.tokenizer.stop()

    def info(self) -> ModelInfo:
        """What protocols tell of the model."""
        served, manifest = self.served, self.served.bundle.manifest
        vocabulary = self.tokenizer.tokenizer.vocabulary
        return ModelInfo(
            name=served.name,
            model_id=manifest.model_id,
            revision=manifest.revision,
            task=manifest.task,
            pooling=manifest.pooling,
            dim=self.shape.hidden,
            max_tokens=manifest.max_tokens,
            vocab_size=self.shape.vocab,
            variant=served.plan.variant,
            runtime=served.plan.runtime,
            precision=served.plan.precision,
            created=self.created,
            replicas=len(served.replicas),
            ready_replicas=served.ready_replicas,
            queued_sequences=served.queued_sequences,
            queued_tokens=served.queued_tokens,
            reasons=served.reasons,
            device=served.plan.device.kind,
            max_batch_tokens=served.plan.grid.most_tokens,
            replica_infos=served.replica_infos(),
            why=served.plan.why,
            normalize=manifest.normalize,
            labels=manifest.labels,
            problem=self.problem,
            prompts=manifest.prompts,
            default_prompt=manifest.default_prompt,
            mask_token=vocabulary.mask_token,
            mask_token_id=vocabulary.mask_id,
            vocabulary=vocabulary,
            version=served.version,
            max_request_tokens=self.settings.max_request_tokens,
            truncates=None if self.settings.overlong is None else self.settings.overlong is Overlong.TRUNCATE,
        )


async def _wait_ready(served: ServedModel, replica: Replica) -> None:
    while replica.state is not ReplicaState.READY:
        if served.load_error is not None:
            raise StartupError(f"model '{served.name}' cannot be loaded: {served.load_error}")
        if replica.failed_starts >= _MOST_FAILED_STARTS:
            raise StartupError(f"a worker of model '{served.name}' ends before it is ready; see the log above")
        await asyncio.sleep(_POLL_S)


def load_models(config: ServerConfig, observe: BatchObserver, turns: Turns | None = None) -> list[LoadedModel]:
    """Read, check and plan every model of the configuration.

    turns: that they take with each other, and with models that come later

    Raises StartupError when a bundle is absent, damaged or cannot be served as asked.
    """
    models = settings_of(config)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            if any(model.name == name for model in config.models):
                raise StartupError(f"two models are called '{name}'; give one of them another name in the models file")
            raise StartupError(f"two bundles share the name '{name}'; rename one directory, since requests name models")
    read = []
    for index, model in enumerate(models):
        warn_of_shared_cores(model, models[:index])
        read.append(read_model(model, config_of(config, model, models[:index] + models[index + 1 :])))
    turns = Turns() if turns is None else turns
    return [each.serve(observe, turns) for each in read]


def warn_of_shared_cores(model: ModelSettings, others: Sequence[ModelSettings]) -> None:
    """Tell of cores that other models may use too: a flood on one of the models is felt by the other."""
    for other in others:
        if model.cores is not None and other.cores is not None:
            both = sorted(set(model.cores) & set(other.cores))
            if both:
                log.warning("models '%s' and '%s' share the cores %s", other.name, model.name, _listed(both))
        elif (model.cores is None) is not (other.cores is None):
            bound, free = (model, other) if other.cores is None else (other, model)
            log.warning("model '%s' has no cores of its own, and may take those of '%s'", free.name, bound.name)


@dataclass(frozen=True, slots=True, eq=False)
class ReadModel:
    """A bundle that was read, checked and planned, and of which nothing runs yet."""

    settings: ModelSettings
    config: ServerConfig
    bundle: Bundle
    plans: list[Plan]
    costs: CostTable
    shape: ModelShape
    created: int
    problem: str | None
    tokenizer: TextTokenizer

    def serve(self, observe: BatchObserver, turns: Turns, version: int = 1) -> LoadedModel:
        """The model, whose replicas are to be started; called where the event loop runs."""
        config = self.config
        served = ServedModel(
            self.settings.name,
            self.bundle,
            self.plans,
            costs=self.costs,
            max_age_s=config.max_age_s,
            backlog=Backlog(config.max_queue_tokens, config.max_queue_s),
            observe=observe,
            version=version,
            turns=turns,
        )
        threads = max(2, sum(plan.threads for plan in self.plans))
        tokenizer = TokenizerThreads(self.tokenizer, threads)
        return LoadedModel(served, tokenizer, self.shape, self.created, self.problem, self.settings)


def read_model(model: ModelSettings, config: ServerConfig) -> ReadModel:
    """Read, check and plan one model: seconds of work, for any thread.

    config: as `config_of` gives it
    Raises StartupError when the bundle is absent, damaged or cannot be served as asked.
    """
    path = model.bundle
    try:
        path = path.resolve()  # what a link leads to stays this version's, wherever it leads later
        bundle = read_bundle(path)
        created = int((path / MANIFEST_NAME).stat().st_mtime)
        plans = choose_plans(bundle, config)
        bundle.verify(plans[0].variant)
        shape = ModelShape.from_dict(dict(bundle.manifest.shape))
        costs = CostTable(bundle_architecture(bundle), bundle.manifest.max_tokens)
        problem = _read_problem(bundle)
    except (BundleError, EstimateError) as error:
        raise StartupError(str(error)) from error
    except (OSError, TypeError, ValueError) as error:
        raise StartupError(f"bundle {path} cannot be served: {error}; export the model again") from error
    try:
        tokenizer = TextTokenizer(
            path / "tokenizer.json",
            bundle.manifest.max_tokens,
            shape.vocab,
            model.max_request_tokens or config.max_request_tokens,
        )
    except Exception as error:  # the library raises bare Exception
        raise StartupError(f"bundle {path} has a tokenizer that cannot be loaded: {error}") from error
    return ReadModel(model, config, bundle, plans, costs, shape, created, problem, tokenizer)


def _read_problem(bundle: Bundle) -> str | None:
    """What the bundle's config says of how its classifier decides. Raises OSError, or ValueError for no JSON object."""
    path = bundle.path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a JSON object")
    problem = config.get("problem_type")
    return problem if isinstance(problem, str) else None


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))

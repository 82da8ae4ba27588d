"""From a bundle's directory to a model that the engine can serve."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.shape import ModelShape
from ridgeline_export.bundle import MANIFEST_NAME, BundleError, read_bundle
from ridgeline_server.config import ServerConfig
from ridgeline_server.engine.backlog import Backlog
from ridgeline_server.engine.cost import CostTable, bundle_architecture
from ridgeline_server.engine.facts import ModelFacts, read_facts
from ridgeline_server.engine.model import BatchObserver, ServedModel
from ridgeline_server.engine.tokenization import TextTokenizer, TokenizerThreads
from ridgeline_server.errors import StartupError
from ridgeline_server.request import ModelInfo
from ridgeline_server.runtimes.selection import choose_plans


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A served model and its tokenizer. `created`: Unix seconds of the bundle's manifest."""

    served: ServedModel
    tokenizer: TokenizerThreads
    shape: ModelShape
    created: int
    facts: ModelFacts

    def info(self) -> ModelInfo:
        """What protocols tell of the model."""
        served, manifest = self.served, self.served.bundle.manifest
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
            problem=self.facts.problem,
            prompts=manifest.prompts,
            default_prompt=manifest.default_prompt,
            mask_token=self.facts.mask_token,
            mask_token_id=self.facts.mask_token_id,
            vocabulary=self.tokenizer.tokenizer.vocabulary,
        )


def load_models(config: ServerConfig, observe: BatchObserver) -> list[LoadedModel]:
    """Read, check and plan every bundle of the configuration.

    Raises StartupError when a bundle is absent, damaged or cannot be served as asked.
    """
    names = [path.resolve().name for path in config.bundles]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StartupError(f"two bundles share the name '{twice[0]}'; rename one directory, since requests name models")
    return [_load(config, index, name, observe) for index, name in enumerate(names)]


def _load(config: ServerConfig, index: int, name: str, observe: BatchObserver) -> LoadedModel:
    path = config.bundles[index]
    try:
        bundle = read_bundle(path)
        created = int((path / MANIFEST_NAME).stat().st_mtime)
        plans = choose_plans(bundle, config)
        bundle.verify(plans[0].variant)
        shape = ModelShape.from_dict(dict(bundle.manifest.shape))
        costs = CostTable(bundle_architecture(bundle), bundle.manifest.max_tokens)
        facts = read_facts(bundle)
    except (BundleError, EstimateError) as error:
        raise StartupError(str(error)) from error
    except (OSError, TypeError, ValueError) as error:
        raise StartupError(f"bundle {path} cannot be served: {error}; export the model again") from error
    try:
        tokenizer = TextTokenizer(
            path / "tokenizer.json", bundle.manifest.max_tokens, shape.vocab, config.max_request_tokens
        )
    except Exception as error:  # the library raises bare Exception
        raise StartupError(f"bundle {path} has a tokenizer that cannot be loaded: {error}") from error
    served = ServedModel(
        name,
        bundle,
        plans,
        costs=costs,
        max_age_s=config.max_age_s,
        backlog=Backlog(config.max_queue_tokens, config.max_queue_s),
        observe=observe,
    )
    threads = max(2, sum(plan.threads for plan in plans))
    return LoadedModel(served, TokenizerThreads(tokenizer, threads), shape, created, facts)

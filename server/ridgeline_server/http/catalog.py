"""The served models by name and model id, without asking the engine for each request."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from ridgeline_server.errors import UnavailableError, UnknownModelError
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import WrongModelError, quote
from ridgeline_server.request import ModelInfo

_MAX_AGE_S = 1.0


class Catalog:
    """Facts of a version of a model, which do not change; at most a second old, and never missing a new name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._models: list[ModelInfo] = []
        self._names: list[str] = []
        self._by_name: dict[str, ModelInfo] = {}
        self._read = float("-inf")

    def find(self, name: str | None) -> ModelInfo:
        """The model of that name or model id, None = the first.

        Raises: UnknownModelError, UnavailableError when nothing is served
        """
        is_missing = name not in self._by_name if name is not None else not self._models
        if is_missing or time.monotonic() - self._read > _MAX_AGE_S:
            self._refresh()
        if name is None:
            if not self._models:
                raise UnavailableError("no model is served at the moment; try again later", 1.0)
            return self._models[0]
        info = self._by_name.get(name)
        if info is None:
            served = ", ".join(quote(model) for model in self._names[:8]) or "none at the moment"
            raise UnknownModelError(f"the model {quote(name)} is not served; served are: {served}")
        return info

    def forget(self) -> None:
        """Ask the engine again at the next look: models came, went, or were replaced."""
        self._read = float("-inf")

    def models(self) -> list[ModelInfo]:
        """All served models, the first one first."""
        if time.monotonic() - self._read > _MAX_AGE_S:
            self._refresh()
        return self._models

    def find_able(
        self,
        name: str | None,
        tasks: Collection[str],
        wish: str,
        suits: Callable[[ModelInfo], bool] | None = None,
    ) -> ModelInfo:
        """As `find`, among the models that are for one of the tasks: None = the first of them that suits, or the
        first.

        tasks: of bundles
        wish:  what the model shall do, as in "this model cannot …"

        Raises: UnknownModelError, UnavailableError, WrongModelError when no model, or not this one, can do it
        """
        info = self.find(name)
        if info.task in tasks and (name is not None or suits is None):
            return info
        able = [each for each in self.models() if each.task in tasks]
        if name is None and able:
            return able[0] if suits is None else next(filter(suits, able), able[0])
        served = ", ".join(quote(each.name) for each in able[:8])
        advice = f"these can: {served}" if able else f"no served model can: serve one for {' or '.join(tasks)}"
        raise WrongModelError(f"the model {quote(info.name)} is for {info.task} and cannot {wish}; {advice}", "model")

    def _refresh(self) -> None:
        self._models = self._engine.models()
        self._names = [info.name for info in self._models]
        # A name goes before another model's id, and of models with one id the first goes first.
        by_id = {info.model_id: info for info in reversed(self._models)}
        self._by_name = by_id | {info.name: info for info in self._models}
        self._read = time.monotonic()

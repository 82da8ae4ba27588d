"""The rooflines of a model's replicas, worked out between other work a moment after a replica is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from ridgeline_server.engine.prediction import Predictor
from ridgeline_server.request import Roofline, ShapePrediction
from ridgeline_server.runtimes.grid import Shape

log = logging.getLogger(__name__)

_READY_FIRST_S = 0.05


class Rooflines:
    """Predictions by replica and shape.

    A shape of a deep model takes milliseconds, so that each has a turn of the event loop to itself: nobody waits for
    more than one of them, and the server is ready before they begin. One that is asked for earlier is made then.
    """

    def __init__(self) -> None:
        self._replicas: dict[int, _Predictions] = {}

    def prepare(self, replica: int, make: Callable[[], Predictor | None], shapes: tuple[Shape, ...]) -> None:
        """Soon predict the shapes of a replica; what was predicted for its last worker is forgotten at once.

        make: its predictor, None when nothing is known of its device; may take milliseconds too
        """
        predictions = self._replicas[replica] = _Predictions(make)
        waiting = iter(shapes)

        def predict_next() -> None:
            shape = next(waiting, None)
            if shape is None:
                predictions.complete(shapes)
            elif self._replicas.get(replica) is predictions:  # else the replica has a new worker
                predictions.find(shape)
                loop.call_soon(predict_next)

        loop = asyncio.get_running_loop()
        loop.call_later(_READY_FIRST_S, predict_next)

    def find(self, replica: int, shape: Shape) -> ShapePrediction | None:
        """The prediction of a batch of that shape, None when there is nothing to predict from."""
        predictions = self._replicas.get(replica)
        return None if predictions is None else predictions.find(shape)

    def of(self, replica: int) -> Roofline | None:
        """The replica's roofline, None while it is not there."""
        predictions = self._replicas.get(replica)
        return None if predictions is None else predictions.roofline


@dataclass(slots=True)
class _Predictions:
    make: Callable[[], Predictor | None]
    is_made: bool = False
    predictor: Predictor | None = None
    by_shape: dict[Shape, ShapePrediction] = field(default_factory=dict)
    roofline: Roofline | None = None

    def find(self, shape: Shape) -> ShapePrediction | None:
        prediction = self.by_shape.get(shape)
        if prediction is not None:
            return prediction
        try:
            if not self.is_made:
                self.is_made = True
                self.predictor = self.make()
            if self.predictor is None:
                return None
            prediction = self.by_shape[shape] = self.predictor.predict(shape)
            return prediction
        except Exception:  # a batch is answered whether or not anybody could predict it
            log.exception("batches of shape %s cannot be predicted, nor any other from now on", shape)
            self.predictor = None
            return None

    def complete(self, shapes: tuple[Shape, ...]) -> None:
        if self.predictor is not None:
            self.roofline = self.predictor.roofline(tuple(self.by_shape[shape] for shape in shapes))

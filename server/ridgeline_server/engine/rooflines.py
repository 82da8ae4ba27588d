"""The rooflines of a model's replicas, worked out between other work once a replica is ready."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ridgeline_server.engine.prediction import Predictor
from ridgeline_server.request import Roofline, ShapePrediction
from ridgeline_server.runtimes.grid import Shape


class Rooflines:
    """Predictions by replica and shape.

    A shape of a deep model takes milliseconds, so that each has a turn of the event loop to itself: nobody waits for
    more than one of them, and the server is ready before they are done. One that is asked for earlier is made then.
    """

    def __init__(self) -> None:
        self._replicas: dict[int, _Predictions] = {}

    def prepare(self, replica: int, predictor: Predictor | None, shapes: tuple[Shape, ...]) -> None:
        """Begin to predict the shapes of a replica, and forget what was predicted for its last worker.

        predictor: None when nothing is known of the replica's device
        """
        self._replicas.pop(replica, None)
        if predictor is None:
            return
        predictions = self._replicas[replica] = _Predictions(predictor)
        waiting = iter(shapes)

        def predict_next() -> None:
            shape = next(waiting, None)
            if shape is None:
                predictions.roofline = predictor.roofline(tuple(predictions[shape] for shape in shapes))
            elif self._replicas.get(replica) is predictions:  # else the replica has a new worker
                predictions[shape]
                loop.call_soon(predict_next)

        loop = asyncio.get_running_loop()
        loop.call_soon(predict_next)

    def find(self, replica: int, shape: Shape) -> ShapePrediction | None:
        """The prediction of a batch of that shape, None when there is nothing to predict from."""
        predictions = self._replicas.get(replica)
        return None if predictions is None else predictions[shape]

    def of(self, replica: int) -> Roofline | None:
        """The replica's roofline, None while it is not there."""
        predictions = self._replicas.get(replica)
        return None if predictions is None else predictions.roofline


@dataclass(slots=True)
class _Predictions:
    predictor: Predictor
    by_shape: dict[Shape, ShapePrediction] = field(default_factory=dict)
    roofline: Roofline | None = None

    def __getitem__(self, shape: Shape) -> ShapePrediction:
        prediction = self.by_shape.get(shape)
        if prediction is None:
            prediction = self.by_shape[shape] = self.predictor.predict(shape)
        return prediction

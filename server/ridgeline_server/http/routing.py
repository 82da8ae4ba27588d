"""Which paths the door answers itself, and whose error shape answers under a path have."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from ridgeline_server.http.admission import CheckMedia, check_json
from ridgeline_server.http.errors import Protocol
from ridgeline_server.http.exchange import Exchange, Headers

Handler = Callable[[Exchange, bytes], Awaitable[tuple[bytes, Headers]]]
_TEI_PATHS = (
    "/decode",
    "/embed",
    "/info",
    "/invocations",
    "/models/",
    "/predict",
    "/rerank",
    "/similarity",
    "/tokenize",
)
_RERANK_PATHS = ("/v1/rerank", "/v2/rerank")


@dataclass(frozen=True, slots=True)
class InferenceRoute:
    """A route that the door answers itself: POST, JSON in, an answer out.

    path:    template; `{name}` captures a model's name: the rest of a path up to what follows it
    handler: exchange, body → body and headers of a 200
    is_model_in_path: whether the path alone tells the model: `{name}`, or the first one where there is no name
    check_media: raises RefusedError for headers of a body that it does not take
    """

    path: str
    protocol: Protocol
    handler: Handler
    is_model_in_path: bool
    check_media: CheckMedia = check_json

    def pattern(self) -> re.Pattern[str]:
        """The template as a regular expression."""
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(self.path)))


class Routes:
    """Finds the route of a path. paths: the templates"""

    def __init__(self, routes: Iterable[InferenceRoute]) -> None:
        routes = tuple(routes)
        self.paths = frozenset(route.path for route in routes)
        self._exact = {route.path: route for route in routes if "{" not in route.path}
        self._patterns = [(route.pattern().fullmatch, route) for route in routes if "{" in route.path]

    def find(self, path: str, exchange: Exchange) -> InferenceRoute | None:
        """The route; what its path captured is noted in the exchange. None where there is none."""
        route = self._exact.get(path)
        if route is None:
            for match, candidate in self._patterns:
                found = match(path)
                if found is not None:
                    exchange.params = found.groupdict()
                    return candidate
        return route


def protocol_of(path: str) -> Protocol:
    """Whose error shape answers under the path have."""
    if path in _RERANK_PATHS:
        return Protocol.RERANK
    if path.startswith("/v1/"):
        return Protocol.OPENAI
    return Protocol.TEI if path.startswith(_TEI_PATHS) else Protocol.PLAIN

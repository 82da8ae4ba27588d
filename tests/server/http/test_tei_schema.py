"""Requests made from our own document of routes that ask a model of some kind get answers that it describes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from tests.server.http.model_engine import ModelEngine
from tests.server.http_fakes import Server

_OF_METHODS = ["unsupported_method", "allow_header_conformance"]
MODELS = {"/predict": "classes", "/rerank": "ranks", "/embed_sparse": "fills", "": "classes"}
statuses: Counter[int] = Counter()


ENGINE = ModelEngine({})
whole = schemathesis.openapi.from_asgi("/openapi.json", Server(ENGINE).app)
whole.config.generation.update(modes=list(GenerationMode))
# The document cannot say the limits of the models that are served, nor what each of them is for.
whole.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "400", "422", "424"]
whole.config.checks.negative_data_rejection.expected_statuses += ["424"]
schema = whole.include(
    path_regex="^/($|info|ping|embed|similarity|predict|rerank|tokenize|decode|invocations|v[12]/rerank|models/)"
)


@pytest.fixture(autouse=True, scope="module")
def models(model_engine: ModelEngine) -> None:
    """The document is read before there are models."""
    ENGINE.infos[:] = model_engine.infos
    ENGINE.by_name = model_engine.by_name


@schema.parametrize()
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_documented(case: Any) -> None:
    if "x-schemathesis-unknown-property" in case.headers:
        return  # it takes a header that the server does not know for a mistake; HTTP does not
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
        if "name" in case.path_parameters:
            case.path_parameters["name"] = MODELS.get(case.path.removeprefix("/models/{name}"), "dense")
        if isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "ranks"
    # GET / is the dashboard, which is no part of the document.
    skipped: Any = CHECKS.get_by_names(_OF_METHODS) if case.path == "/" else []
    statuses[case.call_and_validate(excluded_checks=skipped).status_code] += 1


def test_right_and_wrong_requests_were_both_made() -> None:
    if not statuses:
        pytest.skip("needs the requests of the test before")
    assert statuses[200] > 30 and statuses[400] > 10 and statuses[422] > 10

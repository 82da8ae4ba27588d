"""Requests made from our own document of the tasks, right and wrong ones, get answers that it describes."""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode

from tests.server.http.task_engine import TaskEngine
from tests.server.http_fakes import Server

SERVER = Server(TaskEngine())
whole = schemathesis.openapi.from_asgi("/openapi.json", SERVER.app)
whole.config.generation.update(modes=list(GenerationMode))
# The document cannot say the limits of the model that is served, nor which parameters go together.
whole.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "400"]
schema = whole.include(path_regex="^/tasks")
statuses: Counter[int] = Counter()


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
def test_answers_are_as_documented(case: schemathesis.Case) -> None:
    if "x-schemathesis-unknown-property" in case.headers:
        return  # it takes a header that the server does not know for a mistake; HTTP does not
    is_right = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if is_right and isinstance(case.body, dict):
        case.body.pop("model", None)
    statuses[case.call_and_validate().status_code] += 1


def test_right_and_wrong_requests_were_both_made() -> None:
    if not statuses:
        pytest.skip("needs the requests of the test before")
    assert statuses[200] > 30 and statuses[400] > 30

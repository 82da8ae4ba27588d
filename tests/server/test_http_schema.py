"""Requests made from our own OpenAPI document, right and wrong ones, get answers that the document describes."""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode

from ridgeline_server.request import ReplicaInfo, Roofline, ShapePrediction
from tests.server.http_fakes import DIM, FakeEngine, Server, batch_record, model_info

ROOFLINE = Roofline(False, {"fp32": 1e11}, None, {}, "measured", [ShapePrediction((5, 16), 0.4, "compute", 8e9)])
REPLICAS = [
    ReplicaInfo(0, "ready", 4711, 1, 0, "cpu:0", 2, 2, "fp32", 1e11, ROOFLINE),
    ReplicaInfo(1, "down", None, 0, 1, "cpu:1", 2, 2, "fp32", None),
]
BATCHES = [batch_record(), batch_record(predicted_s=0.4, bound="compute"), batch_record(peak_flops_per_s=None)]
SERVER = Server(FakeEngine([model_info(replica_infos=REPLICAS), model_info("other")], batches=BATCHES[1:2]))
for record in BATCHES:
    SERVER.report.record_batch(record)
whole = schemathesis.openapi.from_asgi("/openapi.json", SERVER.app)
whole.config.generation.update(modes=list(GenerationMode))
# The document cannot say the limits of the model that is served: a vocabulary of 1000 and its dimensions.
whole.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "400", "413", "422"]
# These have tests of their own, with models that can do them.
schema = whole.exclude(
    path_regex="^/(tasks|embed_|similarity|predict|rerank|v[12]/rerank|tokenize|decode|invocations|$)"
)
schema = schema.exclude(path_regex="^/models/{name}(/(?!embed$)|$)")
schema = schema.exclude(path_regex="^/(admin|v2/repository/models)/")
statuses: Counter[int] = Counter()


@schema.parametrize()
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
def test_answers_are_as_documented(case: schemathesis.Case) -> None:
    if "x-schemathesis-unknown-property" in case.headers:
        return  # it takes a header that the server does not know for a mistake; HTTP does not
    if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
        _ask_for_a_served_model(case)
    response = case.call_and_validate()
    statuses[response.status_code] += 1


def test_every_operation_is_asked_for_here_or_with_models_that_can_answer() -> None:
    from tests.server.http import test_admin, test_tasks_schema, test_tei_schema

    parts = (schema, test_admin.schema, test_tasks_schema.schema, test_tei_schema.schema)
    asked = {each.ok().label for part in parts for each in part.get_all_operations()}
    assert asked == {each.ok().label for each in whole.get_all_operations()}


def test_right_and_wrong_requests_were_both_made() -> None:
    if not statuses:
        pytest.skip("needs the requests of the test before")
    assert statuses[200] > 50 and statuses[400] > 20 and statuses[422] > 20


def _ask_for_a_served_model(case: schemathesis.Case) -> None:
    if "name" in case.path_parameters:
        case.path_parameters["name"] = "other"
    if "version" in case.path_parameters:
        case.path_parameters["version"] = "1"
    if isinstance(case.body, dict):
        if "model" in case.body:
            case.body["model"] = "tiny"
        if "dimensions" in case.body:
            case.body["dimensions"] = DIM

"""Calls that nobody would think of, made from the API's own description."""

from contextlib import asynccontextmanager

import pytest

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, settings  # noqa: E402
from service.served_shop import key, models, postgres, service, url  # noqa: E402, F401

from tailor.service.app import make_app  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_no_call_breaks_the_server(service):  # noqa: F811
    """Any body that the description allows or forbids: no 5xx, and problems are problem+json.
    (Without a check that refused bodies break the description: times and conditions are refused for
    reasons that a schema cannot say.)
    """
    service.start()
    app = make_app(service)
    app.router.lifespan_context = _nothing  # it would end with every call
    headers = {"authorization": f"Bearer {key(service, 'admin')}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    failures = []

    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @schema_given(operation)
        def call(case):
            answer = case.call(headers=headers)
            if answer.status_code >= 500 and "no model answers" not in answer.text:
                failures.append((case.method, case.path, case.body, answer.text))
            elif (
                answer.status_code >= 400
                and answer.headers["content-type"][0] != "application/problem+json"
            ):
                failures.append((case.method, case.path, answer.headers["content-type"]))

        call()
    assert not failures, failures[:3]


@asynccontextmanager
async def _nothing(_):
    yield


def schema_given(operation):
    from hypothesis import given

    return given(case=operation.as_strategy())

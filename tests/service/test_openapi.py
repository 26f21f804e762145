"""The description of the API tells the truth: every answer is as described, and every body that
the description allows is taken.
"""

import json
import re

import jsonschema
import pytest
from pydantic import ValidationError
from service.served_shop import SHOP, Client, key, take_away

from tailor.ranking.logistic_regression import LogisticRegression
from tailor.service import schemas
from tailor.service.app import make_app
from tailor.service.routing import PUBLIC

USER = SHOP.users.ids[0]
ITEM, OTHER = SHOP.catalogue.ids[:2].tolist()
NOW_MS = 1_767_225_600_000
EVENT = {"event_id": "e", "user_id": USER, "item_id": ITEM, "time_ms": NOW_MS}
LISTS = "/v1/recommendations"
JSON = {"content-type": "application/json"}
PROBLEM = "application/problem+json"
EXPORT = {
    "format": "tailor-memory",
    "version": 1,
    "observations": [{"kind": "chat", "text": "hello", "occurred_ms": NOW_MS}],
    "drafts": [],
}
SAID = [{"text": "I live in Oslo.", "time_ms": NOW_MS}, {"text": "I like tea.", "time_ms": NOW_MS}]
FACT = "0123456789abcdef"  # no proposition has this id
# questions to each route of memories: method, path, and user, address, body, status
MEMORY = [
    (
        "post",
        "/observations",
        [
            ("eve", "/observations", {"observations": SAID}, 200),
            ("eve", "/observations", {"observations": SAID}, 200),
            ("eve", "/observations", {"observations": [{"time_ms": 4 * 10**12}]}, 409),
            ("eve", "/observations", {"observations": []}, 422),
            ("eve", "/observations", {"observations": [{"kind": "edit"}]}, 422),
        ],
    ),
    (
        "post",
        "/recall",
        [
            ("eve", "/recall", {"query": "Where does she live?"}, 200),
            ("nobody", "/recall", {"query": "tea", "budget_tokens": 0, "at_ms": NOW_MS}, 200),
            ("eve", "/recall", {"query": " "}, 422),
        ],
    ),
    (
        "get",
        "",
        [
            ("eve", "", None, 200),
            ("nobody", f"?at_ms={NOW_MS}&as_of_ms={NOW_MS}", None, 200),
            ("eve", "?at_ms=soon", None, 422),
        ],
    ),
    ("get", "/timeline", [("eve", "/timeline", None, 200)]),
    (
        "get",
        "/diff",
        [("eve", f"/diff?since_ms={NOW_MS}", None, 200), ("eve", "/diff", None, 422)],
    ),
    (
        "get",
        "/propositions/{proposition_id}",
        [("eve", f"/propositions/{FACT}", None, 404)],
    ),
    (
        "put",
        "/propositions/{proposition_id}",
        [
            ("eve", f"/propositions/{FACT}", {"value": "Bergen"}, 404),
            ("eve", f"/propositions/{FACT}", {"value": ""}, 422),
        ],
    ),
    (
        "post",
        "/propositions/{proposition_id}/confirm",
        [("eve", f"/propositions/{FACT}/confirm", None, 404)],
    ),
    (
        "post",
        "/propositions/{proposition_id}/reject",
        [("nobody", f"/propositions/{FACT}/reject", None, 404)],
    ),
    (
        "put",
        "/settings",
        [
            ("eve", "/settings", {"paused": True, "retention_days": 30_000}, 200),
            ("eve", "/settings", {}, 200),
            ("eve", "/settings", {"retention_days": 0}, 422),
        ],
    ),
    ("get", "/settings", [("eve", "/settings", None, 200), ("nobody", "/settings", None, 200)]),
    ("get", "/export", [("eve", "/export", None, 200), ("nobody", "/export", None, 200)]),
    (
        "post",
        "/import",
        [
            ("fay", "/import", {"memory": EXPORT}, 200),
            ("fay", "/import", {"memory": {**EXPORT, "version": 99}}, 409),
            ("fay", "/import", {"memory": {}}, 409),
            ("fay", "/import", {"memory": []}, 422),
        ],
    ),
    (
        "post",
        "/forget",
        [
            ("eve", "/forget", {"query": "tea"}, 200),
            ("nobody", "/forget", {"query": "tea"}, 404),
            ("eve", "/forget", {"query": ""}, 422),
        ],
    ),
    ("delete", "/entries/{entry_id}", [("eve", f"/entries/{FACT}", None, 404)]),
    ("delete", "", [("eve", "", None, 200), ("nobody", "", None, 404)]),
]
# questions to each route: the address, the body, and the status of the answer
QUESTIONS = {
    ("put", "/v1/items"): [
        (
            "/v1/items",
            {"items": [{"item_id": "pot", "title": "Pot", "more": {"a": [1, "x"]}}]},
            200,
        ),
        ("/v1/items", {"items": [{"item_id": "pot"}, {"item_id": "pot"}]}, 200),
        ("/v1/items", {"items": [{"item_id": ".."}]}, 422),
    ],
    ("post", "/v1/items/{item_id}/takedown"): [
        (f"/v1/items/{OTHER}/takedown", {"reason": "broken"}, 200),
        (f"/v1/items/{OTHER}/takedown", None, 200),
    ],
    ("get", "/v1/items/{item_id}"): [
        (f"/v1/items/{ITEM}", None, 200),
        (f"/v1/items/{OTHER}", None, 200),
        ("/v1/items/nothing", None, 404),
        ("/v1/items/%0A", None, 422),
    ],
    ("delete", "/v1/items/{item_id}/takedown"): [
        (f"/v1/items/{OTHER}/takedown", None, 200),
        (f"/v1/items/{OTHER}/takedown", None, 404),
    ],
    ("delete", "/v1/items/{item_id}"): [("/v1/items/pot", None, 200)],
    ("put", "/v1/users/{user_id}"): [
        ("/v1/users/ann", {"more": {"country": "Japan"}}, 200),
        ("/v1/users/ann", {"more": {"": 1}}, 422),
    ],
    ("post", "/v1/events"): [
        ("/v1/events", {"events": [EVENT, {**EVENT, "item_id": "unknown", "event_id": "f"}]}, 200),
        ("/v1/events", {"events": [EVENT, {"event_id": ""}, "no event"]}, 200),
        ("/v1/events", {"events": []}, 200),
        ("/v1/events", {"events": [{"event_id": "e"}]}, 422),
        ("/v1/events", {"events": [{**EVENT, "event_id": "g", "time_ms": 4 * 10**12}]}, 409),
    ],
    ("post", LISTS): [
        (LISTS, {"user_id": USER, "k": 3}, 200),
        (LISTS, {"user_id": USER, "explain": True, "request_id": "q"}, 200),
        (LISTS, {"user_id": USER, "request_id": "q"}, 200),
        (LISTS, {"history": [ITEM], "diversity": 0.5, "keep_seen": True}, 200),
        (LISTS, {"user_id": "another", "request_id": "q"}, 409),
        (LISTS, {"filter": "no_such_column = 1"}, 409),
        (LISTS, {"filter": "price <="}, 409),
        (LISTS, {"text": "tea"}, 409),
        (LISTS, {"user_id": USER, "trace": True, "filter": "price < 50"}, 200),
        (LISTS, {"user_id": USER, "version": 2, "trace": True, "diversity": 0.5}, 200),
        (LISTS, {"user_id": USER, "version": 99}, 409),
        (LISTS, {"user_id": USER, "version": 0}, 422),
        (LISTS, {"k": 0}, 422),
        (LISTS, {"user_id": USER, "history": [ITEM]}, 422),
    ],
    ("post", "/v1/similar"): [
        ("/v1/similar", {"item_id": ITEM}, 200),
        ("/v1/similar", {"item_id": "unknown"}, 200),
        ("/v1/similar", {"item_id": ITEM, "filter": "("}, 409),
    ],
    ("post", "/v1/search"): [
        ("/v1/search", {"text": "tea"}, 200),
        ("/v1/search", {"text": "nosuchword"}, 200),
        ("/v1/search", {"text": " "}, 422),
    ],
    **{
        ("post", path): [
            (path, {"query": "tea", "documents": ["tea", "cup"]}, 200),
            (path, {"query": "tea", "documents": ["tea"], "top_n": "1"}, 422),
        ]
        for path in ("/v1/rerank", "/v2/rerank")
    },
    ("post", "/v1/predict"): [
        ("/v1/predict", {"item_ids": [ITEM, "unknown"], "user_id": USER}, 200),
        ("/v1/predict", {"item_ids": []}, 422),
    ],
    ("post", "/v1/experiments"): [
        ("/v1/experiments", {"name": "a", "arms": [{"version": 1}, {"version": 99}]}, 409),
        ("/v1/experiments", {"name": "a", "arms": [{"version": 1}, {"version": 1}]}, 409),
        ("/v1/experiments", {"name": "a", "arms": [{"version": 1}, {"version": 2}]}, 200),
        ("/v1/experiments", {"name": "a", "arms": []}, 422),
    ],
    ("get", "/v1/experiments"): [("/v1/experiments", None, 200)],
    ("get", "/v1/experiments/{name}"): [
        ("/v1/experiments/a", None, 200),
        ("/v1/experiments/b", None, 404),
    ],
    ("delete", "/v1/experiments/{name}"): [
        ("/v1/experiments/a", None, 200),
        ("/v1/experiments/a", None, 404),
    ],
    ("get", "/health"): [("/health", None, 200)],
    ("get", "/ready"): [("/ready", None, 200)],
    ("get", "/metrics"): [("/metrics", None, 200)],
    ("get", "/v1/models"): [("/v1/models", None, 200)],
    ("get", "/v1/models/{version}"): [
        ("/v1/models/1", None, 200),
        ("/v1/models/3", None, 200),
        ("/v1/models/99", None, 404),
        ("/v1/models/0", None, 422),
    ],
    ("post", "/v1/pipelines/check"): [
        ("/v1/pipelines/check", {"toml": 'class = "EASE"'}, 200),
        ("/v1/pipelines/check", {"toml": "class = 'EASE'\nl3 = 1"}, 200),
        ("/v1/pipelines/check", {"toml": 7}, 422),
    ],
    ("post", "/v1/refits"): [
        ("/v1/refits", {"toml": 'class = "Popularity"', "note": "again"}, 200),
        ("/v1/refits", {"toml": "class"}, 409),
        ("/v1/refits", {"version": 99}, 409),
        ("/v1/refits", {"version": 0}, 422),
    ],
    ("get", "/v1/refits"): [("/v1/refits", None, 200)],
    ("get", "/v1/refits/{refit_id}"): [("/v1/refits/nothing", None, 404)],
    ("delete", "/v1/refits/{refit_id}"): [("/v1/refits/nothing", None, 404)],
    ("get", "/v1/estimates"): [
        ("/v1/estimates?version=1&most=0", None, 422),
        ("/v1/estimates?version=99", None, 409),
        ("/v1/estimates?version=none", None, 422),
    ],
    ("post", "/v1/models"): [
        ("/v1/models", {"folder": "two"}, 200),
        ("/v1/models", {"folder": "nothing"}, 409),
        ("/v1/models", {"folder": "../rival"}, 409),
        ("/v1/models", {"folder": "\0"}, 422),
    ],
    ("post", "/v1/models/switch"): [
        ("/v1/models/switch", {"version": 1}, 200),
        ("/v1/models/switch", {"version": 99}, 409),
        ("/v1/models/switch", {"version": 0}, 422),
    ],
    ("post", "/v1/models/rollback"): [
        ("/v1/models/rollback", None, 200),
        ("/v1/models/rollback?kind=predicts", None, 409),
        ("/v1/models/rollback?kind=neither", None, 422),
    ],
    ("get", "/v1/overview"): [
        ("/v1/overview", None, 200),
        ("/v1/overview?days=31", None, 200),
        ("/v1/overview?days=0", None, 422),
    ],
    ("get", "/v1/data"): [("/v1/data", None, 200)],
    ("post", "/v1/data/diagnosis"): [("/v1/data/diagnosis", None, 200)],
    ("get", "/v1/data/diagnosis"): [("/v1/data/diagnosis", None, 200)],
    ("delete", "/v1/data/diagnosis"): [("/v1/data/diagnosis", None, 200)],
    ("post", "/v1/keys"): [
        ("/v1/keys", {"role": "read", "name": "pages"}, 200),
        ("/v1/keys", {"role": "king", "name": "pages"}, 422),
        ("/v1/keys", {"role": "read", "name": ".."}, 422),
    ],
    ("get", "/v1/keys"): [("/v1/keys", None, 200)],
    ("delete", "/v1/keys/{name}"): [
        ("/v1/keys/pages", None, 200),
        ("/v1/keys/pages", None, 404),
        ("/v1/keys/%20", None, 404),
        ("/v1/keys/%0A", None, 422),
    ],
    ("delete", "/v1/keys"): [("/v1/keys?name=pages", None, 404), ("/v1/keys", None, 422)],
    ("get", "/v1/users"): [
        ("/v1/users", None, 200),
        (f"/v1/users?query={USER[:2]}&k=2", None, 200),
        ("/v1/users?after=ff", None, 409),
        ("/v1/users?k=0", None, 422),
    ],
    ("get", "/v1/users/{user_id}/history"): [
        (f"/v1/users/{USER}/history?k=1", None, 200),
        ("/v1/users/nobody/history", None, 200),
        ("/v1/users/nobody/history?before=soon", None, 422),
    ],
    ("get", "/v1/audit"): [
        ("/v1/audit", None, 200),
        (f"/v1/audit?user_id={USER}&k=1&before=9", None, 200),
        ("/v1/audit?k=1000", None, 422),
    ],
    ("get", "/v1/items"): [
        ("/v1/items?k=3", None, 200),
        ("/v1/items?query=tea&blocked=false", None, 200),
        ("/v1/items?blocked=perhaps", None, 422),
    ],
    ("get", "/v1/items/{item_id}/exposure"): [
        (f"/v1/items/{ITEM}/exposure", None, 200),
        ("/v1/items/nothing/exposure?days=1", None, 200),
        ("/v1/items/nothing/exposure?days=0", None, 422),
    ],
    ("get", "/v1/caller"): [("/v1/caller", None, 200)],
    ("get", "/v1/receipts/key"): [("/v1/receipts/key", None, 200)],
    ("get", "/v1/users/{user_id}/data"): [
        (f"/v1/users/{USER}/data", None, 200),
        ("/v1/users/ann/data", None, 200),
        ("/v1/users/nobody/data", None, 200),
    ],
    ("delete", "/v1/users/{user_id}/data"): [(f"/v1/users/{USER}/data", None, 200)],
    **{
        (method, f"/v1/users/{{user_id}}/memory{path}"): [
            (f"/v1/users/{user}/memory{address}", body, status)
            for user, address, body, status in questions
        ]
        for method, path, questions in MEMORY
    },
    ("post", "/v1/users/{user_id}/links"): [
        ("/v1/users/fay/links", {"hours": 720}, 200),
        ("/v1/users/fay/links", None, 200),
        ("/v1/users/fay/links", {"hours": 0}, 422),
        ("/v1/users/nobody/links", {}, 404),
    ],
    ("delete", "/v1/users/{user_id}/links"): [
        ("/v1/users/fay/links", None, 200),
        ("/v1/users/nobody/links", None, 404),
    ],
    ("get", "/v1/receipts/{receipt_id}"): [
        ("/v1/receipts/nothing", None, 404),
        ("/v1/receipts/a%2Fb", None, 404),
    ],
}
# the same to the routes of a person's own page, which take a link in place of a key
OWN = {
    ("get", "/v1/me"): [("/v1/me", None, 200)],
    ("get", "/v1/me/history"): [
        ("/v1/me/history?k=3", None, 200),
        ("/v1/me/history?before=1600000000000-9", None, 200),
        ("/v1/me/history?before=now", None, 422),
    ],
    ("get", "/v1/me/recommendations"): [
        ("/v1/me/recommendations?k=3", None, 200),
        ("/v1/me/recommendations?k=51", None, 422),
    ],
    ("put", "/v1/me/pause"): [
        ("/v1/me/pause", {"memory": True, "history": False}, 200),
        ("/v1/me/pause", {}, 200),
        ("/v1/me/pause", {"history": "yes and no"}, 422),
    ],
    ("get", "/v1/me/data"): [("/v1/me/data", None, 200)],
    ("get", "/v1/me/memory"): [("/v1/me/memory", None, 200)],
    ("get", "/v1/me/memory/propositions/{proposition_id}"): [
        (f"/v1/me/memory/propositions/{FACT}", None, 404)
    ],
    ("put", "/v1/me/memory/propositions/{proposition_id}"): [
        (f"/v1/me/memory/propositions/{FACT}", {"value": "Bergen"}, 404),
        (f"/v1/me/memory/propositions/{FACT}", {"value": ""}, 422),
    ],
    **{
        ("post", f"/v1/me/memory/propositions/{{proposition_id}}/{word}"): [
            (f"/v1/me/memory/propositions/{FACT}/{word}", None, 404)
        ]
        for word in ("confirm", "reject")
    },
    ("delete", "/v1/me/memory/entries/{entry_id}"): [(f"/v1/me/memory/entries/{FACT}", None, 404)],
    ("delete", "/v1/me/history/{event_id}"): [
        ("/v1/me/history/own", None, 200),
        ("/v1/me/history/own", None, 404),
    ],
    ("post", "/v1/me/erase"): [
        ("/v1/me/erase", {"confirm": "yes"}, 422),
        ("/v1/me/erase", {"confirm": "erase"}, 200),
    ],
}


def _find(validator, pattern, text, schema):
    """Search as JSON Schema does: `$` is the end, and never stands before a line end."""
    if isinstance(text, str) and not re.search(pattern.replace("$", r"\Z"), text):
        yield jsonschema.ValidationError(f"{text!r} does not match {pattern!r}")


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _find})


class Description:
    """The description of the API, against which answers are held."""

    def __init__(self, document):
        self.document = document
        self.operations = {
            (method, path): operation
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        }

    def validator(self, schema):
        whole = {**schema, "components": self.document["components"]}
        return Validator(whole)

    def check(self, operation, answer):
        """Assert that status, content type, body and headers are as described."""
        responses = self.operations[operation]["responses"]
        place = (operation, answer.status_code, answer.text[:300])
        assert str(answer.status_code) in responses, place
        response = responses[str(answer.status_code)]
        content_type = answer.headers["content-type"].partition(";")[0]
        assert list(response["content"]) == [content_type], place
        schema = response["content"][content_type]["schema"]
        body = answer.text if content_type == "text/plain" else answer.json()
        self.validator(schema).validate(body)
        assert set(response["headers"]) <= {name.title() for name in answer.headers} | {
            "WWW-Authenticate",
        }, place


@pytest.fixture
def description(client):
    answer = client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return Description(answer.json())


@pytest.fixture
def predicting(client, service):
    """A shop with a second version and a model that predicts."""
    folder = service.settings.models / "shop/predictor"
    LogisticRegression(epochs=1).fit(SHOP).save(folder, overwrite=True)
    client.ask("/v1/models", folder="two")
    client.ask("/v1/models", folder="predictor")
    client.ask("/v1/models/switch", version=1)
    return client


def own_link(client, user="own"):
    """A link to the page of somebody with an event."""
    client.ask("/v1/events", events=[{**EVENT, "event_id": "own", "user_id": user}])
    return client.ask(f"/v1/users/{user}/links")["link"]


def test_every_answer_is_as_described(predicting, description):
    """A new route needs questions here, and a description of its answers."""
    assert {*QUESTIONS, *OWN} == set(description.operations)
    person = Client(predicting.app, own_link(predicting))
    for asker, asked in ((person, OWN), (predicting, QUESTIONS)):
        for (method, path), questions in asked.items():
            for address, body, status in questions:
                answer = asker.request(method, address, json=body)
                assert answer.status_code == status, (method, address, body, answer.text)
                description.check((method, path), answer)
                if method == "get" and status == 200:
                    head = asker.head(address)
                    assert head.status_code == 200 and not head.content
                    assert head.headers["content-type"] == answer.headers["content-type"]
    receipt = predicting.request("delete", f"/v1/users/{USER}/data").json()
    answer = predicting.get(f"/v1/receipts/{receipt['receipt_id']}")
    description.check(("get", "/v1/receipts/{receipt_id}"), answer)


def test_every_route_refuses_strangers_small_roles_and_bad_bodies_as_described(
    client, service, description
):
    serving = key(service, "serve")
    person = Client(client.app, own_link(client))
    for (method, path), questions in {**QUESTIONS, **OWN}.items():
        operation, address = (method, path), questions[0][0]
        is_own = operation in OWN
        asker = person if is_own else client
        is_public = path in PUBLIC
        if not is_public:
            answer = client.request(method, address, headers={"authorization": ""})
            assert answer.status_code == 401
            description.check(operation, answer)
        if f"role `{'serve'}`" not in description.operations[operation]["description"]:
            answer = client.request(method, address, headers={"authorization": f"Bearer {serving}"})
            refused = 401 if is_own else 403
            assert answer.status_code == (200 if is_public else refused), operation
            description.check(operation, answer)
        answer = asker.request(method, address, content=b"x" * 200_001)
        assert answer.status_code == 413
        description.check(operation, answer)
        if "requestBody" in description.operations[operation]:
            for content in (b"{", b'{"no_such_field": 1}', b"\xff", b"[]", b"null" * 9):
                answer = asker.request(method, address, content=content, headers=JSON)
                assert answer.status_code in (400, 422)
                description.check(operation, answer)


def test_addresses_answer_the_methods_that_are_described(client, description):
    person = Client(client.app, own_link(client))
    for path in description.document["paths"]:
        asker = person if path.startswith("/v1/me") else client
        methods = {method.upper() for way, method in _ways(description) if way == path}
        address = (
            path.replace("{item_id}", "pot")
            .replace("{version}", "1")
            .replace("{", "")
            .replace("}", "")
        )
        allowed = methods | ({"HEAD"} if "GET" in methods else set())
        answer = asker.options(address)
        assert answer.status_code == 204 and not answer.content
        assert set(answer.headers["allow"].split(", ")) == allowed
        answer = asker.request("PATCH", address)
        assert answer.status_code == 405 and answer.headers["content-type"] == PROBLEM
        assert set(answer.headers["allow"].split(", ")) == allowed


def _ways(description):
    return [(path, method) for method, path in description.operations]


def test_an_outage_is_answered_as_described(client, service, description, monkeypatch):
    take_away(service, monkeypatch)
    for operation in (("get", "/ready"), ("get", "/v1/keys"), ("get", "/v1/items/{item_id}")):
        answer = client.get(QUESTIONS[operation][0][0])
        assert answer.status_code == 503
        description.check(operation, answer)


def test_too_many_requests_are_answered_as_described(service, description):
    service.settings = service.settings.__class__(service.settings.models, rate=0.001, burst=1)
    slow = Client(make_app(service), key(service, "admin", "rival"))
    slow.get("/v1/keys")
    answer = slow.get("/v1/keys")
    assert answer.status_code == 429
    description.check(("get", "/v1/keys"), answer)


def test_every_route_that_needs_a_key_says_so(description):
    document = description.document
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for (method, path), operation in description.operations.items():
        is_public = path in PUBLIC
        scheme = "link" if (method, path) in OWN else "key"
        assert operation.get("security") == (None if is_public else [{scheme: []}]), path
        needs = "It needs the link" if scheme == "link" else "It needs a key of the role `"
        assert is_public or needs in operation["description"]
        assert operation["summary"], (method, path)


def test_every_field_is_described_and_the_usual_routes_have_examples(description):
    components = description.document["components"]["schemas"]
    bare = [
        f"{name}.{field}"
        for name, schema in components.items()
        for field, part in schema.get("properties", {}).items()
        if not part.get("description") and "$ref" not in part
    ]
    assert not bare
    assert "HTTPValidationError" not in components
    for name in ("Recommend", "Similar", "Search", "Predict", "Events", "Items", "Observations"):
        for example in components[name]["examples"]:
            description.validator(components[name]).validate(example)
            getattr(schemas, name).model_validate_json(json.dumps(example))


TEXTS = (
    *("", " ", "a", "é", ".", "..", "...", r"\N", " a", "a ", "\u00a0a", "a\u3000", "a b", "a\n"),
    *("\na", "a\tb", "\0", "a\0", "\x7f", "\x85", "\u2028", "a\u2029b", "\x1c", "\u2003", "\ufeff"),
    *("a/takedown", "a/takedowns", "/", "a/b", "NULL", "日本", "serve", "x" * 200, "x" * 201),
    *("x" * 256, "x" * 257, "x" * 1_000, "x" * 1_001, "x" * 10_001),
)
VALUES = (None, True, 0, 1, 2, 2.0, 200, 201, -1, 0.5, 1.5, 1_000, 1_001, 2**31 - 1, 2**31)
BIG = (2**63 - 1, 2**63, 1e19, -1e19, 1e300, 31_535_999_999, 31_536_000_000, 4_133_980_800_000)
DEEP = [[[[[1]]]]]
NESTED = ({}, {"a": 1}, {"a": 2**63}, {"a": 1e300}, {"a": DEEP}, {"a": [DEEP]}, {"a": {"": 1}})
LONG = ([], ["a"], ["a", ""], ["a"] * 1_000, ["a"] * 1_001, [DEEP], {})
BODIES = {
    "Recommend": {},
    "Predict": {"item_ids": ["a"]},
    "Similar": {"item_id": "a"},
    "Search": {"text": "a"},
    "Event": EVENT,
    "Item": {"item_id": "a"},
    "Takedown": {},
    "User": {},
    "Key": {"role": "read", "name": "a"},
    "Model": {"folder": "a"},
    "Version": {"version": 1},
    "Arm": {"version": 1},
    "Experiment": {"name": "a", "arms": [{"version": 1}, {"version": 2}]},
    "MemoryObservation": {},
    "Observations": {"observations": [{"text": "a"}]},
    "MemoryQuestion": {"query": "a"},
    "Correction": {"value": "a"},
    "MemoryQuery": {"query": "a"},
    "MemorySettings": {},
    "Rerank": {"query": "a", "documents": ["a"]},
}


@pytest.mark.parametrize("name", BODIES)
def test_the_description_allows_what_the_server_takes_and_nothing_else(name, description):
    schema = getattr(schemas, name)
    validator = description.validator({"$ref": f"#/components/schemas/{name}"})
    odd = [*TEXTS, *VALUES, *BIG, *NESTED, *LONG, *({text: 1} for text in TEXTS)]
    bodies = [
        *({**BODIES[name], field: value} for field in schema.model_fields for value in odd),
        {**BODIES[name], "user_id": "a", "history": ["b"]},
        {**BODIES[name], "user_id": None, "history": ["b"]},
        {**BODIES[name], "no_such_field": 1},
        *(
            {part: BODIES[name][part] for part in BODIES[name] if part != left}
            for left in BODIES[name]
        ),
    ]
    differing = [
        body for body in bodies if validator.is_valid(body) != _is_taken(schema, body, name)
    ]
    assert not differing, [str(body)[:200] for body in differing[:9]]


def _is_taken(schema, body, name):
    try:
        schema.model_validate_json(json.dumps(body))
    except ValidationError:
        return False
    # the route refuses both together, of the questions that have both
    both = "history" in schema.model_fields and "user_id" in schema.model_fields
    return not (both and body.get("user_id") is not None and body.get("history") is not None)

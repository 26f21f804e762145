"""Addresses: one id is one segment, no route's address is an id, and no sender names the host."""

import pytest

pytest.importorskip("fastapi")

from service.served_shop import SHOP, key

from tailor.service.app import make_app
from tailor.service.routing import BadAddressError, routed_path
from tailor.store.engine import writing

USER = SHOP.users.ids[0]


def stored(client, user):
    return client.get("/v1/users/" + user.replace("/", "%2F") + "/data").json()["stores"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/v1/users/42/data", 405),
        ("PUT", "/v1/users/42/data/", 404),
        ("PUT", "/v1/users/a/b", 404),
        ("PUT", "/v1/users//data", 404),
        ("DELETE", "/v1/users//data", 404),
        ("PUT", "/v1/users/42/", 404),
        ("DELETE", "/v1/items/pot/", 404),
        ("DELETE", "/v1/items//pot", 404),
        ("GET", "/v1/items/pot/takedown", 405),
        ("DELETE", "/v1/items/pot/takedown/x", 404),
        ("POST", "/v1/items/a/b/takedown", 404),
        ("DELETE", "/v1/keys/a/b", 404),
        ("GET", "/v1/experiments/a/b", 404),
        ("GET", "/v1/users/42", 405),
    ],
)
def test_an_address_of_another_route_or_none_is_no_id(client, method, path, status):
    client.ask("/v1/items", method="PUT", items=[{"item_id": "pot"}])
    answer = client.request(method, path, json=None if method in ("GET", "DELETE") else {})
    assert answer.status_code == status, answer.text
    for user in ("42/data", "42/", "42/data/", "a/b", "42", "data", "/data"):
        assert not any(stored(client, user).values()), user
    assert client.get("/v1/items/pot").json()["blocked"] is None


@pytest.mark.parametrize("user", ["42/data", "a/b", "/", "a//b", "data", "takedown", "a/", "a%2Fb"])
def test_ids_with_slashes_work_encoded(client, user):
    address = user.replace("%", "%25").replace("/", "%2f")
    client.ask(f"/v1/users/{address}", method="PUT", more={"country": "NO"})
    assert stored_people(client, address)["country"] == "NO"
    receipt = client.request("DELETE", f"/v1/users/{address}/data")
    assert receipt.status_code == 200, receipt.text
    assert not any(client.get(f"/v1/users/{address}/data").json()["stores"].values())


def stored_people(client, address):
    return client.get(f"/v1/users/{address}/data").json()["stores"]["people"][0]["more"]


@pytest.mark.parametrize(
    "raw", [b"/v1/users/%FF", b"/v1/users/a%C3", b"/v1/users/%c0%af", b"/v1/x?kind=%FF", b"/%1F"]
)
def test_bytes_that_are_no_text_are_refused_wherever_they_stand(raw):
    path, _, query = raw.partition(b"?")
    scope = {"path": path.decode().replace("%1F", "\x1f"), "raw_path": path, "query_string": query}
    with pytest.raises(BadAddressError):
        routed_path(scope)


def test_a_path_without_its_bytes_is_taken_as_it_is():
    assert routed_path({"path": "/v1/users/é", "query_string": b""}) == "/v1/users/é"


def test_a_query_that_is_no_utf_8_is_refused(client):
    for query in ("kind=%FF", "%C3=1"):
        assert client.post(f"/v1/models/rollback?{query}").status_code == 422
    assert client.request("DELETE", "/v1/keys?name=%FF").status_code == 422


@pytest.mark.parametrize("path", ["/v1/events/", "/health/", "/v1/keys/", "//health", "/v1/users/"])
def test_no_answer_is_a_redirect_to_the_host_that_the_sender_names(client, path):
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = client.request(
            method, path, headers={"host": "evil.example"}, follow_redirects=False
        )
        assert answer.status_code in (404, 405, 422), (method, path)
        assert "evil" not in answer.text and "location" not in answer.headers


NAMES = {
    "user_id": "u",
    "item_id": "i",
    "name": "n",
    "receipt_id": "r",
    "proposition_id": "p",
    "entry_id": "e",
    "event_id": "v",
    "refit_id": "f",
    "version": 1,
}


def every_path(app):
    paths = {}
    for route in app.routes:
        path = getattr(route, "path_format", route.path)
        path = path.format_map(NAMES)
        if path.startswith("/v1/me"):  # takes links of people, no keys
            continue
        paths.setdefault(path, set()).update(route.methods)
    return paths


def test_every_address_answers_head_options_and_unknown_methods(client):
    paths = every_path(client.app)
    assert len(paths) > 20
    for path, methods in paths.items():
        allowed = methods | ({"HEAD"} if "GET" in methods else set())
        head = client.head(path)
        assert (head.status_code == 405) == ("GET" not in methods), path
        assert not head.content
        options = client.options(path)
        assert options.status_code == 204 and not options.content, path
        for answer in (options, client.request("PROPFIND", path), client.request("PATCH", path)):
            assert set(answer.headers["allow"].split(", ")) == allowed, path
    assert client.options("/nowhere").status_code == 404
    assert "%2F" in client.get("/v1/items/a/b").json()["detail"]


def test_a_head_answer_has_the_length_of_the_get_answer(client):
    for path in ("/health", "/openapi.json", "/v1/models", "/v1/keys"):
        head, got = client.head(path), client.get(path)
        assert head.status_code == got.status_code == 200 and head.content == b""
        assert head.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize("address", ["%2E", "%2E%2E", "a%2Fb", "%2F", "a%252Fb", "%C3%A9"])
def test_a_key_of_any_name_is_revoked_by_its_address(service, client, address):
    from urllib.parse import unquote

    from tailor.store import keys

    key(service, "read")
    with writing(service.engine) as connection:
        connection.execute(
            keys.keys.update()
            .where(keys.keys.c.name == "read of shop")
            .values(name=unquote(address))
        )
    run = in_scope(client.app, f"/v1/keys/{address}", client.headers["authorization"])
    assert client.portal.call(run) == 200


def in_scope(app, raw_path, authorization):
    """A DELETE by bytes: test clients change addresses with dots."""
    from urllib.parse import unquote

    async def run():
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "DELETE",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode(),
            "query_string": b"",
            "headers": [(b"authorization", authorization.encode())],
        }
        await app(scope, receive, send)
        return sent[0]["status"]

    return run


def test_the_routes_are_described_with_plain_names(service):
    described = make_app(service).openapi()["paths"]
    assert "/v1/users/{user_id}/data" in described and not [p for p in described if ":" in p]
    service.stop()


def test_an_error_of_the_address_is_not_called_one_of_the_body(client):
    problem = client.post("/v1/models/rollback?kind=else")
    assert problem.status_code == 422 and "kind" in problem.json()["detail"]
    assert "JSON" in client.post("/v1/search", content=b"{}").json()["detail"]

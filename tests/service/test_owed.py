"""What the service must hold where callers hang up, models answer nonsense, and two requests meet."""

import logging

import numpy as np
import pytest

pytest.importorskip("fastapi")

from service.served_shop import SHOP, until

from tailor.data.nouns import Ranking

USER = SHOP.users.ids[0]


def test_an_item_written_while_a_filter_is_worked_out_is_filtered_too(client, service, monkeypatch):
    from tailor.service import catalogue as shelf_module

    shelf, holds = service.catalogue("shop"), shelf_module.Condition.holds

    def slowly(self, frame):
        found = holds(self, frame)
        if "dear" not in shelf.rows:
            client.ask(
                "/v1/items",
                method="PUT",
                items=[{"item_id": "dear", "title": "Zanzibar", "price": 1e6}],
            )
            service.catalogue("shop")  # another request of this worker reads it meanwhile
        return found

    monkeypatch.setattr(shelf_module.Condition, "holds", slowly)
    client.ask("/v1/search", text="zanzibar", filter="price <= 50")
    assert client.ask("/v1/search", text="zanzibar", filter="price <= 50")["items"] == []


def test_reasons_do_not_name_what_was_taken_down(client):
    had = client.ask("/v1/recommendations", user_id=USER, k=5, explain=True)["items"][0]["reasons"][
        0
    ]["id"]
    client.ask(f"/v1/items/{had}/takedown")
    assert (
        had
        not in client.post(
            "/v1/recommendations", json={"user_id": USER, "k": 5, "explain": True}
        ).text
    )


@pytest.mark.parametrize("path", ["/v1/events", "/v1/recommendations"])
def test_who_hangs_up_in_the_middle_of_a_body_breaks_nothing(client, caplog, path):
    sent = [
        {"type": "http.request", "body": b'{"user', "more_body": True},
        {"type": "http.disconnect"},
    ]
    headers = [
        (b"content-type", b"application/json"),
        (b"authorization", client.headers["authorization"].encode()),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }

    async def receive():
        return sent.pop(0) if len(sent) > 1 else sent[0]

    async def send(_):
        pass

    with caplog.at_level(logging.INFO, logger="tailor"):
        client.portal.call(client.app, scope, receive, send)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.status for record in caplog.records if record.name == "tailor.access"] != [500]


def test_a_list_that_cannot_be_logged_does_not_end_the_log(client, service, monkeypatch):
    """A model that answers what is no number: SQLite and PostgreSQL refuse such a score, or keep
    it; what is answered afterwards is logged all the same.
    """
    model = service.model_registry.model("shop").model
    with monkeypatch.context() as patch:
        patch.setattr(
            model,
            "recommend",
            lambda queries, k: [Ranking((SHOP.catalogue.ids[0],), [np.nan]) for _ in queries],
            raising=False,
        )
        client.post(
            "/v1/recommendations",
            json={"user_id": USER, "keep_seen": True, "request_id": "no number"},
        )
        until(lambda: not service.list_log._waiting)
    client.ask("/v1/recommendations", user_id=USER, request_id="sound")
    until(lambda: "sound" in client.get(f"/v1/users/{USER}/data").text)


def test_items_written_again_and_again_take_no_more_memory(client, service):
    """Prices change every hour and texts every week: what an item was once called must not stay for
    as long as the server runs.
    """
    client.ask(
        "/v1/items",
        method="PUT",
        items=[{"item_id": f"w{i}", "title": f"wok {i}"} for i in range(40)],
    )
    for price in range(5):
        client.ask(
            "/v1/items",
            method="PUT",
            items=[{"item_id": f"w{i}", "title": f"wok {i}", "price": price} for i in range(40)],
        )
        service.catalogue("shop").index()
    live = len(service.catalogue("shop").rows)
    assert len(service.catalogue("shop")._search) == live
    for turn in range(20):
        client.ask(
            "/v1/items",
            method="PUT",
            items=[{"item_id": f"w{i}", "title": f"wok {i} turn{turn}"} for i in range(40)],
        )
        service.catalogue("shop").index()
    assert len(service.catalogue("shop")._search) <= live * 4 / 3
    assert (
        client.ask("/v1/search", text="turn19", k=100)["items"]
        and not client.ask("/v1/search", text="turn18", k=100)["items"]
    )


def test_the_reason_of_a_takedown_is_kept_until_it_is_undone(client):
    """Whoever must answer for a takedown asks later why it was done: a reason that is asked for
    must not be dropped.
    """
    client.ask("/v1/items", method="PUT", items=[{"item_id": "w", "title": "wok"}])
    client.ask("/v1/items/w/takedown", reason="handle comes off: recall 17")
    client.ask("/v1/items", method="PUT", items=[{"item_id": "w", "title": "better wok"}])
    assert client.get("/v1/items/w").json()["reason"] == "handle comes off: recall 17"
    client.ask("/v1/items/w", method="DELETE")
    assert client.get("/v1/items/w").json()["reason"] == "handle comes off: recall 17"
    client.ask("/v1/items/w/takedown", method="DELETE")
    assert client.get("/v1/items/w").json()["reason"] is None


def test_an_item_taken_down_and_restored_is_found_again(client):
    client.ask("/v1/items", method="PUT", items=[{"item_id": "w", "title": "wok"}])
    for _ in range(3):
        client.ask("/v1/items/w/takedown")
        assert client.ask("/v1/search", text="wok")["items"] == []
        client.ask("/v1/items/w/takedown", method="DELETE")
        assert [one["item_id"] for one in client.ask("/v1/search", text="wok")["items"]] == ["w"]


@pytest.mark.parametrize("seed", range(5))
def test_filters_follow_changed_items_as_if_all_were_read_anew(seed):
    """Columns come and go, and what one item says by a word another says by a number."""
    from tailor.errors import DataError
    from tailor.service.catalogue import Catalogue

    rng, shelf, rows = np.random.default_rng(seed), Catalogue("shop"), {}
    odd = [1, 2, 7, 2.5, "many", None, True, ["a", "b"], [1, None], [None, {}], [[]], {}, [2.5]]
    conditions = [
        "price <= 50",
        "stock > 1",
        "stock = 'many'",
        "stock has 'a'",
        "stock has 1",
        "categories has 'cup'",
        "stock is missing",
        "title contains 'a' or price > 90",
        "late",
    ]

    def outside(one, condition):
        try:
            return set(one.excluded_by(condition).ids)
        except DataError as error:
            return str(error)

    def put(one, some):
        one._take_in(list(some.values()))

    for _ in range(25):
        some = {}
        for i in rng.integers(0, 30, rng.integers(1, 4)):
            stock = odd[rng.integers(3 if rng.random() < 0.8 else len(odd))]
            more = (
                {}
                if rng.random() < 0.2
                else {"stock": stock}
                | ({"late": bool(rng.integers(2))} if rng.random() < 0.1 else {})
            )
            some[f"i{i}"] = {
                "item_id": f"i{i}",
                "title": "abcdef"[rng.integers(6)],
                "text": None,
                "categories": [["cup"], None, []][rng.integers(3)],
                "price": float(rng.integers(100)),
                "more": more,
                "blocked": None,
                "changed": 1,
            }
        put(shelf, some)
        rows |= some
        anew = Catalogue("shop")
        put(anew, rows)
        for condition in rng.permutation(conditions)[:4].tolist():
            assert outside(shelf, condition) == outside(anew, condition), condition


def test_a_list_that_the_model_fell_back_to_says_so(client, models):
    """Items that nobody chose are like nothing to a model of choices: the popular list that comes
    instead must not look like an answer.
    """
    from tailor.data.splits import last_out
    from tailor.pipeline.fallback import Fallback
    from tailor.retrieval.covisitation import CoVisitation
    from tailor.retrieval.popularity import Popularity

    Fallback([CoVisitation(), Popularity()]).fit(last_out(SHOP).train).save(
        models["one"].parent / "falls-back", overwrite=True
    )
    client.ask("/v1/models", folder="falls-back")
    client.ask("/v1/items", method="PUT", items=[{"item_id": "fresh", "title": "wok"}])
    for path, body in (
        ("similar", {"item_id": "fresh"}),
        ("recommendations", {"history": ["fresh"]}),
    ):
        answer = client.ask(f"/v1/{path}", k=3, **body)
        assert len(answer["items"]) == 3 and any(
            "falls back to" in note for note in answer["notes"]
        )
    for path, body in (
        ("similar", {"item_id": SHOP.catalogue.ids[0]}),
        ("recommendations", {"user_id": USER}),
    ):
        assert not any(
            "falls back" in note for note in client.ask(f"/v1/{path}", k=3, **body)["notes"]
        )


@pytest.mark.parametrize(
    ("condition", "named", "times"), [("pric <= 50", "price", 0), ("price = 'a'", "number", 1)]
)
def test_a_filter_that_does_not_fit_costs_no_more_than_one_that_does(
    client, monkeypatch, condition, named, times
):
    """Who misspells a column asks again and again; the items must not be read anew for each."""
    from tailor.service import item_table

    made, frame = [], item_table.item_frame
    monkeypatch.setattr(
        item_table, "item_frame", lambda rows, *more: made.append(len(rows)) or frame(rows, *more)
    )
    for _ in range(5):
        answer = client.ask("/v1/recommendations", 409, user_id=USER, filter=condition)
        assert named in answer["detail"]
    assert len(made) == times

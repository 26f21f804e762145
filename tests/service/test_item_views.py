"""Items over HTTP: lists of stored ones, and how often one was shown and chosen."""

import pytest
from service.served_shop import SHOP, Client, key

from tailor.service.app import make_app
from tailor.store import exposure
from tailor.store.engine import now_ms, writing
from tailor.store.impressions import ServedList, write_lists

USER = SHOP.users.ids[0]
ITEM = SHOP.catalogue.ids[0]
DAY_MS = 86_400_000


def get(client, path, **parameters):
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def put(client, *items):
    client.ask("/v1/items", method="PUT", items=list(items))


def test_items_are_listed_in_pages(client):
    seen, after = [], None
    while True:
        page = get(client, "/v1/items", k=7, **({} if after is None else {"after": after}))
        seen += [item["item_id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == sorted(SHOP.catalogue.ids)


def test_an_item_is_found_by_the_beginning_of_its_id_and_by_its_words(client):
    put(client, {"item_id": "zanz/1", "title": "A pot"}, {"item_id": "pot", "title": "Zanz kettle"})
    found = get(client, "/v1/items", query=" zanz ")["items"]
    assert [item["item_id"] for item in found] == ["zanz/1", "pot"]
    assert found[1]["title"] == "Zanz kettle" and "changed" not in found[0]
    assert get(client, "/v1/items", query="nothing has this word")["items"] == []


def test_blocked_items_are_listed_with_the_reason(client):
    put(client, {"item_id": "a", "title": "A"}, {"item_id": "b", "title": "B"})
    client.ask("/v1/items/b/takedown", reason="<i>recalled</i>")
    client.ask("/v1/items/a", method="DELETE")
    rows = get(client, "/v1/items", blocked=True)["items"]
    assert [(row["item_id"], row["blocked"], row["reason"]) for row in rows] == [
        ("a", "deleted", None),
        ("b", "taken down", "<i>recalled</i>"),
    ]
    assert get(client, "/v1/items", blocked=True, query="b")["items"] == rows[1:]
    free = get(client, "/v1/items", blocked=False, k=200)["items"]
    assert {row["item_id"] for row in free} == set(SHOP.catalogue.ids)


@pytest.mark.parametrize("role", ["serve", "read"])
def test_items_need_the_role_read(service, role):
    with Client(make_app(service), key(service, role)) as asking:
        expected = 200 if role == "read" else 403
        for path in ("/v1/items", f"/v1/items/{ITEM}", f"/v1/items/{ITEM}/exposure"):
            assert asking.get(path).status_code == expected, path


def shown(request_id, time_ms, *item_ids):
    content = tuple((item_id, 1.0, 1.0) for item_id in item_ids)
    return ServedList("shop", request_id, None, time_ms, "search", None, "m@1", content)


def test_exposure_counts_by_day(client, service):
    today_ms = now_ms() // DAY_MS * DAY_MS
    lists = [
        shown("1", today_ms, "pot", "mug"),
        shown("2", today_ms + 1, "a", "b", "pot"),
        shown("3", today_ms - 1, "a", "pot"),
        shown("4", today_ms - 40 * DAY_MS, "pot"),
    ]
    with writing(service.engine) as connection:
        write_lists(connection, lists)
    events = [
        {"event_id": "x", "user_id": "ann", "item_id": "pot", "time_ms": today_ms},
        {"event_id": "y", "user_id": "ann", "item_id": "pot", "request_id": "1"},
        {"event_id": "z", "user_id": "ann", "item_id": "mug", "time_ms": today_ms},
    ]
    client.ask("/v1/events", events=events)
    answer = get(client, "/v1/items/pot/exposure", days=7)
    assert len(answer["days"]) == 7 and "notes" not in answer
    nothing = {"shown": 0, "mean_position": None, "events": 0, "chosen": 0}
    assert answer["days"][0] == {"day_ms": today_ms - 6 * DAY_MS, **nothing}
    assert answer["days"][-2] == {
        **nothing,
        "day_ms": today_ms - DAY_MS,
        "shown": 1,
        "mean_position": 2.0,
    }
    assert answer["days"][-1] == {
        "day_ms": today_ms,
        "shown": 2,
        "mean_position": 2.0,
        "events": 2,
        "chosen": 1,
    }


def test_exposure_counts_a_bounded_number_of_lists(client, service, monkeypatch):
    monkeypatch.setattr(exposure, "MOST_SHOWN", 2)
    with writing(service.engine) as connection:
        write_lists(connection, [shown(f"{i}", now_ms(), "pot") for i in range(5)])
    answer = get(client, "/v1/items/pot/exposure", days=1)
    assert answer["days"][0]["shown"] == 2 and "latest" in answer["notes"][0]


def test_a_semantic_id_is_shown_where_the_model_has_one(client, service, monkeypatch):
    assert "semantic_id" not in get(client, f"/v1/items/{ITEM}")
    model = service.model_registry.loaded("shop").model
    monkeypatch.setattr(type(model), "code_of", lambda self, item_id: (3, 1, 4), raising=False)
    assert get(client, f"/v1/items/{ITEM}")["semantic_id"] == [3, 1, 4]

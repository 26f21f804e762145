"""The pages of items: search, exposure, neighbours, takedown and restore."""

from urllib.parse import quote

import pytest

pytest.importorskip("nicegui")

from tailor.console.addresses import item_path
from tailor.console.pages.items import exposure_text, fields_of, state_of

STORED = {
    "item_id": "mug",
    "title": "Mug",
    "text": None,
    "categories": ["cups", 3],
    "price": 9.5,
    "more": {"colour": "green", "sizes": [1, 2]},
    "blocked": None,
    "reason": None,
}


def test_a_state_says_why():
    assert state_of(STORED) == "may be shown"
    assert state_of({**STORED, "blocked": "deleted"}) == "deleted"
    assert state_of({**STORED, "blocked": "taken down", "reason": "broken"}) == "taken down: broken"
    assert state_of({"item_id": "a", "title": None}) == "may be shown"


def test_what_is_stored_is_listed_by_name_without_what_is_empty():
    assert fields_of(STORED) == [
        ("Id", "mug"),
        ("State", "may be shown"),
        ("Categories", "cups, 3"),
        ("Price", "9.5"),
        ("colour", "green"),
        ("sizes", "[1, 2]"),
    ]
    assert ("Semantic id", "3 → 1") in fields_of({**STORED, "semantic_id": [3, 1]})


def test_an_exposure_is_summed_with_the_mean_place_over_lists():
    days = [
        {"shown": 3, "mean_position": 2.0, "events": 5, "chosen": 1},
        {"shown": 1, "mean_position": 6.0, "events": 0, "chosen": 0},
        {"shown": 0, "mean_position": None, "events": 1, "chosen": 1},
    ]
    assert exposure_text(days) == (
        "Shown in 4 lists, chosen from 2; 6 events in all. Mean place 3.0."
    )
    assert exposure_text(days[2:]) == "Shown in 0 lists, chosen from 1; 1 events in all."


def test_an_id_is_one_part_of_the_address():
    assert item_path("a/b") == "/items/a%2Fb"


@pytest.mark.slow
def test_a_takedown_changes_the_next_recommendation_and_a_restore_undoes_it(visitor):
    served = visitor.served
    with served.client() as client:
        item = client.recommend(served.users[0])["items"][0]
    page = visitor.open("/items")
    page.get_by_label("Words, or the beginning of an id").fill(item["item_id"])
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("button", name=item["title"], exact=True).click()
    page.get_by_role("heading", name="Neighbours").wait_for()
    page.get_by_label("Reason of a takedown").fill("<b>recalled</b>")
    page.get_by_role("button", name="Take down").click()
    page.get_by_text("taken down: <b>recalled</b>").wait_for()
    with served.client() as client:
        listed = {row["item_id"] for row in client.recommend(served.users[0], k=50)["items"]}
        assert item["item_id"] not in listed
        blocked = client.items(blocked=True)["items"]
        assert item["item_id"] in {row["item_id"] for row in blocked}
    page.get_by_role("button", name="Restore").click()
    page.get_by_text("may be shown").wait_for()
    with served.client() as client:
        assert client.recommend(served.users[0])["items"][0]["item_id"] == item["item_id"]


@pytest.mark.slow
def test_items_are_searched_as_visitors_do_and_paged(visitor, faults):
    page = visitor.open("/items")
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("button", name="Back", exact=True).wait_for()
    with visitor.served.client() as client:
        title = client.items(k=1)["items"][0]["title"]
    page.get_by_label("Words, or the beginning of an id").fill(title)
    page.get_by_text("As visitors search").click()
    page.get_by_role("button", name=title, exact=True).wait_for()
    assert page.get_by_role("button", name="Next", exact=True).count() == 0
    page.get_by_label("Words, or the beginning of an id").fill("zzzqqq")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_text('No item has "zzzqqq"').wait_for()
    assert faults(page) == []


@pytest.mark.slow
def test_an_item_shows_its_exposure_and_needs_an_admin_for_a_takedown(visitor):
    served = visitor.served
    with served.client() as client:
        item_id = client.recommend(served.users[0])["items"][0]["item_id"]
    page = visitor.open("/items/" + quote(item_id, safe=""), role="read")
    page.get_by_text("Shown in").wait_for()
    assert page.get_by_role("img", name="Per day").count() == 1
    assert page.get_by_role("button", name="Take down").count() == 0
    visitor.go(page, "/items/no-such/item")
    page.get_by_text("no-such/item is not stored").wait_for()

"""The pages of people: search, history, what if, reasons, memory, and a person's rights."""

import json
import time
from urllib.parse import quote

import pytest

pytest.importorskip("nicegui")

from tailor.console.addresses import person_path
from tailor.console.pages.beliefs import fact_note, ordered
from tailor.console.pages.people import receipt_lines, with_reasons
from tailor.console.pages.timeline import event_note, without_event
from tailor.console.side_by_side import moves

HOSTILE = "<script>window.pwned = 1</script><b class='pwned'>ann</b> {{ 7 * 7 }}"
ODD_ID = "ann/o'neill <b class='pwned'>?#%"

INJECTED = "[window.pwned, document.querySelectorAll('.pwned').length]"


def listed(*item_ids):
    return [{"item_id": item_id, "title": f"The {item_id}", "score": 1.0} for item_id in item_ids]


def test_moves_name_each_item_once_with_both_places():
    found = moves(listed("a", "b", "c", "d"), listed("b", "x", "c"))
    assert [(move.item_id, move.text) for move in found] == [
        ("b", "up from 2 to 1"),
        ("x", "new at 2"),
        ("c", "stays at 3"),
        ("a", "gone from 1"),
        ("d", "gone from 4"),
    ]
    assert moves(listed("a", "b"), listed("b", "a"))[1].text == "down from 1 to 2"
    assert found[0].title == "The b"


def test_a_history_without_an_event_keeps_the_others_of_that_item():
    newest_first = ["c", "b", "a", "b"]
    assert without_event(newest_first, 1) == ["b", "a", "c"]
    assert without_event(["a"], 0) == []


def test_reasons_name_titles_and_leave_out_what_weighs_nothing():
    reasons = [
        {"kind": "item", "id": "tea", "share": 0.5},
        {"kind": "item", "id": "unknown", "share": 0.3},
        {"kind": "popularity", "id": "mug", "share": 0.15},
        {"kind": "word", "id": "green", "share": 0.04},
        {"kind": "word", "id": "x", "share": 0.001},
    ]
    [item] = with_reasons([{"item_id": "mug", "reasons": reasons}], {"tea": "Green tea"})
    assert item["reasons"] == [
        "50% because of Green tea",
        "30% because of unknown",
        "15% by popularity",
    ]
    assert with_reasons([{"item_id": "mug"}], {})[0]["reasons"] == []


def test_an_id_with_a_slash_is_one_part_of_the_address():
    assert person_path("a/b ?") == "/people/a%2Fb%20%3F"


def test_an_event_says_when_and_what():
    event = {"item_id": "mug", "title": "Mug", "time_ms": 0, "action": None, "value": 4.5}
    assert event_note({**event, "request_id": "r"}) == (
        "1970-01-01 00:00 · an event · value 4.5 · mug · chosen from a list"
    )


def test_a_receipt_is_told_in_sentences():
    receipt = {
        "receipt_id": "r1",
        "time_ms": 0,
        "rows": {"events": 3, "people": 0},
        "scan": "done",
        "scanned": {"events": 0},
    }
    assert receipt_lines(receipt)[1:] == [
        "Erased: 3 events.",
        "A scan found nothing that is left.",
    ]
    left = receipt_lines({**receipt, "scanned": {"events": 2}})
    assert "still found the id in: 2 events" in left[-1]
    assert "takes a while" in receipt_lines({**receipt, "scan": "running"})[-1]
    assert "broken off" in receipt_lines({**receipt, "scan": "broken off"})[-1]


def test_what_holds_comes_before_what_is_over():
    facts = [
        {"status": "rejected", "confidence": 0.9, "text": "a"},
        {"status": "active", "confidence": 0.6, "text": "b"},
        {"status": "confirmed", "confidence": 0.95, "text": "c"},
    ]
    assert [fact["text"] for fact in ordered(facts)] == ["c", "b", "a"]
    note = fact_note({**facts[2], "valid_from_ms": 0, "scope": "at work"})
    assert note == "confirmed by the person · 95% sure · since 1970-01-01 00:00 · at work"


def send(client, user_id, count, item_ids, **more):
    now_ms = int(time.time() * 1000)
    events = [
        {
            "event_id": f"{user_id} {i}",
            "user_id": user_id,
            "item_id": item_ids[i % len(item_ids)],
            "time_ms": now_ms - i * 60_000,
            **more,
        }
        for i in range(count)
    ]
    client.send_events(events)


@pytest.mark.slow
def test_a_person_is_found_by_a_part_of_the_id_and_opened(visitor, faults):
    with visitor.served.client() as client:
        send(client, "searched-for/7", 3, visitor.served.items)
    page = visitor.open("/people")
    page.get_by_text("Lately active").wait_for()
    page.get_by_label("A part of the id").fill("ARCHED-FOR")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("button", name="searched-for/7").click()
    page.get_by_role("heading", name="History").wait_for()
    assert page.get_by_test_id("person").inner_text() == "searched-for/7"
    reasons = page.locator(".tailor-reason").all_inner_texts()
    assert reasons and all("% b" in reason for reason in reasons)  # because of, by
    visitor.go(page, "/people")
    page.get_by_label("A part of the id").fill("nobody has this")
    page.get_by_label("A part of the id").press("Enter")
    page.get_by_text('No id has "nobody has this"').wait_for()
    assert faults(page) == []


@pytest.mark.slow
def test_without_the_role_admin_an_exact_id_is_opened(visitor):
    page = visitor.open("/people", role="read")
    assert page.get_by_role("link", name="Audit").count() == 0
    page.get_by_label("Id of the person").fill(visitor.served.users[0])
    page.get_by_role("button", name="Open").click()
    page.get_by_role("heading", name="History").wait_for()
    assert page.get_by_role("heading", name="This person's rights").count() == 0
    assert page.get_by_role("button", name="Erase").count() == 0


@pytest.mark.slow
def test_a_key_that_only_serves_sees_no_person(visitor):
    page = visitor.open("/people/" + visitor.served.users[0], role="serve")
    page.get_by_text('This page needs a key with the role "read"').wait_for()
    assert page.get_by_role("navigation").get_by_role("link").count() == 0


@pytest.mark.slow
def test_a_long_history_is_paged(visitor):
    with visitor.served.client() as client:
        send(client, "busy", 120, visitor.served.items, action="view")
    page = visitor.open("/people/busy")
    page.get_by_text("Events 1 to 25, the newest first").wait_for()
    for first in (26, 51, 76, 101):
        page.get_by_role("button", name="Older").click()
        page.get_by_text(f"Events {first} to").wait_for()
    assert page.get_by_role("button", name="Older").is_disabled()
    page.get_by_role("button", name="Newer").click()
    page.get_by_text("Events 76 to 100").wait_for()


@pytest.mark.slow
def test_what_if_an_event_had_not_happened(visitor, faults):
    with visitor.served.client() as client:
        send(client, "what-if", 3, visitor.served.items)
    page = visitor.open("/people/what-if")
    page.get_by_role("button", name="What if not:").first.click()
    page.get_by_role("heading", name="What moved").wait_for()
    for name in ("With it", "Without it"):
        assert page.get_by_role("heading", name=name, exact=True).count() == 1
    text = page.locator(".tailor-content").inner_text()
    assert "gone from" in text or "Nothing: the event" in text
    assert faults(page) == []


@pytest.mark.slow
def test_markup_in_ids_titles_and_words_is_shown_as_text(visitor):
    with visitor.served.client() as client:
        client.put_items([{"item_id": HOSTILE, "title": HOSTILE, "text": HOSTILE}])
        send(client, ODD_ID, 2, [HOSTILE], action=HOSTILE[:60])
        client.memory(ODD_ID).observe(f"I live in {HOSTILE}. I like <i class='pwned'>tea</i>.")
    page = visitor.fresh()
    page.goto(f"{visitor.served.console}/people/{quote(ODD_ID, safe='')}")  # by the login
    page.get_by_label("Key", exact=True).fill(visitor.served.keys["admin"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="History").wait_for()
    assert page.get_by_test_id("person").inner_text() == ODD_ID
    assert HOSTILE in page.locator(".tailor-content").inner_text()
    page.get_by_role("button", name="What if not:").first.click()
    page.get_by_role("heading", name="What moved").wait_for()
    assert page.evaluate(INJECTED) == [None, 0]
    for path in ("/items/" + quote(HOSTILE, safe=""), "/items", "/people", "/audit"):
        visitor.go(page, path)
        assert page.evaluate(INJECTED) == [None, 0], path


@pytest.mark.slow
def test_a_proposition_is_shown_with_evidence_and_corrected(visitor):
    with visitor.served.client() as client:
        client.memory("moved").observe("I live in Oslo.")
    page = visitor.open("/people/moved", role="write")
    page.get_by_text("lives in Oslo", exact=True).wait_for()
    page.get_by_label("Evidence: lives in Oslo").click()
    page.get_by_text("I live in Oslo.").wait_for()
    page.get_by_role("button", name="Edit: lives in Oslo").click()
    page.get_by_label("lives in ...").fill("Bergen")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("lives in Bergen", exact=True).wait_for()
    with visitor.served.client() as client:
        states = {
            fact["object"]: fact["status"]
            for fact in client.memory("moved").timeline()["propositions"]
        }
    assert states == {"Oslo": "rejected", "Bergen": "confirmed"}


@pytest.mark.slow
def test_the_second_of_two_editors_is_told_and_loses_nothing(visitor):
    with visitor.served.client() as client:
        client.memory("edited").observe("I live in Oslo.")
    pages = [visitor.open("/people/edited") for _ in range(2)]
    for page, place in zip(pages, ("Bergen", "Narvik"), strict=True):
        page.get_by_role("button", name="Edit: lives in Oslo").click()
        page.get_by_label("lives in ...").fill(place)
    for page in pages:
        page.get_by_role("button", name="Save").click()
    first, second = pages
    first.get_by_text("lives in Bergen", exact=True).wait_for()
    second.get_by_text("Somebody else has changed this meanwhile").wait_for()
    assert second.get_by_label("lives in ...").input_value() == "Narvik"
    second.get_by_text("lives in Bergen", exact=True).wait_for()


@pytest.mark.slow
def test_a_person_is_exported_and_erased_with_a_receipt(visitor):
    from tailor.store.users import receipt_holds

    user_id = "leaving/now"
    with visitor.served.client() as client:
        send(client, user_id, 4, visitor.served.items)
    page = visitor.open("/people/" + quote(user_id, safe=""))
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    exported = json.loads(download.value.path().read_text())
    assert len(exported["stores"]["events"]) == 4
    page.get_by_role("button", name="Erase").click()
    confirm = page.get_by_role("dialog").get_by_role("button", name="Erase")
    assert confirm.is_disabled()
    page.get_by_label(f"Type {user_id} to go on").fill(user_id)
    confirm.click()
    page.get_by_role("heading", name="Erased").wait_for()
    page.get_by_text("A scan found nothing that is left.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the receipt").click()
    receipt = json.loads(download.value.path().read_text())
    assert receipt_holds(receipt, receipt["public_key"])
    with visitor.served.client() as client:
        assert client.history(user_id)["events"] == []
        assert client.looks(user_id)["looks"][0]["user_id"] is None


@pytest.mark.slow
def test_a_link_to_the_own_page_is_made_and_opens_it(visitor):
    user_id = visitor.served.users[3]
    page = visitor.open("/people/" + user_id)
    page.get_by_role("button", name="Link to own page").click()
    link = page.get_by_label("Link", exact=True).input_value()
    assert link.startswith(visitor.served.console + "/me")
    own = visitor.fresh()
    own.goto(link)
    own.wait_for_selector("[data-ready=true]")
    assert "expired" not in own.locator("body").inner_text()


@pytest.mark.slow
def test_looking_at_a_person_is_not_logged_as_shown(visitor):
    user_id = "unshown"
    with visitor.served.client() as client:
        send(client, user_id, 3, visitor.served.items)
    page = visitor.open("/people/" + user_id)
    page.get_by_role("button", name="What if not:").first.click()
    page.get_by_role("heading", name="What moved").wait_for()
    page.wait_for_timeout(500)  # lists are written four times a second
    with visitor.served.client() as client:
        assert client.export(user_id)["stores"]["requests"] == []

"""A person's own page: what it says, and that it does what it says in a browser."""

import json
import time

import pytest

pytest.importorskip("nicegui")

from tailor.console.pages import me

READY = "[data-ready=true]"
MARKUP = "<img src=x onerror=alert(1)><b>Tea</b>"


def reason(kind, name, title=None):
    return {"kind": kind, "id": name, "share": 1.0, "title": title}


@pytest.mark.parametrize(
    ("reasons", "text"),
    [
        ([], ""),
        ([reason("popularity", "i1")], "Because many people like it."),
        ([reason("item", "i1", "Tea")], "Because of Tea."),
        ([reason("item", "i1"), reason("word", "green")], "Because of i1; and word green."),
        ([reason("item", name, name) for name in "aabcd"], "Because of a; and b."),
        ([reason("item", "a", "A"), {**reason("item", "b", "B"), "share": 0.02}], "Because of A."),
    ],
)
def test_reasons_are_said_in_a_sentence(reasons, text):
    assert me.why({"item_id": "i", "reasons": reasons}) == text


def test_events_beliefs_and_attributes_are_said_in_words():
    event = {"action": "buy", "value": 2.0, "time_ms": 0, "item_id": "i1", "title": None}
    assert me.event_line(event) == "bought 2, 1970-01-01 00:00" and me.name_of(event) == "i1"
    assert me.event_line({**event, "action": None, "value": None}).startswith("seen, ")
    assert me.plain_value([1, "é"]) == '[1, "é"]' and me.joined([]) == ""
    fact = {"status": "active", "support": ["a"]}
    assert me.basis(fact) == "You said so once."
    assert "right" in me.basis({**fact, "status": "confirmed"})


def test_the_shop_has_its_name_where_one_is_set(monkeypatch):
    monkeypatch.delenv(me.SHOP, raising=False)
    assert me.shop_name() == "the shop"
    monkeypatch.setenv(me.SHOP, " Harbour Books ")
    assert me.shop_name() == "Harbour Books"


@pytest.fixture
def person(served):
    """A new person with ten events, one of an item whose title is markup."""
    user = f"me {time.monotonic_ns()}"
    with served.client() as client:
        client.put_items([{"item_id": "markup", "title": MARKUP}])
        items = ["markup", *served.items[:11]]
        client.send_events(
            [
                {"event_id": f"{user} {n}", "user_id": user, "item_id": i}
                for n, i in enumerate(items)
            ]
        )
        client.memory(user).observe("I live in Oslo.", "I really like green tea.")
        yield user
        client.erase(user)


def opened(visitor, user, **how):
    """Open the person's page by a new link."""
    with visitor.served.client() as client:
        path = client.link(user)["path"]
    page = visitor.fresh(**how)
    page.goto(visitor.served.console + path)
    page.wait_for_selector(READY)
    return page


def section(page, title):
    return page.locator(".tailor-card").filter(has=page.get_by_role("heading", name=title))


@pytest.mark.slow
def test_a_person_deletes_an_event_and_sees_it_gone(visitor, person, served):
    page = opened(visitor, person)
    assert "#" not in page.url and "tailorlink" not in page.url
    history = section(page, "What you did")
    history.get_by_role("button", name="Older").click()
    history.get_by_text(MARKUP, exact=True).wait_for()  # the first event is the last of all
    history.get_by_role("button", name=f"Delete {MARKUP}").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("Deleted. What learned from it").wait_for()
    history.get_by_text(MARKUP, exact=True).wait_for(state="detached")
    with served.client() as client:
        events = client.export(person)["stores"]["events"]
    assert len(events) == 11 and all(event["item_id"] != "markup" for event in events)
    page.reload()  # the link stays with the tab
    page.wait_for_selector(READY)
    history.get_by_role("button", name="Older").click()
    history.get_by_role("button", name="Newer").click()
    history.get_by_role("button", name="Older").wait_for()


@pytest.mark.slow
def test_a_person_pauses_and_corrects(visitor, person, served):
    page = opened(visitor, person)
    page.get_by_role("switch", name="Use what I did").click()
    facts = section(page, "What we believe about you")
    facts.get_by_role("button", name="Right: likes green tea").click()
    facts.get_by_text("You said that this is right").wait_for()
    facts.get_by_role("button", name="Change: lives in Oslo").click()
    page.get_by_label("What is right").fill("Bergen")
    page.get_by_role("button", name="Save").click()
    facts.get_by_text("You: lives in Bergen").wait_for()
    facts.get_by_text("Why?").first.click()
    facts.get_by_text("I really like green tea.").or_(facts.get_by_text("Bergen")).first.wait_for()
    page.get_by_role("switch", name="Remember what I say").click()
    with served.client() as client:
        until(lambda: client.memory(person).settings()["paused"])
        data = client.export(person)["stores"]
    assert data["memories"][0]["history_paused"]
    facts.get_by_role("button", name="Wrong: likes green tea").click()
    facts.get_by_text("likes green tea").wait_for(state="detached")


@pytest.mark.slow
def test_a_person_takes_the_data_along_and_is_erased_with_a_receipt(visitor, person, served):
    page = opened(visitor, person, width=390)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download my data").click()
    data = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert data["user_id"] == person and len(data["stores"]["events"]) == 12
    page.get_by_role("button", name="Erase my data").click()
    button = page.get_by_role("button", name="Erase everything")
    assert button.is_disabled()
    page.get_by_label("Type erase to go on").fill("erase")
    button.click()
    page.get_by_text("Number of the receipt").wait_for()
    with served.client() as client:
        assert client.export(person)["stores"]["events"] == []
    page.reload()
    page.get_by_text("This page opens with a personal link").wait_for()


@pytest.mark.slow
def test_a_wrong_link_says_so_and_what_to_do(visitor, person):
    for link in ("", "#tailorlink_forged", "#<b>", "#" + "x" * 5_000):
        page = visitor.fresh()
        page.goto(f"{visitor.served.console}/me{link}")
        page.wait_for_selector(READY)
        page.get_by_text("Ask the shop" if not link else "ask the shop for a new one").wait_for()
    page.goto(f"{visitor.served.console}/me#tailorlink_cut")
    page.get_by_text("This link does not work any more").wait_for()


@pytest.mark.slow
def test_who_is_erased_while_the_page_is_open_is_told(visitor, person, served):
    page = opened(visitor, person)
    with served.client() as client:
        client.erase(person)
    section(page, "What you did").get_by_role("button", name="Older").click()
    page.get_by_text("This link does not work any more").wait_for()


@pytest.mark.slow
def test_a_person_of_a_hundred_thousand_events_pages_through_them(visitor, served):
    user = "of many events"
    with served.client() as client:
        start_ms = 1_700_000_000_000
        for start in range(0, 100_000, 5_000):
            rows = [
                {
                    "event_id": f"m{n}",
                    "user_id": user,
                    "item_id": served.items[n % 50],
                    "time_ms": start_ms + n,
                }
                for n in range(start, start + 5_000)
            ]
            client._ask("POST", "/v1/events", {"events": rows})
        page = opened(visitor, user)
        section(page, "What you did").get_by_role("button", name="Older").click()
        section(page, "What you did").get_by_role("button", name="Newer").wait_for()
        client.erase(user)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_has_no_serious_fault_and_fits_its_width(visitor, person, faults, width, dark):
    page = opened(visitor, person, width=width, dark=dark)
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def until(holds, wait_s=10.0):
    end_s = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_evidence_is_said_with_its_time_and_an_edit_in_words():
    said = {"kind": "chat", "text": "I live in Oslo", "occurred_ms": 0}
    assert me.evidence_line(said) == "1970-01-01 00:00: I live in Oslo"
    edit = {"kind": "edit", "text": '{"act": "confirm"}', "occurred_ms": 0}
    assert me.evidence_line(edit) == "1970-01-01 00:00: You said so on this page."

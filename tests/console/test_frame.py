"""The frame of the console: login, navigation, roles, banner, and what every page keeps to."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("nicegui")

from tailor.console import frame, widgets
from tailor.console.app import local_path, login_problem
from tailor.console.session import IDLE_S, Login, Logins, Session
from tailor.errors import ServiceError


class NoClient:
    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def awaited(question):
    """Return what a coroutine returns; in a thread, since a browser may have this one's loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, question).result()


def a_login(role="read"):
    return Login(NoClient(), {"tenant": "default", "name": "me", "role": role})


def test_a_login_ends_with_its_key_after_idle_hours(monkeypatch):
    logins = Logins()
    login = a_login()
    logins.begin("browser", login)
    assert logins.get("browser") is login
    login.used_s -= IDLE_S + 1
    assert logins.get("browser") is None
    assert login.client.is_closed


def test_a_ticket_begins_one_login_under_a_new_name(monkeypatch):
    logins = Logins()
    login = a_login()
    ticket = logins.ticket(login)
    name = logins.redeem(ticket)
    assert name != ticket and logins.get(name) is login
    assert logins.redeem(ticket) is None and logins.redeem("") is None
    monkeypatch.setattr("tailor.console.session.TICKET_S", -1.0)
    late = a_login()
    assert logins.redeem(logins.ticket(late)) is None
    logins.ticket(a_login())
    assert logins.get(name) is login


def test_a_page_left_open_asks_nothing_once_its_login_has_ended():
    login = a_login()
    uploads = []
    login.endings.append(lambda: uploads.append("deleted"))
    session = Session("http://here", login)
    assert awaited(session.ask(lambda client: "answer")) == "answer"
    login.used_s -= IDLE_S + 1
    for _ in range(2):
        with pytest.raises(ServiceError, match="log in again"):
            awaited(session.ask(lambda client: "answer"))
    assert login.client.is_closed and uploads == ["deleted"]


def test_a_second_login_of_a_browser_closes_the_first():
    logins = Logins()
    first = a_login()
    logins.begin("browser", first)
    logins.begin("browser", a_login())
    assert first.client.is_closed


def test_the_way_after_login_stays_within_the_console():
    assert local_path("/people/ann") == "/people/ann"
    for path in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/logout",
        "/\t/evil.example",
        "",
    ):
        assert local_path(path) == "/"


def test_problems_of_a_login_say_what_to_do_and_never_hold_the_key():
    assert "running" in login_problem(ServiceError("x", 0), "http://here")
    assert "revoked" in login_problem(ServiceError("x", 401), "http://here")


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (61, "1 minute"), (7200, "2 hours")])
def test_spans_are_said_in_their_largest_unit(seconds, text):
    assert widgets.ago(seconds) == text


def test_numbers_are_short_and_absent_ones_a_dash():
    assert [widgets.number(x) for x in (None, 12345, 0.123456)] == ["–", "12,345", "0.1235"]
    assert widgets.interval(None, 1) == ""


def test_every_page_needs_a_role_that_is_known():
    assert all(one.role in ("read", "write", "admin") for one in frame.PAGES)


@pytest.mark.slow
def test_a_wrong_key_is_refused_and_a_right_one_leads_on(visitor):
    page = visitor.fresh()
    page.goto(f"{visitor.served.console}/papers")
    page.get_by_label("Key", exact=True).fill("tailor_wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("does not know this key").wait_for()
    page.get_by_label("Key", exact=True).fill(visitor.served.keys["read"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/papers")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto(f"{visitor.served.console}/papers")
    page.wait_for_url("**/login**")
    visitor.problems.clear()  # the browser notes the refused key


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_login_has_no_serious_fault_of_accessibility(visitor, faults, width, dark):
    page = visitor.fresh(width, dark)
    page.goto(f"{visitor.served.console}/login")
    page.get_by_label("Key", exact=True).wait_for()
    assert faults(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_has_no_serious_fault_of_accessibility(visitor, faults, width, dark):
    page = visitor.open("/papers", width=width, dark=dark)
    assert faults(page) == []

"""A person's history in pages, and what the list would be without one of its events."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nicegui import ui

from tailor.client import Client
from tailor.console import widgets
from tailor.console.paging import Pages
from tailor.console.session import Session
from tailor.console.side_by_side import answering_version, moves
from tailor.errors import ServiceError

PER_PAGE = 25  # events of a page
PER_CALL = 200  # events that are read at once for a question
MOST_HISTORY = 1_000  # events that a question may hold
K = 10  # items of a list


def without_event(item_ids: Sequence[str], position: int) -> list[str]:
    """Return a history, the newest first, as a question without one event: the oldest first."""
    return [item_id for i, item_id in enumerate(item_ids) if i != position][::-1]


class Counterfactual(NamedTuple):
    """The list of a history, and that without one of its events."""

    with_event: dict[str, Any]
    without_event: dict[str, Any]
    repeats: int
    """How many other events of the history have the item."""


def ask_without(
    client: Client, user_id: str, event: Mapping[str, Any], is_admin: bool
) -> Counterfactual:
    """Ask for the list of a person's history, and for that without an event.

    Both are asked by the items alone, and neither has the event's item: so they differ by the event
    only. An admin's are also made without chance. Neither is logged. Raises ServiceError where the
    event is not among the latest any more: others came, or it was deleted.
    """
    preview = {"version": _version(client)} if is_admin else {"trace": True}
    latest = _latest_events(client, user_id)
    if _name_of(event) not in latest:
        raise ServiceError("the history has changed: load the page again")
    position = latest.index(_name_of(event))
    item_ids = [item_id for item_id, _ in latest]
    item_id = item_ids[position]
    histories = (item_ids[::-1], without_event(item_ids, position))
    first, second = (
        client.recommend(history=history, k=K, exclude=[item_id], **preview)
        for history in histories
    )
    return Counterfactual(first, second, item_ids.count(item_id) - 1)


def _version(client: Client) -> int:
    """Return the version that recommends now. Raises ServiceError where there is none."""
    version = answering_version(client.models())
    if version is None:
        raise ServiceError("no model answers: place one on the Models page")
    return version


def _name_of(event: Mapping[str, Any]) -> tuple[str, int]:
    """Return what tells an event apart: its item and its time."""
    return event["item_id"], event["time_ms"]


def _latest_events(client: Client, user_id: str) -> list[tuple[str, int]]:
    """Return item and time of the latest events a question may hold, the newest first."""
    latest: list[tuple[str, int]] = []
    before = None
    while len(latest) < MOST_HISTORY:
        answer = client.history(user_id, PER_CALL, before)
        latest += [_name_of(event) for event in answer["events"]]
        before = answer["next"]
        if before is None:
            break
    return latest


class Timeline:
    """The history of a person, a page at a time, the newest first."""

    def __init__(self, session: Session, user_id: str) -> None:
        self._session = session
        self._user_id = user_id
        self._pages: Pages[str] = Pages(self._turn)
        self._events: list[dict[str, Any]] = []
        self.titles: dict[str, str] = {}
        """Titles of the items that were shown until now, by id."""

    async def load(self) -> None:
        """Read the page of the last cursor."""
        cursor = self._pages.cursor
        answer = await self._session.ask(
            lambda client: client.history(self._user_id, PER_PAGE, cursor)
        )
        self._events, self._pages.following = answer["events"], answer["next"]
        self.titles |= {event["item_id"]: event["title"] or "" for event in self._events}

    def show(self) -> None:
        """Make the section of the history."""
        with widgets.section("History"):
            self._list = ui.element("ol").classes("w-full tailor-items")
            with ui.row().classes("items-center gap-2"):
                self._newer = ui.button("Newer", on_click=self._pages.go_back).props("outline")
                self._older = ui.button("Older", on_click=self._pages.go_on).props("outline")
                self._place = ui.label("").props('role="status"')
            self._draw()
        self._what_if = ui.column().classes("w-full").style("scroll-margin-top: 4rem")

    async def _turn(self) -> None:
        await self.load()
        self._draw()

    def _draw(self) -> None:
        first = self._pages.before * PER_PAGE
        is_last = self._pages.following is None
        self._newer.set_enabled(first > 0)
        self._older.set_enabled(not is_last)
        self._newer.visible = self._older.visible = first > 0 or not is_last
        self._place.text = f"Events {first + 1} to {first + len(self._events)}, the newest first"
        self._place.visible = bool(self._events)
        self._list.clear()
        with self._list:
            for position, event in enumerate(self._events, first):
                with ui.element("li"):
                    self._show_event(position, event)
        if not self._events:
            with self._list, ui.element("li"):
                widgets.empty(
                    "Nothing is stored of this person",
                    "Check the id, or send events: POST /v1/events.",
                )

    def _show_event(self, position: int, event: Mapping[str, Any]) -> None:
        name = event["title"] or event["item_id"]
        with ui.row().classes("w-full items-center gap-2 no-wrap"):
            with ui.column().classes("gap-0 grow"):
                ui.label(name)
                ui.label(event_note(event)).classes("text-xs")
            if position < MOST_HISTORY:
                button = ui.button("What if not?", on_click=lambda: self._ask(event, name))
                button.props("flat dense no-caps").classes("shrink-0")
                button.props["aria-label"] = f"What if not: {name}"

    async def _ask(self, event: Mapping[str, Any], name: str) -> None:
        """Show the list with an event beside the list without it."""
        self._what_if.clear()
        with self._what_if:
            waiting = ui.spinner(size="lg").props('aria-label="Asking"')
        is_admin = self._session.may("admin")
        try:
            lists = await self._session.ask(
                lambda client: ask_without(client, self._user_id, event, is_admin)
            )
        finally:
            waiting.delete()
        with self._what_if, widgets.section(f"If this had not happened: {name}"):
            _compare(lists)
            if not is_admin:
                ui.label("Places that the service gives to chance may differ too.")
        ui.run_javascript(f"document.getElementById('{self._what_if.html_id}').scrollIntoView()")


def event_note(event: Mapping[str, Any]) -> str:
    """Return when an event happened and what it was."""
    parts = [widgets.when(event["time_ms"]), event["action"] or "an event"]
    if event["value"] is not None:
        parts.append(f"value {widgets.number(event['value'])}")
    if event["title"]:
        parts.append(event["item_id"])
    if event["request_id"]:
        parts.append("chosen from a list")
    return " · ".join(parts)


def _compare(lists: Counterfactual) -> None:
    """Show two lists side by side, and what moved between them."""
    changes = moves(lists.with_event["items"], lists.without_event["items"])
    moved = [move for move in changes if move.before != move.after]
    ui.label("Both lists are asked by the items alone, without times.").classes("text-sm")
    if lists.repeats:
        ui.label(f"The item stays in the history: it is there {lists.repeats:,} more times.")
    with ui.row().classes("w-full gap-8"):
        for title, answer in (
            ("With it", lists.with_event),
            ("Without it", lists.without_event),
        ):
            with ui.column().classes("gap-2 grow basis-64"):
                widgets.heading(title, 3)
                widgets.item_list(answer["items"])
    widgets.heading("What moved", 3)
    if not moved:
        ui.label("Nothing: the event makes no difference to this list.")
        return
    rows = [{"id": move.item_id, "title": move.title, "move": move.text} for move in moved]
    widgets.table([("title", "Item"), ("move", "Place")], rows)

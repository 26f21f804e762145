"""Items: search them, see one with its neighbours and its exposure, take it down, restore it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailor.console import widgets
from tailor.console.addresses import open_item
from tailor.console.frame import page
from tailor.console.paging import Pages
from tailor.console.session import Session, is_away
from tailor.errors import ServiceError

PER_PAGE = 25
NEIGHBOURS = 8
DAYS = {30: "30 days", 90: "90 days", 365: "a year"}
STORED, SEARCHED = "Stored items, by id or words", "As visitors search"
STATES = {"all": "All", "blocked": "Blocked only", "answered": "Not blocked"}
BLOCKED: dict[str, bool | None] = {"all": None, "blocked": True, "answered": False}
UNKNOWN = 404


@page("/items", title="Items", icon="inventory_2", role="read", order=30)
async def items(session: Session) -> None:
    """Search stored items, or search as visitors do."""
    await ItemSearch(session).show()


class ItemSearch:
    """The list of items, in pages."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pages: Pages[str] = Pages(self._turn)

    async def show(self) -> None:
        """Make the search, with the first items below."""
        with ui.row().classes("w-full items-center gap-2"):
            self._query = ui.input("Words, or the beginning of an id").classes("grow")
            self._query.props("outlined clearable").on("keydown.enter", self._pages.begin)
            ui.button("Search", on_click=self._pages.begin)
        with ui.row().classes("w-full items-center gap-4"):
            self._way = ui.radio([STORED, SEARCHED], value=STORED, on_change=self._pages.begin)
            self._way.props("inline").props["aria-label"] = "How to search"
            self._state = ui.select(STATES, value="all", label="Which", on_change=self._pages.begin)
            self._state.classes("w-40").bind_visibility_from(self._way, "value", value=STORED)
        self._list = ui.column().classes("w-full")
        with ui.row().classes("gap-2"):
            self._back = ui.button("Back", on_click=self._pages.go_back).props("outline")
            self._on = ui.button("Next", on_click=self._pages.go_on).props("outline")
        await self._pages.begin()

    async def _turn(self) -> None:
        query = (self._query.value or "").strip()
        if self._way.value == SEARCHED and query:
            answer = await self._session.ask(lambda client: client.search(query, PER_PAGE))
            self._pages.following = None
        else:
            blocked, cursor = BLOCKED[self._state.value], self._pages.cursor
            answer = await self._session.ask(
                lambda client: client.items(query, blocked, PER_PAGE, cursor)
            )
            self._pages.following = answer["next"]
        self._draw(answer["items"], query, answer.get("notes", []))

    def _draw(self, listed: Sequence[Mapping[str, Any]], query: str, notes: Sequence[str]) -> None:
        self._back.visible = self._pages.before > 0
        self._on.visible = self._pages.following is not None
        self._list.clear()
        with self._list:
            for note in notes:
                ui.label(note).classes("text-sm")
            if not listed:
                self._say_none(query)
                return
            columns = [("title", "Item"), ("id", "Id"), ("state", "State")]
            rows = [item_row(item) for item in listed]
            widgets.table(columns, rows, lambda row: open_item(row["id"]))

    def _say_none(self, query: str) -> None:
        if query:
            widgets.empty(f'No item has "{query}"', "Try other words, or the beginning of an id.")
        elif self._state.value == "blocked":
            widgets.empty("Nothing is blocked", "Take an item down on its own page.")
        else:
            widgets.empty("No items are stored", "Write some: PUT /v1/items.")


def item_row(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as a row of the table."""
    return {
        "id": item["item_id"],
        "title": item["title"] or item["item_id"],
        "state": state_of(item),
    }


def state_of(item: Mapping[str, Any]) -> str:
    """Return whether an item is blocked, and why."""
    blocked = item.get("blocked")
    if not blocked:
        return "may be shown"
    return f"{blocked}: {item['reason']}" if item.get("reason") else str(blocked)


@page("/items/{item_id:path}", title="Item", role="read")
async def item(session: Session, item_id: str) -> None:
    """Show an item: its content and state, its neighbours, its exposure."""
    await ItemPage(session, item_id).show()


class ItemPage:
    """The page of one item."""

    def __init__(self, session: Session, item_id: str) -> None:
        self._session = session
        self._item_id = item_id

    async def show(self) -> None:
        """Make the page; an item may be known by events alone."""
        self._content = ui.column().classes("w-full gap-4")
        await self._load()
        with widgets.section("Shown and chosen"):
            await self._exposure()
        with widgets.section("Neighbours"):
            await self._neighbours()

    async def _load(self) -> None:
        try:
            stored = await self._session.ask(lambda client: client.item(self._item_id))
        except ServiceError as error:
            if error.status != UNKNOWN:
                raise
            stored = None
        self._content.clear()
        with self._content:
            if stored is None:
                widgets.empty(f"{self._item_id} is not stored", "Write it: PUT /v1/items.")
                return
            self._show_stored(stored)

    def _show_stored(self, stored: Mapping[str, Any]) -> None:
        with widgets.section(stored["title"] or self._item_id):
            for name, value in fields_of(stored):
                with ui.column().classes("gap-0"):
                    ui.label(name).classes("text-xs")
                    ui.label(value).classes("break-words whitespace-pre-line")
            for note in stored.get("notes", []):
                ui.label(note).classes("text-sm")
            if self._session.may("admin"):
                self._takedown(stored)

    def _takedown(self, stored: Mapping[str, Any]) -> None:
        """Make the button that takes the item down, or restores it."""
        if "taken down" in (stored["blocked"] or ""):
            ui.button("Restore", icon="undo", on_click=self._restore)
            return
        with ui.row().classes("w-full items-center gap-2"):
            reason = ui.input("Reason of a takedown").classes("grow").props("outlined dense")
            ui.button(
                "Take down", icon="block", on_click=lambda: self._take_down(reason.value or "")
            ).props("color=negative")

    async def _take_down(self, reason: str) -> None:
        await self._session.ask(lambda client: client.take_down(self._item_id, reason.strip()))
        ui.notify("No answer has it any more.", type="positive")
        await self._load()

    async def _restore(self) -> None:
        await self._session.ask(lambda client: client.restore(self._item_id))
        ui.notify("Answers may have it again.", type="positive")
        await self._load()

    async def _exposure(self) -> None:
        """Make the chart of exposure, for a span of days that can be chosen."""
        chart = ui.column().classes("w-full")

        async def draw(days: int) -> None:
            answer = await self._session.ask(lambda client: client.exposure(self._item_id, days))
            chart.clear()
            with chart:
                _show_exposure(answer)

        span = ui.select(DAYS, value=30, label="Span", on_change=lambda event: draw(event.value))
        span.classes("w-40").move(target_index=0)
        await draw(30)

    async def _neighbours(self) -> None:
        try:
            answer = await self._session.ask(
                lambda client: client.similar(self._item_id, NEIGHBOURS)
            )
        except ServiceError as error:
            if is_away(error):
                raise
            widgets.empty("No neighbours", str(error))
            return
        for note in answer["notes"]:
            ui.label(note).classes("text-sm")
        if not answer["items"]:
            widgets.empty("No neighbours", "The model knows nothing of this item yet.")
            return
        widgets.item_list(answer["items"], open_item)


def _show_exposure(answer: Mapping[str, Any]) -> None:
    days = answer["days"]
    for note in answer.get("notes", []):
        ui.label(note).classes("text-sm")
    if not any(day["shown"] or day["events"] for day in days):
        widgets.empty("Neither shown nor used in this time", "Choose a longer span.")
        return
    ui.label(exposure_text(days))
    series = {
        name: [(day["day_ms"], day[field]) for day in days]
        for name, field in (("shown", "shown"), ("events", "events"), ("chosen", "chosen"))
    }
    widgets.line_chart("Per day", series)


def exposure_text(days: Sequence[Mapping[str, Any]]) -> str:
    """Return the sums of an exposure, with the mean place over all lists."""
    lists = sum(day["shown"] for day in days)
    chosen = sum(day["chosen"] for day in days)
    events = sum(day["events"] for day in days)
    text = f"Shown in {lists:,} lists, chosen from {chosen:,}; {events:,} events in all."
    if lists:
        places = sum(day["shown"] * (day["mean_position"] or 0) for day in days)
        text += f" Mean place {places / lists:.1f}."
    return text


def fields_of(stored: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the name and value of what is stored of an item, as texts."""
    values = [
        ("Id", stored["item_id"]),
        ("State", state_of(stored)),
        ("Text", stored["text"]),
        ("Categories", ", ".join(map(str, stored["categories"] or []))),
        ("Price", widgets.number(stored["price"]) if stored["price"] is not None else ""),
        ("Semantic id", " → ".join(map(str, stored.get("semantic_id", [])))),
    ]
    columns = [(name, _as_text(value)) for name, value in (stored["more"] or {}).items()]
    return [(name, value) for name, value in (*values, *columns) if value]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

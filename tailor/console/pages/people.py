"""People: search one, see what the service knows, recommends and why, correct it, let it go."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from tailor.console import widgets
from tailor.console.addresses import open_item, open_person
from tailor.console.frame import page
from tailor.console.pages.beliefs import Beliefs
from tailor.console.pages.timeline import Timeline
from tailor.console.session import Session
from tailor.errors import ServiceError

PER_PAGE = 20  # people of a page
LINK_HOURS = 72  # for which a person's own page is open
LOOK_S = 2.0  # between two looks at an erasure, or at a scan, that runs
LONG_S = 900.0  # for which a person with very many events may be exported or erased
MOST_REASONS = 3  # of an item
LEAST_SHARE = 0.02  # of the score, below which a reason is left out
CANNOT_EXPLAIN = 409  # status of a model without reasons


@page("/people", title="People", icon="group", role="read", order=20)
async def people(session: Session) -> None:
    """Search people by a part of their id; a key without the role admin opens an exact one."""
    if not session.may("admin"):
        _open_exact()
        return
    await Search(session).show()


def _open_exact() -> None:
    """Ask for an exact id: who there is, only admins may see."""
    with widgets.section("Open a person"):
        ui.label("Give the exact id. To search by a part of it, log in with an admin's key.")
        user_id = ui.input("Id of the person").classes("w-full").props("outlined")

        def go() -> None:
            if (user_id.value or "").strip():
                open_person(user_id.value.strip())

        user_id.on("keydown.enter", go)
        ui.button("Open", on_click=go)


class Search:
    """The search for people: it goes on until a page is full, and can be cancelled."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._after: str | None = None
        self._rows: list[dict[str, Any]] = []
        self._is_cancelled = False
        self._is_running = False
        self._search = 0  # number of the latest search

    async def show(self) -> None:
        """Make the search, with the people of the latest events below."""
        with ui.row().classes("w-full items-center gap-2"):
            self._input = ui.input("A part of the id").classes("grow").props("outlined clearable")
            self._input.on("keydown.enter", self._begin)
            ui.button("Search", on_click=self._begin)
        with ui.row().classes("w-full items-center gap-2") as self._progress:
            self._bar = ui.linear_progress(0, show_value=False).classes("grow")
            self._bar.props('aria-label="Share of the people looked at"')
            self._share = ui.label("").props('role="status"')
            ui.button("Cancel", on_click=self._cancel).props("flat")
        self._progress.visible = False
        self._heading = ui.label("").classes("font-medium")
        self._list = ui.column().classes("w-full")
        self._more = ui.button("More", on_click=self._go_on).props("outline")
        await self._begin()

    async def _begin(self) -> None:
        """Search anew, also while an earlier search runs."""
        self._search += 1
        self._rows, self._after = [], None
        self._is_running = False
        await self._go_on()

    def _cancel(self) -> None:
        self._is_cancelled = True

    async def _go_on(self) -> None:
        """Look further until a page more is full, all were looked at, or it is cancelled."""
        if self._is_running:
            return
        self._is_running, self._is_cancelled = True, False
        search = self._search
        query, goal = (self._input.value or "").strip(), len(self._rows) + PER_PAGE
        try:
            while len(self._rows) < goal and not self._is_cancelled:
                await self._look(query, goal - len(self._rows))
                if search != self._search or self._after is None:
                    break
        finally:
            if search == self._search:
                self._is_running = False
                self._progress.visible = False
                self._draw(query)

    async def _look(self, query: str, k: int) -> None:
        search, after = self._search, self._after
        answer = await self._session.ask(lambda client: client.people(query, k, after))
        if search != self._search:  # another search began meanwhile
            return
        self._rows += answer["people"]
        self._after = answer["next"]
        if query and self._after is not None:
            self._bar.value = answer["searched"]
            self._share.text = f"Looked at {answer['searched']:.0%} of the people"
            self._progress.visible = True

    def _draw(self, query: str) -> None:
        self._heading.text = f'Ids with "{query}"' if query else "Lately active"
        self._more.visible = self._after is not None
        self._list.clear()
        with self._list:
            if not self._rows:
                _say_nobody(query, self._after is not None)
                return
            rows = [
                {
                    "id": row["user_id"],
                    "events": row["events"],
                    "last": widgets.when(row["last_ms"]),
                }
                for row in self._rows
            ]
            columns = [("id", "Person"), ("events", "Events"), ("last", "Last event")]
            widgets.table(columns, rows, lambda row: open_person(row["id"]))


def _say_nobody(query: str, is_unfinished: bool) -> None:
    if is_unfinished:
        widgets.empty("Nobody yet", "The search was cancelled. More goes on with it.")
    elif query:
        widgets.empty(f'No id has "{query}"', "Try a shorter part of the id.")
    else:
        widgets.empty("Nobody has done anything yet", "Send events: POST /v1/events.")


@page("/people/{user_id:path}", title="Person", role="read")
async def person(session: Session, user_id: str) -> None:
    """Show a person: recommendations, history, memory, and the person's rights."""
    timeline = Timeline(session, user_id)
    await timeline.load()
    ui.label(user_id).classes("text-lg font-medium break-all").props('data-testid="person"')
    with ui.column().classes("w-full gap-4") as stored:
        with widgets.section("Recommendations"):
            await _recommendations(session, user_id, timeline.titles)
        timeline.show()
        with widgets.section("What is believed"):
            await Beliefs(session, user_id).show()
    if session.may("admin"):
        with widgets.section("This person's rights"):
            Rights(session, user_id, stored.clear).show()


async def _recommendations(session: Session, user_id: str, titles: Mapping[str, str]) -> None:
    """Show the list with its reasons, or without where the model has none.

    It is asked with a trace: such a list is not logged, since nobody is shown it.
    """
    try:
        answer = await session.ask(
            lambda client: client.recommend(user_id, explain=True, trace=True)
        )
    except ServiceError as error:
        if error.status != CANNOT_EXPLAIN:
            raise
        answer = await session.ask(lambda client: client.recommend(user_id, trace=True))
        ui.label("The model that answers gives no reasons.").classes("text-sm")
    for note in answer["notes"]:
        ui.label(note).classes("text-sm")
    if not answer["items"]:
        widgets.empty("The model recommends nothing", "See the Pipeline page for its stages.")
        return
    ui.label(f"By {answer['model']}").classes("text-sm")
    titled = {**titles, **{item["item_id"]: item["title"] or "" for item in answer["items"]}}
    widgets.item_list(with_reasons(answer["items"], titled), open_item)


def with_reasons(
    items: Sequence[Mapping[str, Any]], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return listed items with their weightiest reasons, as texts that name titles."""
    return [{**item, "reasons": _reasons(item, titles)} for item in items]


def _reasons(item: Mapping[str, Any], titles: Mapping[str, str]) -> list[str]:
    reasons = [part for part in item.get("reasons") or () if part["share"] >= LEAST_SHARE]
    return [_reason(part, item["item_id"], titles) for part in reasons[:MOST_REASONS]]


def _reason(reason: Mapping[str, Any], item_id: str, titles: Mapping[str, str]) -> str:
    share = f"{reason['share']:.0%}"
    if reason["kind"] == "item":
        return f"{share} because of {titles.get(reason['id']) or reason['id']}"
    if reason["id"] == item_id:
        return f"{share} by {reason['kind']}"
    return f"{share} by {reason['kind']}: {reason['id']}"


class Rights:
    """Export, link to the own page, erasure with its receipt."""

    def __init__(self, session: Session, user_id: str, on_erased: Callable[[], object]) -> None:
        self._session = session
        self._user_id = user_id
        self._on_erased = on_erased

    def show(self) -> None:
        """Make the buttons, and a place for what comes of them."""
        with ui.row().classes("gap-2") as self._buttons:
            ui.button("Export", icon="download", on_click=self._export).props("outline")
            ui.button("Link to own page", icon="link", on_click=self._link).props("outline")
            ui.button("End all links", icon="link_off", on_click=self._end_links).props("outline")
            ui.button("Erase", icon="delete_forever", on_click=self._erase).props(
                "outline color=negative"
            )
        self._outcome = ui.column().classes("w-full gap-1")

    async def _export(self) -> None:
        with self._busy("Reading all that is stored. Many events take a while."):
            data = await self._session.ask(lambda client: client.export(self._user_id, LONG_S))
        widgets.download("person.json", json.dumps(data, indent=2, ensure_ascii=False))
        rows = sum(map(len, data["stores"].values()))
        ui.notify(f"{rows:,} rows exported.")

    @contextmanager
    def _busy(self, text: str) -> Iterator[ui.label]:
        """Say that something takes a while, until the context ends."""
        self._outcome.clear()
        with self._outcome, ui.row().classes("items-center gap-2") as row:
            ui.spinner(size="md").props("aria-hidden=true")
            label = ui.label(text).props('role="status"')
        try:
            yield label
        finally:
            row.delete()

    async def _link(self) -> None:
        answer = await self._session.ask(lambda client: client.link(self._user_id, LINK_HOURS))
        self._outcome.clear()
        with self._outcome:
            ui.label(f"The link is open until {widgets.when(answer['ends_ms'])} UTC.")
            ui.label("Send it to this person alone. It is shown this once.")
            path = await ui.run_javascript("window.location.origin") + answer["path"]
            ui.input("Link", value=path).props("readonly outlined").classes("w-full")
            ui.button("Copy", on_click=lambda: ui.clipboard.write(path)).props("flat")

    async def _end_links(self) -> None:
        if await widgets.confirmed(f"End all links of {self._user_id}?", "End them"):
            await self._session.ask(lambda client: client.end_links(self._user_id))
            self._outcome.clear()
            ui.notify("No link of this person is open any more.", type="positive")

    async def _erase(self) -> None:
        question = (
            f"Erase all that is stored of {self._user_id}? Events, lists and the memory go, and"
            " nobody can bring them back."
        )
        if not await widgets.confirmed(question, "Erase", typed=self._user_id):
            return
        with self._busy("Erasing. It goes on even if you close this page.") as progress:
            watch = ui.timer(LOOK_S, lambda: self._count_left(progress))
            try:
                receipt = await self._session.ask(
                    lambda client: client.erase(self._user_id, LONG_S)
                )
            finally:
                watch.cancel()
        self._on_erased()
        self._buttons.visible = False
        self._show_receipt(receipt)

    async def _count_left(self, progress: ui.label) -> None:
        """Say how many events are left of a person who is being erased."""
        answer = await self._session.ask(lambda client: client.people(self._user_id, k=1))
        if answer["people"] and answer["people"][0]["user_id"] == self._user_id:
            left = answer["people"][0]["events"]
            progress.text = f"Erasing: {left:,} events are left. It goes on if you leave."

    def _show_receipt(self, receipt: dict[str, Any]) -> None:
        self._outcome.clear()
        with self._outcome:
            widgets.heading("Erased", 3)
            for line in receipt_lines(receipt):
                ui.label(line)
            text = json.dumps(receipt, indent=2)
            ui.button(
                "Download the receipt",
                icon="download",
                on_click=lambda: widgets.download("receipt.json", text),
            ).props("outline")
            ui.button("All people", on_click=lambda: ui.navigate.to("/people")).props("flat")
            if receipt["scan"] == "running":
                ui.timer(LOOK_S, lambda: self._look_again(receipt["receipt_id"]), once=True)

    async def _look_again(self, receipt_id: str) -> None:
        self._show_receipt(await self._session.ask(lambda client: client.receipt(receipt_id)))


def receipt_lines(receipt: Mapping[str, Any]) -> list[str]:
    """Return what a receipt of an erasure says, a sentence a line."""
    erased = [f"{count:,} {name}" for name, count in receipt["rows"].items() if count]
    left = [f"{count:,} {name}" for name, count in receipt["scanned"].items() if count]
    scan = {
        "running": "A scan looks for what may be left; it takes a while.",
        "done": "A scan found nothing that is left.",
    }.get(receipt["scan"], f"The scan for what may be left: {receipt['scan']}.")
    if left:
        scan = f"A scan still found the id in: {', '.join(left)}."
    return [
        f"Receipt {receipt['receipt_id']} of {widgets.when(receipt['time_ms'])} UTC.",
        f"Erased: {', '.join(erased) or 'nothing was stored'}.",
        scan,
    ]

"""Beliefs about a person: propositions with their evidence; confirm, reject, correct."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nicegui import ui

from tailor.client import Client
from tailor.console import widgets
from tailor.console.session import Session
from tailor.errors import ServiceError

NO_MEMORY = (404, 405)  # statuses of a service that serves no memories
CHANGED = 409  # status of an edit of what somebody else changed
PER_PAGE = 20  # propositions of a page
STATES = {
    "active": "believed",
    "confirmed": "confirmed by the person",
    "rejected": "rejected by the person",
    "disputed": "disputed: the evidence disagrees",
    "superseded": "over: another took its place",
}


class Beliefs:
    """The propositions of a person's memory, each with what it rests on."""

    def __init__(self, session: Session, user_id: str) -> None:
        self._session = session
        self._user_id = user_id
        self._facts: list[dict[str, Any]] = []
        self._drafts: dict[str, str] = {}  # proposition id -> what was typed and not saved
        self._count = PER_PAGE

    async def show(self) -> None:
        """Make the list."""
        self._list = ui.element("ul").classes("w-full tailor-items")
        self._more = ui.button("More", on_click=self._show_more).props("outline")
        await self._load()

    async def _load(self) -> None:
        """Read the propositions and draw them; what was typed stays."""
        try:
            answer = await self._session.ask(lambda client: client.memory(self._user_id).timeline())
        except ServiceError as error:
            if error.status not in NO_MEMORY:
                raise
            self._facts = []
        else:
            self._facts = ordered(answer["propositions"])
        self._draw()

    def _show_more(self) -> None:
        self._count += PER_PAGE
        self._draw()

    def _draw(self) -> None:
        self._more.visible = len(self._facts) > self._count
        self._list.clear()
        with self._list:
            for fact in self._facts[: self._count]:
                with ui.element("li"):
                    self._show_fact(fact)
            if not self._facts:
                with ui.element("li"):
                    widgets.empty(
                        "Nothing is believed of this person",
                        "A memory learns from messages and reviews: see the guide, Memory.",
                    )

    def _show_fact(self, fact: dict[str, Any]) -> None:
        with ui.row().classes("w-full items-center gap-2"):
            with ui.column().classes("gap-0 grow basis-64"):
                ui.label(fact["text"])
                ui.label(fact_note(fact)).classes("text-xs")
            if self._session.may("write"):
                with ui.row().classes("gap-1 no-wrap"):
                    self._buttons(fact)
        evidence = ui.expansion("Evidence").classes("w-full text-sm").props("dense")
        evidence.props["aria-label"] = f"Evidence: {fact['text']}"
        with evidence:
            rows = ui.column().classes("w-full gap-1")
        evidence.on_value_change(partial(self._show_evidence, fact["proposition_id"], rows))
        if fact["proposition_id"] in self._drafts:
            self._editor(fact)

    def _buttons(self, fact: dict[str, Any]) -> None:
        jobs: list[tuple[str, Callable[[], Any]]] = [
            ("Confirm", lambda: self._act(fact, confirm)),
            ("Reject", lambda: self._act(fact, reject)),
            ("Edit", lambda: self._edit(fact)),
        ]
        for name, job in jobs:
            button = ui.button(name, on_click=job).props("flat dense no-caps")
            button.props["aria-label"] = f"{name}: {fact['text']}"

    async def _show_evidence(self, proposition_id: str, rows: ui.column, event: Any) -> None:
        if not event.value:
            return
        answer = await self._session.ask(
            lambda client: client.memory(self._user_id).explain(proposition_id)
        )
        rows.clear()
        with rows:
            ui.label(f"Concluded by {', '.join(answer['proposers'])}")
            for observation in answer["evidence"]:
                is_edit = observation["kind"] == "edit"
                text = "The word of the person, passed on." if is_edit else observation["text"]
                ui.label(text).classes("font-medium")
                moment = widgets.when(observation["occurred_ms"])
                ui.label(f"{observation['kind']}, {moment}").classes("text-xs")

    def _edit(self, fact: dict[str, Any]) -> None:
        self._drafts[fact["proposition_id"]] = fact["object"]
        self._draw()

    def _editor(self, fact: dict[str, Any]) -> None:
        """Make the field in which a proposition is corrected."""
        proposition_id = fact["proposition_id"]

        async def save() -> None:
            value = (self._drafts[proposition_id] or "").strip()
            if not value:
                ui.notify("Give what is right, or reject it.", type="warning")
                return
            await self._act(fact, partial(correct, value=value))

        def close() -> None:
            del self._drafts[proposition_id]
            self._draw()

        with ui.row().classes("w-full items-center gap-2"):
            label = f"{fact['predicate']} ..."
            field = ui.input(label).classes("grow").props("outlined dense autofocus")
            field.bind_value(self._drafts, proposition_id)
            field.on("keydown.enter", save)
            ui.button("Save", on_click=save)
            ui.button("Leave it", on_click=close).props("flat")

    async def _act(self, fact: dict[str, Any], act: Callable[..., Any]) -> None:
        """Confirm, reject or correct, unless somebody else changed the proposition meanwhile."""
        try:
            await self._session.ask(lambda client: act(client, self._user_id, fact))
        except ServiceError as error:
            if error.status != CHANGED:
                raise
            ui.notify(
                "Somebody else has changed this meanwhile. It is read again; what you typed is"
                " still here.",
                type="warning",
                multi_line=True,
                close_button="Close",
            )
        else:
            self._drafts.pop(fact["proposition_id"], None)
            ui.notify("Noted as the person's own word.", type="positive")
        await self._load()


def confirm(client: Client, user_id: str, fact: Mapping[str, Any]) -> Any:
    """Note that the person says a proposition is right."""
    return client.memory(user_id).confirm(fact["proposition_id"], fact["status"])


def reject(client: Client, user_id: str, fact: Mapping[str, Any]) -> Any:
    """Note that the person says a proposition is wrong."""
    return client.memory(user_id).reject(fact["proposition_id"], fact["status"])


def correct(client: Client, user_id: str, fact: Mapping[str, Any], value: str) -> Any:
    """Put the person's own value in place of a proposition's object."""
    return client.memory(user_id).correct(fact["proposition_id"], value, fact["status"])


def ordered(facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return propositions that hold first, the surest first, then those that are over."""
    is_over = {"rejected", "superseded"}
    return sorted(facts, key=lambda fact: (fact["status"] in is_over, -fact["confidence"]))


def fact_note(fact: Mapping[str, Any]) -> str:
    """Return how sure a proposition is, and since when it is believed."""
    parts = [
        STATES.get(fact["status"], fact["status"]),
        f"{fact['confidence']:.0%} sure",
        f"since {widgets.when(fact['valid_from_ms'])}",
    ]
    if fact["scope"]:
        parts.append(fact["scope"])
    return " · ".join(parts)

"""A person's own page: what is known and why, correct it, pause it, take it along, erase it.

It needs no login: a link of the service opens it. The link comes in the fragment of the address,
which browsers send to nobody, and is kept in the tab alone.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from nicegui import ui

from tailor.client import PersonClient
from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.paging import Pages
from tailor.console.session import PATIENCE_S, Session
from tailor.errors import ServiceError

SHOP = "TAILOR_SHOP_NAME"  # environment variable with the name that people know the shop by
WORD = "erase"  # typed to confirm an erasure
ENDED = 401  # status of a link that is not valid
EVENTS = 10  # of a page
FACTS = 10
ITEMS = 8
REASONS = 3  # of an item
LEAST_SHARE = 0.1  # of the score, below which a reason is left out
BELIEVED = ("active", "confirmed", "disputed")  # states of propositions that are shown
DONE = {"view": "viewed", "buy": "bought", "click": "clicked", "like": "liked"}  # actions in words
READ_LINK = """
const name = 'tailor-link';
const given = location.hash.slice(1);
if (given) {
  sessionStorage.setItem(name, given);
  history.replaceState(null, '', location.pathname);
}
window.onhashchange = () => location.reload();
return sessionStorage.getItem(name) || '';
"""
POPULAR = "popularity"  # kind of a reason that is no reason of the person's
FORGET_LINK = "sessionStorage.removeItem('tailor-link')"


@page("/me", title="Your data", public=True)
async def me(session: Session) -> None:
    """Show a person what is known of the person."""
    link = str(await ui.run_javascript(READ_LINK, timeout=10.0))
    body = ui.column().classes("w-full gap-4")
    if not link:
        with body:
            no_link()
        return
    try:
        client = PersonClient(session.server, link, patience_s=PATIENCE_S)
        ui.context.client.on_delete(client.close)
        overview = await session.call(client.overview)
    except ServiceError as error:
        if error.status != ENDED:
            raise
        with body:
            ended_link()
        return
    await OwnPage(session, client, body).show(overview)


def no_link() -> None:
    """Say that the page needs a link."""
    widgets.empty(
        "This page opens with a personal link",
        f"Ask {shop_name()} for a link to your data, and open it as it is.",
    )


def ended_link() -> None:
    """Say that a link is over, and what to do."""
    widgets.empty(
        "This link does not work any more",
        f"Links end after some time, and when data are erased. It may also have been cut off: copy"
        f" all of it. Otherwise ask {shop_name()} for a new one.",
    )


def shop_name() -> str:
    """Return what people call the shop."""
    return os.environ.get(SHOP, "").strip() or "the shop"


class OwnPage:
    """The page of one person, whose parts are read anew where something changed."""

    def __init__(self, session: Session, client: PersonClient, body: ui.column) -> None:
        self.session = session
        self.client = client
        self.body = body
        self.history: Pages[str] = Pages(self.show_events)

    async def ask(self, job: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the service answers; where the link is over, the page says so.

        Raises ServiceError.
        """
        try:
            return await self.session.call(job, *arguments)
        except ServiceError as error:
            if error.status == ENDED:
                self.body.clear()
                with self.body:
                    ended_link()
            raise

    async def show(self, overview: Mapping[str, Any]) -> None:
        """Show all sections."""
        with self.body:
            _introduction(overview)
            with widgets.section("What you are shown, and why"):
                self._history_switch(overview["paused"]["history"])
                self.items = ui.column().classes("w-full")
            with widgets.section("What you did"):
                self.events = ui.column().classes("w-full")
            with widgets.section("What is noted about you"):
                _attributes(overview["attributes"])
            if overview["has_memory"]:
                with widgets.section("What we believe about you"):
                    self._memory_switch(overview["paused"]["memory"])
                    self.facts = ui.column().classes("w-full")
            self._last_sections()
        parts = [self.show_items(), self.show_events()]
        if overview["has_memory"]:
            parts.append(self.show_facts())
        await asyncio.gather(*parts)

    def _last_sections(self) -> None:
        with widgets.section("Take your data with you"):
            ui.label("One file with everything above, and all lists that you were shown.")
            ui.button("Download my data", icon="download", on_click=self.export)
        with widgets.section("Erase everything"):
            ui.label(
                "All of this is deleted, and this link ends. You get a receipt. It cannot be"
                " undone."
            )
            ui.button("Erase my data", icon="delete_forever", on_click=self.erase).props(
                "color=negative"
            )

    # what is shown, and why

    def _history_switch(self, is_paused: bool) -> None:
        async def turn(paused: bool) -> None:
            await self.ask(lambda: self.client.pause(history=paused))
            await self.show_items()

        _switch("Use what I did to choose what I see", is_paused, turn)

    async def show_items(self) -> None:
        """Show what the person would be shown now, with reasons."""
        try:
            answer = await self.ask(self.client.recommendations, ITEMS)
        except ServiceError as error:
            if error.status == ENDED or self.items.is_deleted:
                raise
            self.items.clear()
            with self.items:
                widgets.empty("This cannot be shown just now", "Load the page again in a minute.")
            return
        self.items.clear()
        with self.items:
            if not answer["items"]:
                widgets.empty("There is nothing to show yet", "Come back after your next visit.")
                return
            with ui.element("ol").classes("w-full tailor-items"):
                for item in answer["items"]:
                    with ui.element("li"):
                        ui.label(name_of(item)).classes("font-medium")
                        if item.get("reasons"):
                            ui.label(why(item)).classes("text-sm")

    # what the person did

    async def show_events(self) -> None:
        """Show the page of the history that was turned to."""
        answer = await self.ask(self.client.history, self.history.cursor, EVENTS)
        self.history.following = answer["next"]
        self.events.clear()
        with self.events:
            if not answer["events"]:
                widgets.empty(*self._no_events())
            with ui.element("ul").classes("w-full tailor-items"):
                for event in answer["events"]:
                    self._event(event)
            with ui.row().classes("w-full"):
                if self.history.before:
                    _plain_button("Newer", self.history.go_back)
                if answer["next"] is not None:
                    _plain_button("Older", self.history.go_on)

    def _no_events(self) -> tuple[str, str]:
        if self.history.before:
            return "Nothing is left on this page", "Go back to newer events."
        return "Nothing is stored of what you did", "Your next visits will stand here."

    def _event(self, event: Mapping[str, Any]) -> None:
        line = event_line(event)
        with ui.element("li"), ui.row().classes("w-full items-center no-wrap justify-between"):
            with ui.column().classes("gap-0"):
                ui.label(name_of(event))
                ui.label(line).classes("text-sm")
            button = ui.button(icon="delete", color=None, on_click=lambda: self.delete(event))
            button.props("flat round")
            button.props["aria-label"] = f"Delete {name_of(event)}, {line}"

    async def delete(self, event: Mapping[str, Any]) -> None:
        """Delete an event, after a question."""
        question = f'Delete "{name_of(event)}" ({event_line(event)})? It cannot be undone.'
        if not await widgets.confirmed(question, "Delete"):
            return
        await self.ask(self.client.delete_event, event["event_id"])
        ui.notify(
            "Deleted. What learned from it before forgets it when it learns anew.", type="positive"
        )
        await self.show_events()
        await self.show_items()

    # what is believed

    def _memory_switch(self, is_paused: bool) -> None:
        async def turn(paused: bool) -> None:
            await self.ask(lambda: self.client.pause(memory=paused))

        _switch("Remember what I say from now on", is_paused, turn)

    async def show_facts(self, most: int = FACTS) -> None:
        """Show what is believed, the first `most` of it."""
        facts = await self.ask(self.client.memory)
        believed = [fact for fact in facts if fact["status"] in BELIEVED]
        self.facts.clear()
        with self.facts:
            if not believed:
                widgets.empty("Nothing is believed about you", "There is nothing to correct.")
            for fact in believed[:most]:
                self._fact(fact)
            if len(believed) > most:
                show_more = partial(self.show_facts, most + 5 * FACTS)
                _plain_button(f"Show more of {len(believed)}", show_more)

    def _fact(self, fact: Mapping[str, Any]) -> None:
        name = fact["proposition_id"]
        with ui.column().classes("w-full gap-1 tailor-fact"):
            ui.label(f"You: {fact['text']}").classes("font-medium")
            ui.label(basis(fact)).classes("text-sm")
            with ui.row().classes("gap-1"):
                if fact["status"] != "confirmed":
                    self._fact_button(
                        "Right", fact, partial(self.answer, self.client.confirm, name)
                    )
                self._fact_button("Wrong", fact, partial(self.answer, self.client.reject, name))
                self._fact_button("Change", fact, partial(self.correct, fact))
                self._fact_button("Forget", fact, partial(self.forget, fact))
            evidence = ui.expansion("Why?").classes("w-full").props("dense")
            evidence.on_value_change(partial(self.show_evidence, evidence, name))

    def _fact_button(self, text: str, fact: Mapping[str, Any], job: Callable[[], Any]) -> None:
        button = _plain_button(text, job)
        button.props["aria-label"] = f"{text}: {fact['text']}"

    async def answer(self, job: Callable[[str], Any], proposition_id: str) -> None:
        """Say that a proposition is right or wrong."""
        await self.ask(job, proposition_id)
        await self.show_facts()

    async def correct(self, fact: Mapping[str, Any]) -> None:
        """Ask for the right value of a proposition, and write it."""
        with ui.dialog() as dialog, ui.card():
            ui.label(f"You: {fact['predicate']} ...")
            value = ui.input("What is right", value=fact["object"]).classes("w-full")
            with ui.row().classes("w-full justify-end"):
                _plain_button("Cancel", lambda: dialog.submit(None))
                ui.button("Save", on_click=lambda: dialog.submit((value.value or "").strip()))
        text = await dialog
        dialog.delete()
        if text and text != fact["object"]:
            await self.ask(self.client.correct, fact["proposition_id"], text)
            await self.show_facts()

    async def forget(self, fact: Mapping[str, Any]) -> None:
        """Delete a proposition with what it rests on, after a question."""
        question = f'Forget "{fact["text"]}", and what you said of it? It cannot be undone.'
        if await widgets.confirmed(question, "Forget"):
            await self.ask(self.client.forget, fact["proposition_id"])
            await self.show_facts()

    async def show_evidence(self, evidence: ui.expansion, proposition_id: str, _: Any) -> None:
        """Show what a proposition rests on, once it is asked for."""
        if not evidence.value or evidence.default_slot.children:
            return
        explanation = await self.ask(self.client.explain, proposition_id)
        with evidence:
            for part in explanation["evidence"][:FACTS]:
                ui.label(evidence_line(part)).classes("text-sm")
            if not explanation["evidence"]:
                ui.label("What it rested on is not kept.").classes("text-sm")

    # all of it

    async def export(self) -> None:
        """Let the browser save all that is stored."""
        data = await self.ask(self.client.export)
        widgets.download("my-data.json", json.dumps(data, indent=1, ensure_ascii=False))

    async def erase(self) -> None:
        """Erase the person after a typed word, and show the receipt."""
        question = f"Erase all that {shop_name()} keeps about you? It cannot be undone."
        if not await widgets.confirmed(question, "Erase everything", WORD):
            return
        receipt = await self.ask(self.client.erase)
        ui.run_javascript(FORGET_LINK)
        self.body.clear()
        with self.body, widgets.section("Your data are erased"):
            rows = sum(receipt["rows"].values())
            ui.label(f"{rows:,} entries are deleted. This link has ended.").props('role="status"')
            ui.label(f"Number of the receipt: {receipt['receipt_id']}").classes("break-all")
            text = json.dumps(receipt, indent=1)
            save = partial(widgets.download, "receipt.json", text)
            ui.button("Download the receipt", icon="download", on_click=save)


def _introduction(overview: Mapping[str, Any]) -> None:
    ui.label(
        f"What {shop_name()} keeps about you, and what it is used for. You can correct it, pause"
        " it, take it with you or erase it."
    )
    ui.label(
        f"This link works until {widgets.when(overview['ends_ms'])} (UTC). Who has it can do all of"
        " this: keep it to yourself."
    ).classes("text-sm")


def _attributes(attributes: Mapping[str, Any]) -> None:
    if not attributes:
        ui.label("Nothing.")
    with ui.element("ul").classes("w-full tailor-items"):
        for name, value in attributes.items():
            with ui.element("li"):
                ui.label(f"{name}: {plain_value(value)}")


def _plain_button(text: str, job: Callable[[], Any]) -> ui.button:
    """Make a button in the colour of texts, to be read in light and dark."""
    return ui.button(text, color=None, on_click=job).props("outline dense no-caps").classes("px-2")


def _switch(text: str, is_paused: bool, turn: Callable[[bool], Any]) -> None:
    """Make a switch that is on where nothing is paused, and goes back where turning fails."""
    switch = ui.switch(text, value=not is_paused)
    is_on = not is_paused

    async def change(event: Any) -> None:
        nonlocal is_on
        if event.value == is_on:  # it was put back
            return
        try:
            await turn(not event.value)
        except ServiceError:
            switch.value = is_on
            raise
        is_on = event.value

    switch.on_value_change(change)


def name_of(row: Mapping[str, Any]) -> str:
    """Return the title of an item, or its id."""
    return str(row.get("title") or row["item_id"])


def event_line(event: Mapping[str, Any]) -> str:
    """Return what the person did, and when, as a text."""
    action = DONE.get(event["action"], event["action"] or "seen")
    value = "" if event["value"] is None else f" {widgets.number(event['value'])}"
    return f"{action}{value}, {widgets.when(event['time_ms'])}"


def evidence_line(part: Mapping[str, Any]) -> str:
    """Return what a proposition rests on, and when it was said."""
    text = "You said so on this page." if part["kind"] == "edit" else str(part["text"])
    return f"{widgets.when(part['occurred_ms'])}: {text}"


def why(item: Mapping[str, Any]) -> str:
    """Return the reasons of an item as a sentence."""
    reasons = [reason for reason in item.get("reasons") or () if reason["kind"] != POPULAR]
    weighty = [reason for reason in reasons if reason["share"] >= LEAST_SHARE] or reasons[:1]
    names = [reason_name(reason) for reason in weighty[:REASONS]]
    if not item.get("reasons"):
        return ""
    if not names:
        return "Because many people like it."
    return f"Because of {joined(list(dict.fromkeys(names)))}."


def reason_name(reason: Mapping[str, Any]) -> str:
    """Return what a reason is, in words."""
    if reason["kind"] == "item":
        return str(reason.get("title") or reason["id"])
    return f"{reason['kind']} {reason['id']}"


def joined(names: Sequence[str]) -> str:
    """Return names as an enumeration; titles have commas of their own."""
    if len(names) < 2:
        return "".join(names)
    return f"{'; '.join(names[:-1])}; and {names[-1]}"


def basis(fact: Mapping[str, Any]) -> str:
    """Return what a proposition rests on, in words."""
    if fact["status"] == "confirmed":
        return "You said that this is right."
    if fact["status"] == "disputed":
        return "Some of what you said speaks against it."
    count = len(fact["support"])
    return "You said so once." if count == 1 else f"You said so {count} times."


def plain_value(value: Any) -> str:
    """Return the value of an attribute as a text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

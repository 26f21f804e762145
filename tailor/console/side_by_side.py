"""Lists side by side: what moved between two, and a form that compares two versions."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nicegui import ui

from tailor.client import Client
from tailor.console import widgets
from tailor.console.session import Session
from tailor.errors import ServiceError

MOST_PEOPLE = 5  # whose lists are shown at once
K = 10


def people_of(text: str) -> list[str]:
    """Return the ids in a text, separated by commas or lines; a cold user where there are none."""
    ids = [part.strip() for line in text.splitlines() for part in line.split(",")]
    return list(dict.fromkeys(user_id for user_id in ids if user_id))[:MOST_PEOPLE]


class Move(NamedTuple):
    """An item's places in two lists."""

    item_id: str
    title: str
    before: int | None
    """Place in the first list; None: it was not there."""
    after: int | None
    """Place in the second."""

    @property
    def text(self) -> str:
        """Return what happened to the item, in words."""
        if self.before is None:
            return f"new at {self.after}"
        if self.after is None:
            return f"gone from {self.before}"
        if self.before == self.after:
            return f"stays at {self.after}"
        direction = "up" if self.after < self.before else "down"
        return f"{direction} from {self.before} to {self.after}"

    @property
    def step(self) -> str:
        """Return how far the item moved: "new", "up 2", "down 1", and "" where it did not."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        if self.before == self.after:
            return ""
        direction = "up" if self.after < self.before else "down"
        return f"{direction} {abs(self.after - self.before)}"


def moves(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[Move]:
    """Return how items moved from one list to another: the second's order, then what is gone."""
    before = {item["item_id"]: rank for rank, item in enumerate(first, 1)}
    after = {item["item_id"]: rank for rank, item in enumerate(second, 1)}
    titles = {item["item_id"]: item.get("title") or item["item_id"] for item in (*second, *first)}
    return [
        Move(item_id, title, before.get(item_id), after.get(item_id))
        for item_id, title in titles.items()
    ]


def changes(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return for each item of `new` how far it moved, as `Move.step` says it."""
    return {move.item_id: move.step for move in moves(old, new) if move.after is not None}


def shared_count(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> int:
    """Return how many items both lists have."""
    return len({item["item_id"] for item in old} & {item["item_id"] for item in new})


def answering_version(models: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the version that answers with lists in the worker that was asked, None for none.

    Where the version in place cannot be loaded, it is the one from before.
    """
    versions = (m["version"] for m in models if m["answers"] and m["kind"] == "recommends")
    return next(versions, None)


def version_options(models: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Return the versions that recommend as options of a choice, with what people know them by."""
    return {
        model["version"]: version_label(model) for model in models if model["kind"] == "recommends"
    }


def version_label(model: Mapping[str, Any]) -> str:
    """Return a version with its note, or its folder where it has none."""
    text = model["note"] or model["folder"]
    state = ", answers" if model["answers"] else ""
    return f"{model['version']}: {text}{state}"


class SideBySide:
    """A form that compares two versions for people of choice."""

    def __init__(self, session: Session, models: Sequence[Mapping[str, Any]]) -> None:
        self.session = session
        options = version_options(models)
        versions = list(options)
        answering = answering_version(models)
        first = versions[0] if answering is None else answering
        other = max((version for version in versions if version != first), default=first)
        with ui.row().classes("w-full gap-3 items-end"):
            self.people = ui.input("People", placeholder="ids, with commas between them")
            self.people.props("outlined dense").classes("grow")
            self.first = ui.select(options, label="Version", value=first)
            self.other = ui.select(options, label="Compared with", value=other)
            for choice in (self.first, self.other):
                choice.props("outlined dense").classes("min-w-48 max-w-full")
            ui.button("Compare", on_click=self.compare)
        ui.label(
            f"Up to {MOST_PEOPLE} people; none: a cold user. Nobody is shown these lists."
        ).classes("text-sm")
        self.answers = ui.column().classes("w-full gap-4")

    def offer(self, models: Sequence[Mapping[str, Any]], chosen: int | None = None) -> None:
        """Offer other versions; `chosen` is compared with the first one."""
        options = version_options(models)
        self.first.set_options(options)
        self.other.set_options(options, value=chosen if chosen in options else self.other.value)

    async def compare(self) -> None:
        """Ask both versions, and show their lists."""
        versions = (self.first.value, self.other.value)
        people: list[str | None] = [*people_of(self.people.value or "")] or [None]
        self.answers.clear()
        with self.answers:
            ui.spinner().props('aria-label="Asking"')
        lists = []
        try:
            for user_id in people:
                lists.append([await self._list(user_id, version) for version in versions])
        finally:
            self.answers.clear()
        with self.answers:
            for user_id, pair in zip(people, lists, strict=True):
                _show_pair(user_id, versions, pair)

    async def _list(self, user_id: str | None, version: int) -> dict[str, Any]:
        """Return the list of a version, or what it refused."""

        def ask(client: Client) -> dict[str, Any]:
            return client.recommend(user_id, k=K, version=version)

        try:
            return await self.session.ask(ask)
        except ServiceError as error:
            if error.status != 409:
                raise
            return {"items": [], "notes": [str(error)], "model": ""}


def _show_pair(
    user_id: str | None, versions: Sequence[int], pair: Sequence[Mapping[str, Any]]
) -> None:
    """Show two lists of a person beside each other."""
    first, other = pair
    widgets.heading(user_id or "A cold user", 3)
    shared = shared_count(first["items"], other["items"])
    ui.label(f"{shared} of {max(len(other['items']), 1)} items are in both lists").classes(
        "text-sm"
    )
    with ui.element("div").classes("w-full grid gap-4 grid-cols-1 sm:grid-cols-2"):
        marks: tuple[dict[str, str], dict[str, str]] = ({}, changes(first["items"], other["items"]))
        for version, answer, marked in zip(versions, pair, marks, strict=True):
            with ui.column().classes("gap-2 w-full"):
                ui.label(f"Version {version} {answer['model']}".strip()).classes("font-medium")
                _show_list(answer, marked)


def _show_list(answer: Mapping[str, Any], marks: Mapping[str, str]) -> None:
    if not answer["items"]:
        ui.label("An empty list.")
    with ui.element("ol").classes("w-full tailor-items"):
        for rank, item in enumerate(answer["items"], 1):
            with ui.element("li"), ui.row().classes("items-baseline gap-2 no-wrap"):
                ui.label(f"{rank}.").classes("tailor-rank")
                ui.label(str(item.get("title") or item["item_id"])).classes("grow")
                mark = marks.get(item["item_id"], "")
                if mark:
                    ui.label(mark).classes("text-sm font-medium shrink-0")
    for note in answer["notes"]:
        ui.label(note).classes("text-sm")

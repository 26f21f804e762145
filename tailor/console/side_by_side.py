"""Lists of two versions side by side, for people of choice."""

from collections.abc import Mapping, Sequence
from typing import Any

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


def changes(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return for each item of `new` how its place changed: "new", "up 2", "down 1" or ""."""
    ranks = {item["item_id"]: rank for rank, item in enumerate(old, 1)}
    notes = {}
    for rank, item in enumerate(new, 1):
        before = ranks.get(item["item_id"])
        notes[item["item_id"]] = _change(before, rank)
    return notes


def _change(before: int | None, rank: int) -> str:
    if before is None:
        return "new"
    if before == rank:
        return ""
    return f"up {before - rank}" if before > rank else f"down {rank - before}"


def shared_count(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> int:
    """Return how many items both lists have."""
    return len({item["item_id"] for item in old} & {item["item_id"] for item in new})


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
        serving = next((model["version"] for model in models if model["answers"]), None)
        first = serving if serving in options else versions[0]
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

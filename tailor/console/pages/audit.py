"""Audit: which key looked at whose data, when, and through which route."""

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailor.console import widgets
from tailor.console.addresses import open_person
from tailor.console.frame import page
from tailor.console.paging import Pages
from tailor.console.session import Session

PER_PAGE = 50
GONE = "(erased, or never there)"
ROUTES = {
    "history": "the history",
    "memory": "the memory",
    "recommendations": "recommendations with reasons",
    "export": "all that is stored (export)",
    "receipt": "a receipt",
    "erasure": "erased this person",
}


@page("/audit", title="Audit", icon="policy", role="admin", order=80)
async def audit(session: Session) -> None:
    """Show who looked at whom, of all people or of one."""
    await Audit(session).show()


class Audit:
    """The looks, in pages, the latest first."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pages: Pages[int] = Pages(self._turn)

    async def show(self) -> None:
        """Make the filter and the first page."""
        with ui.row().classes("w-full items-center gap-2"):
            self._user_id = ui.input("Exact id of a person").classes("grow")
            self._user_id.props("outlined clearable").on("keydown.enter", self._pages.begin)
            ui.button("Show", on_click=self._pages.begin)
        self._note = ui.label("").classes("text-sm")
        self._list = ui.column().classes("w-full")
        with ui.row().classes("gap-2"):
            self._newer = ui.button("Newer", on_click=self._pages.go_back).props("outline")
            self._older = ui.button("Older", on_click=self._pages.go_on).props("outline")
        await self._turn()

    async def _turn(self) -> None:
        user_id, before = (self._user_id.value or "").strip() or None, self._pages.cursor
        answer = await self._session.ask(lambda client: client.looks(user_id, PER_PAGE, before))
        self._pages.following = answer["next"]
        self._newer.visible = before is not None
        self._older.visible = answer["next"] is not None
        self._note.text = (
            f"Looks are kept for {answer['kept_days']} days. Lists without reasons show nothing of"
            " a person and are not here."
        )
        self._list.clear()
        with self._list:
            _draw(answer["looks"], user_id)


def _draw(looks: Sequence[Mapping[str, Any]], user_id: str | None) -> None:
    if not looks:
        whom = "this person" if user_id else "anybody"
        widgets.empty(f"Nobody has looked at {whom}", "Check the id, or leave it out.")
        return
    columns = [("whom", "Whom"), ("what", "What was seen"), ("key", "By"), ("when", "When (UTC)")]
    widgets.table(columns, look_rows(looks), _open)


def _open(row: Mapping[str, Any]) -> None:
    """Go to the person of a look, who may be gone."""
    if row["whom"] == GONE:
        ui.notify("This person is not there any more.")
    else:
        open_person(row["whom"])


def look_rows(looks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return looks as rows of the table."""
    return [
        {
            "id": number,
            "when": widgets.when(look["time_ms"]),
            "key": look["key"],
            "whom": look["user_id"] or GONE,
            "what": ROUTES.get(look["route"], look["route"]),
        }
        for number, look in enumerate(looks)
    ]

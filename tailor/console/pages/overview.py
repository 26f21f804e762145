"""The page Overview: alerts first, then counts with their trends, latency and refits."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from nicegui import ui

from tailor.client import Client
from tailor.console import frame, widgets
from tailor.console.frame import page
from tailor.console.session import Session, is_away
from tailor.errors import ServiceError

REFRESH_S = 15.0
DAYS = 15  # today, and two weeks to compare
WEEK = 7
MINUTE_MS = 60_000
LATENCY_MINUTES = 60
ICONS = {"error": "error", "warning": "warning", "hint": "lightbulb"}
LEVELS = {"error": "Error", "warning": "Warning", "hint": "Next step"}
REFIT_COLUMNS = [
    ("version", "Version"),
    ("kind", "What it does"),
    ("answers", "Answers now"),
    ("made", "Made (UTC)"),
    ("served", "Answered since (UTC)"),
    ("note", "Note"),
]
CURL = """curl -s {server}/v1/events -H "Authorization: Bearer $KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{"events": [{{"event_id": "1", "user_id": "ann", "item_id": "mug"}}]}}'"""
Answer = Mapping[str, Any]


@page("/", title="Overview", icon="dashboard", role="read", order=0)
async def overview(session: Session) -> None:
    """Show how the shop is, and look again every quarter of a minute."""
    if not session.may("admin"):
        _other_pages(session)
        return
    ask: Callable[[Client], dict[str, Any]] = lambda client: client.overview(DAYS)  # noqa: E731
    answer = await session.ask(ask)
    board = _Board(session, answer)

    async def refresh() -> None:
        try:
            board.draw(await session.ask(ask))
        except ServiceError as error:
            if not is_away(error):  # else the banner says so
                raise

    ui.timer(REFRESH_S, refresh, immediate=False)


class _Board:
    """The parts of the page, which are filled again in place."""

    def __init__(self, session: Session, answer: Answer) -> None:
        self._draws: list[Callable[[Answer], None]] = []
        self._add_alerts()
        if is_empty(answer):
            _next_steps(session.server)
        self._add_counts()
        self._add_freshness()
        self._add_days(answer)
        self._add_latency(answer)
        self._add_refits()
        self.draw(answer)

    def draw(self, answer: Answer) -> None:
        """Fill all parts."""
        for draw in self._draws:
            draw(answer)

    def _add_alerts(self) -> None:
        with ui.column().classes("w-full gap-2").props('role="status" aria-label="Alerts"') as row:
            pass
        drawn: list[Any] = [None]

        def draw(answer: Answer) -> None:
            if answer["alerts"] == drawn[0]:
                return
            drawn[0] = answer["alerts"]
            row.clear()
            with row:
                for alert in answer["alerts"]:
                    _alert(alert)

        self._draws.append(draw)

    def _add_counts(self) -> None:
        with widgets.section("What is stored"), ui.row().classes("w-full gap-x-8 gap-y-4"):
            for name, read in FIGURES.items():
                self._draws.append(partial(_fill, _Figure(name), read))

    def _add_freshness(self) -> None:
        with widgets.section("How recent it is"), ui.row().classes("w-full gap-x-8 gap-y-4"):
            for name, read in AGES.items():
                self._draws.append(partial(_fill, _Figure(name), read))

    def _add_days(self, answer: Answer) -> None:
        with widgets.section(f"The last {DAYS} days"), _grid():
            for title, (read, unit) in DAY_CHARTS.items():
                self._add_chart(answer, title, read, unit)

    def _add_latency(self, answer: Answer) -> None:
        with widgets.section("Answers of this worker, by minute"):
            since = ui.label().classes("text-sm")
            self._draws.append(lambda answer: _set(since, _since(answer)))
            with _grid():
                for title, (read, unit) in MINUTE_CHARTS.items():
                    self._add_chart(answer, title, read, unit)

    def _add_chart(
        self, answer: Answer, title: str, read: Callable[[Answer], widgets.Lines], unit: str
    ) -> None:
        with ui.column().classes("w-full gap-1"):
            draw = widgets.line_chart(title, read(answer), unit)
        self._draws.append(lambda answer: draw(read(answer)))

    def _add_refits(self) -> None:
        with widgets.section("Models and refits"):
            table = widgets.table(REFIT_COLUMNS, [], key="version", per_page=10)
            none = ui.label("No model is registered: run `tailor refit counting`.")

        def draw(answer: Answer) -> None:
            table.rows = [refit_row(row) for row in answer["refits"]]
            table.visible = bool(answer["refits"])
            none.visible = not answer["refits"]

        self._draws.append(draw)


class _Figure:
    """A number with its name and its trend, which can be set again."""

    def __init__(self, name: str) -> None:
        with ui.column().classes("gap-0 tailor-figure"):
            ui.label(name).classes("text-sm")
            self._value = ui.label().classes("text-2xl font-medium")
            self._note = ui.label().classes("text-xs")

    def set(self, value: str, note: str) -> None:
        """Show another value and note."""
        self._value.text = value
        self._note.text = note


def _fill(figure: _Figure, read: Callable[[Answer], tuple[str, str]], answer: Answer) -> None:
    figure.set(*read(answer))


def _set(label: ui.label, text: str) -> None:
    label.text = text


def _grid() -> ui.element:
    """Return a place for charts: two beside each other where there is room."""
    return ui.element("div").classes("w-full grid grid-cols-1 lg:grid-cols-2 gap-6")


def _alert(alert: Mapping[str, str]) -> None:
    level = alert["level"]
    with (
        ui.card().classes("w-full tailor-card").props("flat bordered"),
        ui.row().classes("w-full items-start gap-3 no-wrap"),
    ):
        ui.icon(ICONS.get(level, "info"), size="1.5rem").props("aria-hidden=true")
        with ui.column().classes("gap-1"):
            ui.label(f"{LEVELS.get(level, level)}: {alert['text']}").classes("font-medium")
            ui.label(alert["remedy"]).classes("text-sm")


def _other_pages(session: Session) -> None:
    """Name the pages of a key that may not see the figures."""
    with widgets.section("Your key"):
        ui.label(
            f"It has the role “{session.caller.get('role', '')}”. The figures of the overview"
            " need"
            " the role “admin”. These pages are yours:"
        )
        for entry in sorted(frame.PAGES, key=lambda entry: entry.order):
            if entry.icon and entry.path != "/" and session.may(entry.role):
                ui.link(entry.title, entry.path)


def _next_steps(server: str) -> None:
    """Say how the first events come in."""
    with widgets.section("Start here"):
        ui.label(
            "Nothing has happened yet. Send an event from your site, with a key of the role"
            " “write” in place of $KEY:"
        )
        ui.code(CURL.format(server=server), language="bash").classes("w-full")
        with ui.row().classes("gap-1"):
            ui.label("Or import a file of events on the page")
            ui.link("Data", "/data")
        ui.label("Then learn from it: tailor refit counting")


# ---- what is read of an answer


def is_empty(answer: Answer) -> bool:
    """Return whether nothing has happened yet."""
    return not answer["counts"]["events"]


def _counted(name: str, field: str, answer: Answer) -> tuple[str, str]:
    """Return a count, with what the last week brought beside the week before."""
    return f"{answer['counts'][name]:,}", week_trend([day[field] for day in answer["days"]])


def week_trend(values: Sequence[float]) -> str:
    """Return today's value, and the change of the seven days before against the seven before those.

    Today is not over, so that it takes no part in the comparison.
    """
    *past, today = values
    last, before = sum(past[-WEEK:]), sum(past[-2 * WEEK : -WEEK])
    trend = f", {last / before - 1:+.0%} on the 7 before" if before else ""
    return f"{today:,.0f} today; {last:,.0f} in the 7 days before{trend}"


def _people(answer: Answer) -> tuple[str, str]:
    days = answer["days"]
    yesterday = days[-2]["people"] if len(days) > 1 else 0
    return (
        f"{answer['counts']['people']:,}",
        f"{days[-1]['people']:,} active today, {yesterday:,} yesterday",
    )


def _items(answer: Answer) -> tuple[str, str]:
    counts = answer["counts"]
    return f"{counts['items']:,}", f"{counts['blocked']:,} blocked"


def _coverage(answer: Answer) -> tuple[str, str]:
    today = answer["days"][-1]["coverage"]
    return percent(answer["coverage"]), f"of the items shown; today {percent(today)}"


def _choices(answer: Answer) -> tuple[str, str]:
    days = answer["days"]
    before = _choice_share(days[-WEEK - 1 : -1])
    return percent(_choice_share(days[-1:])), f"today; the 7 days before: {percent(before)}"


def _choice_share(days: Sequence[Answer]) -> float | None:
    """Return the share of the lists of some days with a choice, None without lists."""
    lists = sum(day["lists"] for day in days)
    return sum(day["chosen"] for day in days) / lists if lists else None


def percent(share: float | None) -> str:
    """Return a share in percent, a dash for None."""
    return "–" if share is None else f"{share:.1%}"


def age_of(time_ms: int | None, now_ms: float) -> str:
    """Return how long ago a moment was, in words."""
    if time_ms is None:
        return "not known"
    return f"{widgets.ago(max(0.0, (now_ms - time_ms) / 1000))} ago"


def _age(field: str, answer: Answer) -> tuple[str, str]:
    time_ms = answer["freshness"][field]
    return age_of(time_ms, time.time() * 1000), "" if time_ms is None else widgets.when(time_ms)


def _since_model(answer: Answer) -> tuple[str, str]:
    events = answer["freshness"]["events_since_model"]
    total = answer["counts"]["events"]
    note = f"{events / total:.0%} of all events" if total else ""
    return f"{events:,}", note


def refit_row(row: Answer) -> dict[str, Any]:
    """Return a version as a row of the table."""
    return {
        "version": row["version"],
        "kind": row["kind"],
        "answers": "yes" if row["answers"] else "no",
        "made": widgets.when(row["made_ms"]),
        "served": widgets.when(row["served_ms"]),
        "note": row["note"],
    }


def day_lines(answer: Answer, names: Mapping[str, str], factor: float = 1) -> widgets.Lines:
    """Return a line for each field of the days."""
    return {
        label: [
            (day["start_ms"], None if day[field] is None else day[field] * factor)
            for day in answer["days"]
        ]
        for field, label in names.items()
    }


def _choice_line(answer: Answer) -> widgets.Lines:
    points = [(day["start_ms"], _choice_share([day])) for day in answer["days"]]
    return {
        "Lists with a choice": [
            (start_ms, None if share is None else share * 100) for start_ms, share in points
        ]
    }


def minute_lines(answer: Answer, names: Mapping[str, str], empty: float | None) -> widgets.Lines:
    """Return a line for each field of the last minutes; `empty` stands where nothing was asked."""
    minutes = {minute["time_ms"]: minute for minute in answer["latency"]["minutes"]}
    last_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    if min(minutes, default=last_ms) < last_ms:
        last_ms -= MINUTE_MS  # the minute that runs would look like a fall
    times = [last_ms - age * MINUTE_MS for age in range(LATENCY_MINUTES, -1, -1)]
    return {
        label: [
            (time_ms, minutes[time_ms][field] if time_ms in minutes else empty) for time_ms in times
        ]
        for field, label in names.items()
    }


def _since(answer: Answer) -> str:
    started = widgets.when(answer["latency"]["since_ms"])
    return (
        f"Of the worker that was asked, which started {started} UTC; the last hour."
        " Where several workers run, each counts its own."
    )


FIGURES: dict[str, Callable[[Answer], tuple[str, str]]] = {
    "Events": partial(_counted, "events", "events"),
    "Lists shown": partial(_counted, "lists", "lists"),
    "Lists with a choice": _choices,
    "People": _people,
    "Items": _items,
    "Coverage": _coverage,
}
AGES: dict[str, Callable[[Answer], tuple[str, str]]] = {
    "Last event": partial(_age, "last_event_ms"),
    "Last change of an item": partial(_age, "last_item_change_ms"),
    "Model made": partial(_age, "model_made_ms"),
    "Events since the model": _since_model,
}
DAY_CHARTS: dict[str, tuple[Callable[[Answer], widgets.Lines], str]] = {
    "Events and lists a day": (
        partial(day_lines, names={"events": "Events", "lists": "Lists"}),
        "",
    ),
    "Active people a day": (partial(day_lines, names={"people": "People"}), ""),
    "Lists with a choice": (_choice_line, "%"),
    "Items shown": (partial(day_lines, names={"coverage": "Coverage"}, factor=100), "%"),
}
MINUTE_CHARTS: dict[str, tuple[Callable[[Answer], widgets.Lines], str]] = {
    "Milliseconds to an answer": (
        partial(
            minute_lines,
            names={"median_ms": "Median", "p99_ms": "99 of 100"},
            empty=None,
        ),
        "ms",
    ),
    "Requests a minute": (
        partial(
            minute_lines,
            names={"requests": "Requests", "refused": "Refused", "errors": "Errors"},
            empty=0,
        ),
        "",
    ),
}

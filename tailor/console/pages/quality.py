"""The page of quality: how a version was judged, its learning curves, and lists side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailor.client import Client
from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.session import Session
from tailor.console.side_by_side import SideBySide, version_options

METRIC = "NDCG@10"
SEEN = {"removed": "new items only", "kept": "seen items too"}
NAMES = {"serving": "serving", "new": "this version"}


@page("/quality", title="Quality", icon="insights", role="admin", order=46)
async def quality(session: Session, version: int | None = None) -> None:
    """Show how a version was judged when it was made."""
    models = await session.ask(lambda client: client.models())
    options = version_options(models)
    if not options:
        widgets.empty(
            "No model yet", "Fit one on the page Pipeline: it is judged while it is made."
        )
        return
    first = version if version in options else max(options)
    content = ui.column()

    async def show() -> None:
        chosen = choice.value

        def ask(client: Client) -> dict[str, Any]:
            return client.model(chosen)

        details = await session.ask(ask)
        content.clear()
        with content:
            _show_version(details)

    choice = ui.select(options, label="Version", value=first, on_change=show)
    choice.props("outlined dense").classes("w-full max-w-xl")
    content.classes("w-full gap-4").move(target_index=-1)
    await show()
    with widgets.section("Two versions for one person"):
        SideBySide(session, models)


def _show_version(details: Mapping[str, Any]) -> None:
    """Show the judgement of a version and what its fit reported."""
    if details["problem"]:
        with widgets.section("It cannot be read"):
            ui.label(details["problem"]).props('role="alert"').classes("text-negative")
        return
    judged = details["quality"]
    if judged is None:
        with widgets.section("Judgement"):
            widgets.empty(
                "This version was not judged",
                "Refits of the page Pipeline judge a new version beside the one that answers.",
            )
    else:
        _show_judgement(judged)
    with widgets.section("Learning curves"):
        if not details["curves"]:
            ui.label("It has no net that was trained in epochs.")
        for curve in details["curves"]:
            widgets.curve_chart(curve["name"], {curve["name"]: curve["points"]}, "Epoch")


def _show_judgement(judged: Mapping[str, Any]) -> None:
    report = judged["report"]
    with widgets.section("Judgement"):
        ui.label(verdict(judged)).classes("text-base font-medium")
        ui.label(
            f"{report['users']:,} people, on what they did after the {judged['events']:,} events"
            " that both learned from."
        )
        for note in judged["notes"]:
            ui.label(note).classes("text-sm")
        rows = comparison_rows(judged["comparisons"])
        if rows:
            columns = [
                ("metric", "Metric"),
                ("seen", "Lists with"),
                ("difference", "Difference"),
                ("interval", "95 % interval"),
                ("p", "p (Holm)"),
                ("people", "Better / worse"),
            ]
            widgets.table(columns, rows)
        means = mean_bars(report)
        widgets.bar_chart(f"{METRIC}, new items only", means)
    _show_people(judged["people"])
    with widgets.section("Groups of people and items"):
        for title, bars in strata_bars(report).items():
            widgets.bar_chart(title, bars)
    with widgets.section("The lists as a whole"):
        columns = [
            ("who", "Version"),
            ("seen", "Lists with"),
            ("coverage", "Coverage"),
            ("gini", "Gini"),
            ("novelty_bits", "Novelty (bits)"),
            ("tail_share", "Share of rare items"),
            ("personalisation", "Personalisation"),
            ("short", "Too short"),
        ]
        widgets.table(columns, list_rows(report))
    _show_findings(judged["findings"])


def _show_people(people: Mapping[str, Any] | None) -> None:
    """Show how many people are better off, and by how much."""
    if people is None:
        return
    with widgets.section("Who is better off"):
        with ui.row().classes("gap-6"):
            for name in ("better", "same", "worse"):
                widgets.figure(f"People {name}", f"{people[name]:,}")
        bars = [
            (f"{edge_text(low)} to {edge_text(high)}", float(count), None, None)
            for low, high, count in zip(
                people["edges"], people["edges"][1:], people["counts"], strict=False
            )
        ]
        widgets.bar_chart(f"People by the difference of their {people['metric']}", bars, "people")


def edge_text(edge: float) -> str:
    """Return the edge of a range of differences, with its sign."""
    return f"{edge:+g}" if edge else "0"


def _show_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """Show what the diagnosis of the events found."""
    with widgets.section("Diagnosis of the events"):
        if not findings:
            ui.label("Nothing was found that would make these figures untrue.")
        for finding in findings:
            mark = "Wrong" if finding["wrong"] else "Look at this"
            with ui.column().classes("gap-0"):
                ui.label(f"{mark}: {finding['says']}").classes("font-medium")
                ui.label(finding["remedy"]).classes("text-sm")


def verdict(judged: Mapping[str, Any]) -> str:
    """Return in words how a version compares with the serving one."""
    row = next(
        (
            row
            for row in judged["comparisons"]
            if (row["metric"], row["seen"]) == (METRIC, "removed")
        ),
        None,
    )
    if row is None:
        return "It was judged by itself: nothing answered yet that it could be compared with."
    against = f"version {judged['against']}"
    if row["low"] is not None and row["low"] > 0:
        return f"Better than {against}: {METRIC} {row['difference']:+.4f}."
    if row["high"] is not None and row["high"] < 0:
        return f"Worse than {against}: {METRIC} {row['difference']:+.4f}."
    return f"Not told apart from {against}: {METRIC} {row['difference']:+.4f}."


def comparison_rows(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparisons as rows of a table."""
    return [
        {
            "id": f"{row['metric']} {row['seen']}",
            "metric": row["metric"],
            "seen": SEEN.get(row["seen"], row["seen"]),
            "difference": f"{row['difference']:+.4f}",
            "interval": widgets.interval(row["low"], row["high"]),
            "p": widgets.number(row["p_holm"]),
            "people": f"{row['wins']:,} / {row['losses']:,}",
        }
        for row in comparisons
    ]


Bar = tuple[str, float, float | None, float | None]


def mean_bars(report: Mapping[str, Any]) -> list[Bar]:
    """Return a bar for each version: its mean over all people."""
    return [
        (NAMES.get(row["method"], row["method"]), row["mean"], row["low"], row["high"])
        for row in report["metrics"]
        if row["metric"] == METRIC and row["seen"] == "removed" and row["mean"] is not None
    ]


def strata_bars(report: Mapping[str, Any]) -> dict[str, list[Bar]]:
    """Return bars by kind of group: the versions of one group stand together."""
    groups: dict[str, list[Bar]] = {}
    rows = [
        row
        for row in report["strata"]
        if row["metric"] == METRIC and row["seen"] == "removed" and row["mean"] is not None
    ]
    for stratum in dict.fromkeys(row["stratum"] for row in rows):
        kind = "history" if stratum.startswith("history") else "item"
        title = f"{METRIC} by length of {kind}" if kind == "history" else f"{METRIC} by item"
        bars = groups.setdefault(title, [])
        for row in rows:
            if row["stratum"] == stratum:
                name = NAMES.get(row["method"], row["method"])
                label = f"{stratum}, {name} ({row['users']:,})"
                bars.append((label, row["mean"], row["low"], row["high"]))
    return groups


def list_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return figures of the lists as rows of a table."""
    columns = ("coverage", "gini", "novelty_bits", "tail_share", "personalisation", "short")
    return [
        {
            "id": f"{row['method']} {row['seen']}",
            "who": NAMES.get(row["method"], row["method"]),
            "seen": SEEN.get(row["seen"], row["seen"]),
            **{name: widgets.number(row[name]) for name in columns},
        }
        for row in report["lists"]
    ]

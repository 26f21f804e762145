"""The page Papers: all papers with what is built of them, verdicts and figures."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from nicegui import ui

from tailor.console import widgets
from tailor.console.frame import page
from tailor.console.session import Session

ALL, UNBUILT = "all", "not built"
PER_PAGE = 20
COLUMNS = [
    ("title", "Paper"),
    ("room", "Package"),
    ("verdict", "Verdict"),
    ("checks", "Checks that held"),
    ("figure", "Figure"),
]
Paper = Mapping[str, Any]


@page("/papers", title="Papers", icon="menu_book", role="read", order=90)
async def papers(session: Session) -> None:
    """Show the papers, to be searched and filtered by verdict."""
    listed = all_papers()
    counts = Counter(verdict_of(paper) for paper in listed)
    ui.label(
        f"{len(listed)} papers; {sum(map(is_built, listed))} are built here. “Held” means that"
        " every check of a paper's claim came out when it was measured; “not reproduced” that"
        " one"
        " did not."
    )
    with ui.row().classes("w-full gap-4 items-end"):
        words = ui.input("Search title, method or claim").classes("grow").props("clearable")
        verdicts = {ALL: f"all ({len(listed)})"}
        verdicts |= {name: f"{name} ({count})" for name, count in counts.most_common()}
        verdict = ui.select(verdicts, label="Verdict", value=ALL).classes("min-w-48")
        rooms = [ALL, *sorted({paper["room"] for paper in listed})]
        room = ui.select(rooms, label="Package", value=ALL).classes("min-w-40")
    count = ui.label().props('role="status"').classes("text-sm")
    table = widgets.table(COLUMNS, [], on_click=_open, key="slug", per_page=PER_PAGE)

    def draw() -> None:
        chosen = matching(listed, words.value or "", str(verdict.value), str(room.value))
        table.rows = [paper_row(paper) for paper in chosen]
        count.text = f"{len(chosen)} papers" if chosen else "No paper has all of these words."

    for field in (words, verdict, room):
        field.on_value_change(draw)
    draw()


@cache
def all_papers() -> list[dict[str, Any]]:
    """Return all papers, as `tailor bench papers` wrote them into the package."""
    text = files("tailor.console").joinpath("papers.json").read_text(encoding="utf-8")
    return list(json.loads(text))


def is_built(paper: Paper) -> bool:
    """Return whether a method or a study carries the paper."""
    return "method" in paper


def verdict_of(paper: Paper) -> str:
    """Return the verdict of a paper, with a word where its method has changed since."""
    if not is_built(paper):
        return UNBUILT
    verdict = str(paper.get("verdict", "not measured"))
    return f"{verdict}, {paper['state']}" if paper.get("state") else verdict


def matching(papers: Sequence[Paper], words: str, verdict: str, room: str) -> list[Paper]:
    """Return the papers with all words, in any case, that verdict and that package."""
    parts = words.casefold().split()
    return [
        paper
        for paper in papers
        if verdict in (ALL, verdict_of(paper))
        and room in (ALL, paper["room"])
        and all(word in _text(paper) for word in parts)
    ]


def _text(paper: Paper) -> str:
    """Return what is searched of a paper."""
    fields = (paper.get(name, "") for name in ("title", "slug", "method", "claim"))
    return " ".join(fields).casefold()


def paper_row(paper: Paper) -> dict[str, Any]:
    """Return a paper as a row of the table."""
    checks = paper.get("checks", {})
    return {
        "slug": paper["slug"],
        "title": paper["title"],
        "room": paper["room"],
        "verdict": verdict_of(paper),
        "checks": f"{sum(checks.values())} of {len(checks)}" if checks else "",
        "figure": figure_text(paper.get("figure")),
    }


def figure_text(figure: Mapping[str, Any] | None) -> str:
    """Return the first figure of a record that has an interval, empty without one."""
    if not figure:
        return ""
    numbers = f"{figure['difference']:+.4g} [{figure['low']:+.4g}, {figure['high']:+.4g}]"
    return f"{figure['name']} {numbers}".strip()


def _open(row: Mapping[str, Any]) -> None:
    """Show a paper whole."""
    paper = next(paper for paper in all_papers() if paper["slug"] == row["slug"])
    with ui.dialog() as dialog, ui.card().classes("w-full max-w-2xl"):
        widgets.heading(paper["title"], 2)
        ui.label(f"{paper['room']}, {paper['kind']}; verdict: {verdict_of(paper)}")
        if is_built(paper):
            _show_built(paper)
        else:
            ui.label("It is not built yet.")
        ui.button("Close", on_click=dialog.close).props("flat autofocus")
    dialog.on("hide", dialog.delete)
    dialog.open()


def _show_built(paper: Paper) -> None:
    if paper["url"].startswith("https://"):
        ui.link("The paper", paper["url"], new_tab=True)
    widgets.heading("The claim that was measured", 3)
    ui.label(paper["claim"])
    if paper.get("checks"):
        widgets.heading("Checks", 3)
        for promise, held in paper["checks"].items():
            with ui.row().classes("items-start gap-2 no-wrap"):
                ui.icon("check" if held else "close").props("aria-hidden=true")
                ui.label(f"{'Held' if held else 'Did not hold'}: {promise}").classes("text-sm")
    if paper.get("figure"):
        ui.label(f"Figure with its 95 % interval: {figure_text(paper['figure'])}")
    if paper.get("data"):
        ui.label(f"Measured on {', '.join(paper['data'])}; {len(paper['seeds'])} seeds")
    name = paper["method"].rpartition(".")[2]
    ui.label("In the code and the documentation:").classes("text-sm")
    ui.code(
        f"tailor methods {name}\n"
        f"from tailor.{paper['method'].rpartition('.')[0]} import {name}\n"
        f"benchmarks/claims/{paper['slug']}.json",
        language="bash",
    ).classes("w-full")

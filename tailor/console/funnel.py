"""The funnel of a list: stages with the items that each let through and the time it took."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nicegui import ui

from tailor.console import widgets

LEAST_WIDTH = 0.5  # per cent of a bar that stands for something
INDENT_REM = 1.0  # of a stage within another
MOST_INDENTS = 4  # that narrow screens have room for


class Row(NamedTuple):
    """A stage as it is drawn."""

    name: str
    settings: str
    counts: str
    """Items in and out, as a text."""
    time: str
    width: float
    """Of its bar, in per cent."""
    depth: int
    """Stages around it."""


def rows_of(stages: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of a trace, each stage before those within it."""
    flat = list(_flattened(stages, 0))
    counts = [stage["items_in"] or stage["items_out"] for stage, _ in flat]
    answers = [stage["items_out"] for stage, _ in flat]
    most = max([*counts, *answers], default=0)
    return [_row(stage, depth, most) for stage, depth in flat]


def _flattened(
    stages: Sequence[Mapping[str, Any]], depth: int
) -> Iterator[tuple[Mapping[str, Any], int]]:
    for stage in stages:
        yield stage, depth
        yield from _flattened(stage["parts"], depth + 1)


def _row(stage: Mapping[str, Any], depth: int, most: int) -> Row:
    items_in, items_out = stage["items_in"], stage["items_out"]
    share = 100 * items_out / most if most else 0.0
    before = "" if items_in is None else f"{items_in:,} → "
    return Row(
        stage["name"],
        stage["settings"],
        f"{before}{items_out:,} items",
        milliseconds(stage["ms"]),
        max(share, LEAST_WIDTH) if items_out else 0.0,
        depth,
    )


def milliseconds(value: float) -> str:
    """Return a time as a text: "0.02 ms", "340 ms"."""
    digits = 0 if value >= 10 else 2
    return f"{value:.{digits}f} ms"


def draw_funnel(trace: Mapping[str, Any]) -> None:
    """Draw the stages of a trace, from the stored items to the list."""
    with ui.element("ol").classes("w-full tailor-items").props('aria-label="Stages of the list"'):
        for row in rows_of(trace["stages"]):
            _draw_row(row)
    ui.label(f"In all {milliseconds(trace['total_ms'])}, from the question to the list").classes(
        "text-sm"
    )


def _draw_row(row: Row) -> None:
    indent = INDENT_REM * min(row.depth, MOST_INDENTS)
    with ui.element("li").style(f"margin-left: {indent}rem"):
        with ui.row().classes("w-full items-baseline gap-2"):
            ui.label(row.name).classes("font-medium")
            ui.space()
            ui.label(f"{row.counts}, {row.time}").classes("text-sm")
        with (
            ui.element("div")
            .classes("w-full")
            .style("height: .5rem; border-radius: .25rem; background: #8883")
        ):
            ui.element("div").style(
                f"height: 100%; border-radius: .25rem; width: {row.width:.1f}%;"
                f" background: {widgets.COLOURS[min(row.depth, len(widgets.COLOURS) - 1)]}"
            )
        if row.settings:
            ui.label(row.settings).classes("text-xs")

"""Parts that the console's pages share.

Texts of people and shops go into labels and cells, which show them as they are: never into HTML.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

Lines = Mapping[str, Sequence[tuple[int, float | None]]]
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
MOST_SYMBOLS = 31  # points of a line that are marked
CHART_HEIGHT = "height: 16rem"
FAINT: dict[str, Any] = {"splitLine": {"lineStyle": {"color": "#8884"}}}
COLOURS = ("#4f8fe6", "#e08a2e", "#3aa17e", "#c2588f", "#8f7bd8")
WHISKER = """
(params, api) => {
  const low = api.coord([api.value(1), api.value(0)]);
  const high = api.coord([api.value(2), api.value(0)]);
  const style = {stroke: 'currentColor', lineWidth: 2};
  const line = (x1, y1, x2, y2) => ({type: 'line', shape: {x1, y1, x2, y2}, style});
  return {type: 'group', children: [
    line(low[0], low[1], high[0], high[1]),
    line(low[0], low[1] - 5, low[0], low[1] + 5),
    line(high[0], high[1] - 5, high[0], high[1] + 5),
  ]};
}
"""  # an interval of a bar, as ECharts draws custom series


@contextmanager
def section(title: str) -> Iterator[ui.column]:
    """Make a card with a heading; what is made inside the context stands in it."""
    with ui.card().classes("w-full tailor-card").props("flat bordered"):
        heading(title, 2)
        with ui.column().classes("w-full gap-3") as body:
            yield body


def heading(text: str, level: int) -> None:
    """Make a heading; the page's own is of level 1, those of sections of level 2."""
    with ui.element(f"h{level}").classes(f"tailor-h{level}"):
        ui.label(text)


def empty(text: str, hint: str) -> None:
    """Say that there is nothing, and what to do next."""
    with ui.column().classes("w-full items-center gap-1 p-6 tailor-empty"):
        ui.icon("inbox", size="2.5rem").props("aria-hidden=true")
        ui.label(text).classes("text-base font-medium")
        ui.label(hint).classes("text-sm text-center")


def figure(name: str, value: str, note: str = "") -> None:
    """Show one number with its name, and a note such as its trend."""
    with ui.column().classes("gap-0 tailor-figure"):
        ui.label(name).classes("text-sm")
        ui.label(value).classes("text-2xl font-medium")
        if note:
            ui.label(note).classes("text-xs")


def table(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Mapping[str, Any]],
    on_click: Callable[[dict[str, Any]], Any] | None = None,
    key: str = "id",
    per_page: int = 0,
) -> ui.table:
    """Make a table of (field, label) columns; a clicked row calls `on_click` with it.

    A row that can be clicked can be chosen with Tab and Enter too. With `per_page` it has pages.
    """
    rendered = ui.table(
        columns=[
            {"name": name, "label": label, "field": name, "align": "left", "sortable": True}
            for name, label in columns
        ],
        rows=[dict(row) for row in rows],
        row_key=key,
        pagination=per_page or None,
    ).classes("w-full tailor-table")
    rendered.props('flat bordered wrap-cells :grid="Quasar.Screen.lt.sm"')
    rendered.add_slot("item", _CARD.replace("OPENS", "true" if on_click else "false"))
    if on_click is not None:
        rendered.add_slot("body-cell-" + columns[0][0], _OPENING_CELL)
        rendered.on("open", lambda event: on_click(event.args))
        rendered.on("row-click", lambda event: on_click(event.args[1]), [[], ["*"], None])
        rendered.classes("cursor-pointer")
    return rendered


_OPENING_CELL = """
<q-td :props="props">
  <button class="tailor-open" @click.stop="$parent.$emit('open', props.row)">
    {{ props.value }}
  </button>
</q-td>
"""  # the first cell of a row, as a button that the keyboard reaches; {{ }} escapes
_CARD = """
<div class="col-12 q-pb-sm">
  <q-card flat bordered class="q-pa-sm">
    <div v-for="(col, rank) in props.cols" :key="col.name" class="row no-wrap items-baseline">
      <div class="text-caption" style="width: 7.5rem; flex: none">{{ col.label }}</div>
      <button v-if="OPENS && rank === 0" class="tailor-open"
        @click="$parent.$emit('open', props.row)">{{ col.value }}</button>
      <div v-else style="overflow-wrap: anywhere">{{ col.value }}</div>
    </div>
  </q-card>
</div>
"""  # a row on a narrow screen


def line_chart(
    title: str, series: Lines, unit: str = "", most: float | None = None
) -> Callable[[Lines], None]:
    """Draw lines over time: for each name (milliseconds, value) pairs, with a table below.

    `most` is the end of the axis of values. Returns a function that draws other lines in place.
    """
    options = {
        **_base_options(title, list(series)),
        "xAxis": {"type": "time", "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "name": unit, "min": 0, "max": most, **FAINT},
        "series": _lines(series),
    }
    chart = _chart(title, options)
    columns = [("name", "Line"), ("when", "When"), ("value", unit or "Value")]
    numbers = _numbers_below(title, columns, _points(series))

    def draw(series: Lines) -> None:
        chart.options["series"] = _lines(series)
        chart.update()
        numbers.rows = _points(series)

    return draw


def _lines(series: Lines) -> list[dict[str, Any]]:
    """Return lines as ECharts takes them."""
    return [
        {
            "name": name,
            "type": "line",
            # a point between gaps would not be seen without its symbol
            "showSymbol": sum(value is not None for _, value in points) <= MOST_SYMBOLS,
            "data": _as_lists(points),
        }
        for name, points in series.items()
    ]


def _points(series: Lines) -> list[dict[str, Any]]:
    """Return the points of lines as rows of a table, the latest first."""
    return [
        {"id": f"{name} {at_ms}", "name": name, "when": when(at_ms), "value": number(value)}
        for name, points in series.items()
        for at_ms, value in reversed(points)
    ]


def bar_chart(
    title: str,
    bars: Sequence[tuple[str, float, float | None, float | None]],
    unit: str = "",
) -> None:
    """Draw bars of (name, value, low, high); low and high are an interval, None without one."""
    names = [name for name, *_ in bars]
    intervals = [
        [rank, low, high]
        for rank, (_, _, low, high) in enumerate(bars)
        if low is not None and high is not None
    ]
    options = {
        **_base_options(title, []),
        "xAxis": {"type": "value", "name": unit, **FAINT},
        "yAxis": {"type": "category", "data": names, "inverse": True},
        "series": [
            {"type": "bar", "data": [value for _, value, *_ in bars], "barMaxWidth": 24},
            {
                "type": "custom",
                ":renderItem": WHISKER,
                "data": intervals,
                "encode": {"x": [1, 2], "y": 0},
                "z": 3,
            },
        ],
    }
    _chart(title, options, f"height: {6 + 2 * len(bars)}rem")
    rows = [
        {"id": name, "name": name, "value": number(value), "interval": interval(low, high)}
        for name, value, low, high in bars
    ]
    columns = [("name", "Bar"), ("value", unit or "Value"), ("interval", "95 % interval")]
    _numbers_below(title, columns, rows)


def curve_chart(
    title: str, series: Mapping[str, Sequence[Sequence[float]]], across: str, unit: str = ""
) -> None:
    """Draw lines of (number, value) pairs, such as a loss over epochs, with a table below."""
    lines = [
        {"name": name, "type": "line", "showSymbol": False, "data": [list(pair) for pair in points]}
        for name, points in series.items()
    ]
    options = {
        **_base_options(title, list(series)),
        "xAxis": {"type": "value", "name": across, "minInterval": 1, **FAINT},
        "yAxis": {"type": "value", "name": unit, "scale": True, **FAINT},
        "series": lines,
    }
    _chart(title, options)
    rows = [
        {"id": f"{name} {x}", "name": name, "x": number(x), "value": number(value)}
        for name, points in series.items()
        for x, value in points
    ]
    _numbers_below(title, [("name", "Line"), ("x", across), ("value", unit or "Value")], rows)


def _as_lists(points: Sequence[tuple[int, float | None]]) -> list[list[float | None]]:
    return [[at_ms, value] for at_ms, value in points]


def _base_options(title: str, names: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "aria": {"enabled": True, "label": {"description": title}},
        "tooltip": {"trigger": "axis"},
        "grid": {"left": 8, "right": 24, "top": 36, "bottom": 8, "containLabel": True},
        "animation": False,
        "color": list(COLOURS),
    }
    if len(names) > 1:
        options["legend"] = {"data": list(names), "top": 0}
    return options


def _chart(title: str, options: dict[str, Any], style: str = CHART_HEIGHT) -> ui.echart:
    heading(title, 3)
    chart = ui.echart(options, renderer="svg").classes("w-full tailor-chart").style(style)
    chart.props["role"] = "img"
    chart.props["aria-label"] = title
    return chart


def _numbers_below(
    title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]]
) -> ui.table:
    """Offer the numbers of a chart as a table, for those who do not see it."""
    with ui.expansion(f"{title}: the numbers").classes("w-full text-sm").props("dense"):
        return table(columns, rows, per_page=20)


def item_list(
    items: Sequence[Mapping[str, Any]], on_click: Callable[[str], Any] | None = None
) -> None:
    """Show a list of items with rank, title, score and reasons, as the service answers it."""
    with ui.element("ol").classes("w-full tailor-items"):
        for rank, item in enumerate(items, 1):
            with ui.element("li"):
                _show_item(rank, item, on_click)


def _show_item(rank: int, item: Mapping[str, Any], on_click: Callable[[str], Any] | None) -> None:
    item_id = str(item["item_id"])
    with ui.row().classes("items-baseline gap-2 no-wrap"):
        ui.label(f"{rank}.").classes("tailor-rank")
        with ui.column().classes("gap-0"):
            name = str(item.get("title") or item_id)
            if on_click is None:
                ui.label(name)
            else:
                open_item = ui.button(name, on_click=lambda: on_click(item_id))
                open_item.props("flat dense no-caps align=left").classes("p-0 text-left")
            ui.label(_item_note(item, name)).classes("text-xs")
            for reason in item.get("reasons") or ():
                ui.label(reason_text(reason)).classes("text-sm tailor-reason")


def _item_note(item: Mapping[str, Any], name: str) -> str:
    """Return an item's id, where it is not its name, and its score."""
    parts = [str(item["item_id"])] if name != item["item_id"] else []
    if item.get("score") is not None:
        parts.append(f"score {number(item['score'])}")
    return ", ".join(parts)


def reason_text(reason: Mapping[str, Any] | str) -> str:
    """Return a reason of the service as a text."""
    return reason if isinstance(reason, str) else str(reason.get("text") or reason)


async def confirmed(question: str, yes: str, typed: str = "") -> bool:
    """Ask before something that cannot be undone; with `typed` that text must be typed."""
    with ui.dialog() as dialog, ui.card():
        dialog.props["aria-label"] = question
        ui.label(question)
        word = ui.input(f"Type {typed} to go on").classes("w-full") if typed else None
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat")
            button = ui.button(yes, on_click=lambda: dialog.submit(True)).props("color=negative")
            if word is not None:
                button.bind_enabled_from(word, "value", lambda value: value == typed)
    answer = await dialog
    dialog.clear()
    return bool(answer)


def download(name: str, text: str) -> None:
    """Let the browser save a text under a name."""
    ui.download.content(text, name)


def when(at_ms: int | None) -> str:
    """Return a moment as a text in UTC, and "never" for None."""
    if at_ms is None:
        return "never"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def ago(seconds: float) -> str:
    """Return a time span in the largest unit that it fills, such as "3 hours"."""
    for size, name in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}" + ("s" if count > 1 else "")
    return f"{int(seconds)} s"


def number(value: float | None) -> str:
    """Return a number with at most four digits that tell, and a dash for None."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def interval(low: float | None, high: float | None) -> str:
    """Return an interval as a text, empty where there is none."""
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"

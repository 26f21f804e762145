"""Draw the plots of docs/benchmarks.md as SVG files, without a plotting library.

Bars are light colours that colour-blind readers tell apart (Okabe and Ito 2008); whiskers are 95 %
intervals, or the range over seeds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

BLUE = "#9ad0f0"
ORANGE = "#f2c879"
INK = "#333a42"
SOFT = "#6b7482"
GRID = "#e3e7ec"
WIDTH = 760  # pixels
NAMES = 240  # pixels of the names at the left
VALUES = 76  # pixels of the values at the right
TOP = 58  # pixels of title and legend
BOTTOM = 40  # pixels of the axis
BAR = 13  # pixels of a bar
GAP = 10  # pixels between groups of bars


@dataclass(frozen=True)
class Bar:
    """A value with an interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class BarPlot:
    """Groups of horizontal bars, one bar per series."""

    title: str
    axis: str
    """Label of the axis, with unit."""
    series: dict[str, str]
    """Name -> colour."""
    groups: dict[str, list[Bar | None]]
    """Name -> one bar per series; None: not measured."""
    is_log: bool = False
    """Logarithmic axis, for values that differ by powers of ten."""
    decimals: int = 3

    def svg(self) -> str:
        """Return the plot as an SVG file."""
        group_height = BAR * len(self.series) + GAP
        height = TOP + group_height * len(self.groups) + BOTTOM
        x = self._scale()
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
            f' height="{height}" role="img" font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(self.title)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            _text(12, 22, self.title, size=15, weight=600),
            *self._legend(),
            *self._axis(x, height),
        ]
        for i, (name, bars) in enumerate(self.groups.items()):
            top = TOP + group_height * i + GAP / 2
            middle = top + BAR * len(self.series) / 2
            parts.append(_text(NAMES - 10, middle + 4, name, anchor="end"))
            for j, (bar, colour) in enumerate(zip(bars, self.series.values(), strict=True)):
                if bar is not None:
                    parts += self._bar(bar, colour, top + BAR * j, x)
        return "\n".join([*parts, "</svg>", ""])

    def _bars(self) -> list[Bar]:
        return [bar for bars in self.groups.values() for bar in bars if bar is not None]

    def _scale(self) -> Callable[[float], float]:
        """Return the map of values to pixels."""
        ticks = self._ticks()
        transform = math.log10 if self.is_log else float
        low = transform(ticks[0])
        highest = max(bar.high for bar in self._bars())
        high = transform(max(ticks[-1], highest))
        width = WIDTH - NAMES - VALUES

        def x(value: float) -> float:
            return NAMES + width * (max(transform(value), low) - low) / (high - low)

        return x

    def _ticks(self) -> list[float]:
        """Return round values of the axis."""
        bars = self._bars()
        high = max(bar.high for bar in bars)
        if self.is_log:
            low = min(bar.low for bar in bars if bar.low > 0)
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            return [10.0**power for power in powers]
        magnitude = 10 ** math.floor(math.log10(high))
        steps = [magnitude * factor for factor in (0.1, 0.2, 0.5, 1, 2)]
        step = next(step for step in steps if high / step <= 6)
        return [step * i for i in range(math.floor(high / step) + 1)]

    def _legend(self) -> list[str]:
        """Return coloured squares with the names of the series."""
        if len(self.series) < 2:
            return []
        parts = []
        left = NAMES
        for name, colour in self.series.items():
            parts.append(f'<rect x="{left}" y="34" width="12" height="12" fill="{colour}"/>')
            parts.append(_text(left + 18, 44, name, colour=SOFT))
            left += 18 + 7 * len(name) + 24
        return parts

    def _axis(self, x: Callable[[float], float], height: int) -> list[str]:
        """Return grid lines, tick labels and the label of the axis."""
        parts = []
        base = height - BOTTOM
        for tick in self._ticks():
            column = x(tick)
            parts.append(
                f'<line x1="{column:.1f}" x2="{column:.1f}" y1="{TOP}" y2="{base}"'
                f' stroke="{GRID}"/>'
            )
            parts.append(_text(column, base + 15, f"{tick:g}", anchor="middle", colour=SOFT))
        parts.append(_text(NAMES, height - 8, self.axis, colour=SOFT))
        return parts

    def _bar(self, bar: Bar, colour: str, top: float, x: Callable[[float], float]) -> list[str]:
        """Return a bar with its whisker and its value."""
        left = x(self._ticks()[0])
        middle = top + BAR / 2
        end = max(x(bar.high), x(bar.value))
        return [
            f'<rect x="{left:.1f}" y="{top + 1:.1f}" width="{max(x(bar.value) - left, 1):.1f}"'
            f' height="{BAR - 2}" rx="1.5" fill="{colour}"/>',
            f'<line x1="{x(bar.low):.1f}" x2="{x(bar.high):.1f}" y1="{middle:.1f}"'
            f' y2="{middle:.1f}" stroke="{INK}" stroke-width="1.2"/>',
            _text(end + 7, middle + 4, f"{bar.value:.{self.decimals}f}", size=11, colour=SOFT),
        ]


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    size: int = 12,
    weight: int = 400,
    colour: str = INK,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
    )


def accuracy_plot(title: str, rows: Sequence[dict], metric: str = "HR@10") -> BarPlot:
    """Return a metric of every method with seen items removed and kept.

    `rows` are the metrics of benchmarks/results/accuracy-*.json.
    """
    bars = {
        (row["method"], row["seen"]): Bar(row["mean"], row["low"], row["high"])
        for row in rows
        if row["metric"] == metric
    }
    methods = sorted(
        {method for method, _ in bars}, key=lambda method: -bars[method, "removed"].value
    )
    return BarPlot(
        title=f"{metric}, {title}",
        axis=f"{metric} with 95 % interval over users",
        series={"seen items removed": BLUE, "seen items kept": ORANGE},
        groups={
            method: [bars.get((method, seen)) for seen in ("removed", "kept")] for method in methods
        },
    )


def fit_time_plot(seconds: dict[tuple[str, str], list[float]]) -> BarPlot:
    """Return the mean time to fit with its range, from seconds by (data set, method)."""
    data_sets = list(dict.fromkeys(data for data, _ in seconds))
    bars = {
        key: Bar(sum(times) / len(times), min(times), max(times)) for key, times in seconds.items()
    }
    longest = {method: bars[data, method].value for data, method in sorted(bars)}
    methods = sorted(longest, key=lambda method: longest[method])
    colours = (BLUE, ORANGE)
    return BarPlot(
        title="Time to fit",
        axis="seconds (logarithmic), mean and range over seeds",
        series=dict(zip(data_sets, colours, strict=False)),
        groups={
            method: [bars.get((data, method)) for data in data_sets[: len(colours)]]
            for method in methods
        },
        is_log=True,
        decimals=0,
    )


def write_plot(plot: BarPlot, path: Path) -> str:
    """Write a plot and return the line of Markdown that shows it in a page beside its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(plot.svg(), encoding="utf-8")
    return f"![{plot.title}]({path.parent.name}/{path.name})"

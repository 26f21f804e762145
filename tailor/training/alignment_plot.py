"""Draw the curves of alignments as an SVG file, a panel for each figure, without a library."""

from collections.abc import Mapping, Sequence
from html import escape

PANELS = {
    "reward": "mean reward",
    "watched": "validation",
    "divergence": "divergence from the reference, nats",
    "entropy": "entropy, nats",
    "legality": "codes that exist, share",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by all (Okabe and Ito 2008)
INK, SOFT, GRID = "#333a42", "#6b7482", "#e3e7ec"
PANEL_WIDTH, PANEL_HEIGHT, GAP, LEGEND = 230, 130, 46, 34  # pixels

Rounds = Mapping[str, Sequence[float]]
"""Name of a figure -> its value round by round, as `fit_report_["alignment"]["curves"]`."""


def curves_svg(alignments: Mapping[str, Rounds]) -> str:
    """Return the curves of alignments, by the name of each, as an SVG file."""
    panels = [name for name in PANELS if any(curves.get(name) for curves in alignments.values())]
    width = GAP + len(panels) * (PANEL_WIDTH + GAP)
    height = LEGEND + PANEL_HEIGHT + 2 * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" font-family="system-ui, sans-serif" font-size="12">',
        "<title>Curves of alignments, round by round</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, name in enumerate(alignments):
        x = GAP + number * 110
        parts.append(_line([(x, 18), (x + 22, 18)], COLOURS[number % len(COLOURS)]))
        parts.append(_text(name, x + 28, 22, INK))
    for number, figure in enumerate(panels):
        left = GAP + number * (PANEL_WIDTH + GAP)
        curves = [curves.get(figure, ()) for curves in alignments.values()]
        parts += _panel(PANELS[figure], curves, left, LEGEND + GAP // 2)
    return "\n".join([*parts, "</svg>"])


def _panel(title: str, curves: Sequence[Sequence[float]], left: int, top: int) -> list[str]:
    """Return one panel: its frame, the limits of its axis, and a line for each curve."""
    values = [value for curve in curves for value in curve]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0
    rounds = max(len(curve) for curve in curves)
    bottom = top + PANEL_HEIGHT
    parts = [
        _text(title, left, top - 8, INK),
        f'<rect x="{left}" y="{top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" fill="none"'
        f' stroke="{GRID}"/>',
        _text(f"{high:.3g}", left - 4, top + 10, SOFT, "end"),
        _text(f"{low:.3g}", left - 4, bottom, SOFT, "end"),
        _text("1", left, bottom + 16, SOFT),
        _text(f"round {rounds}", left + PANEL_WIDTH, bottom + 16, SOFT, "end"),
    ]
    for number, curve in enumerate(curves):
        points = [
            (
                left + PANEL_WIDTH * step / max(rounds - 1, 1),
                bottom - PANEL_HEIGHT * (value - low) / spread,
            )
            for step, value in enumerate(curve)
        ]
        parts.append(_line(points, COLOURS[number % len(COLOURS)]))
    return parts


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _text(words: str, x: float, y: float, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'

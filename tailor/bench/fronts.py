"""Fronts: points that no other point beats in both measures, and their picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

COLOURS = ("#333a42", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GRID, SOFT = "#e3e7ec", "#6b7482"
WIDTH, HEIGHT = 760, 300  # pixels of a panel
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 44  # pixels of its margins
TICKS = 5


@dataclass(frozen=True)
class Curve:
    """Points of one name, joined by a line."""

    name: str
    points: Sequence[tuple[float, float]]
    """Cost and gain; points that are not finite are left out."""
    labels: Sequence[str]
    """One for each point."""


def front(costs: np.ndarray) -> np.ndarray:
    """Return the rows of (n, M) costs that no other row beats: none is as low in all, lower in one.

    Rows with NaN are never on the front.
    """
    rows = np.flatnonzero(np.isfinite(costs).all(axis=1))
    finite: np.ndarray = costs[rows]
    others = finite[:, None]
    as_low: np.ndarray = np.all(finite[None] <= others, axis=2)
    lower: np.ndarray = np.any(finite[None] < others, axis=2)
    is_beaten = np.any(as_low & lower, axis=1)
    result: np.ndarray = rows[~is_beaten]
    return result


def front_svg(panels: Mapping[str, Sequence[Curve]], gain: str) -> str:
    """Return an SVG with a panel for each cost, the gain upwards; the front is drawn as a line."""
    height = HEIGHT * max(len(panels), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img" font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(gain)} against {escape(', '.join(panels))}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for i, (cost, curves) in enumerate(panels.items()):
        parts += [
            f'<g transform="translate(0 {i * HEIGHT})">',
            *_Panel.of(curves).svg(cost, gain, curves),
            "</g>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def _points_of(curves: Sequence[Curve]) -> np.ndarray:
    """Return the points (n, 2) of all curves."""
    points: list[tuple[float, float]] = []
    for curve in curves:
        points += curve.points
    return np.array(points, float)


@dataclass(frozen=True)
class _Panel:
    """The scales of a panel."""

    lows: tuple[float, float]
    highs: tuple[float, float]

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> "_Panel":
        points = _points_of(curves)
        is_finite = np.isfinite(points).all(axis=1)
        lows = points[is_finite].min(axis=0)
        highs = points[is_finite].max(axis=0)
        widths = highs - lows
        margins = np.where(highs > lows, 0.06 * widths, 0.5)
        low_edges = tuple((lows - margins).tolist())
        high_edges = tuple((highs + margins).tolist())
        return cls(low_edges, high_edges)

    def x(self, value: float) -> float:
        share = (value - self.lows[0]) / (self.highs[0] - self.lows[0])
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.lows[1]) / (self.highs[1] - self.lows[1])
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    def svg(self, cost: str, gain: str, curves: Sequence[Curve]) -> list[str]:
        """Return the parts of the panel."""
        parts = [
            f'<text x="{LEFT}" y="22" font-weight="600">{escape(gain)}</text>',
            f'<text x="{LEFT}" y="{HEIGHT - 6}" fill="{SOFT}">{escape(cost)}</text>',
        ]
        for value in np.linspace(self.lows[1], self.highs[1], TICKS).tolist():
            parts += [
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(value)}" y2="{self.y(value)}"'
                f' stroke="{GRID}"/>',
                f'<text x="{LEFT - 8}" y="{self.y(value) + 4}" text-anchor="end" fill="{SOFT}">'
                f"{value:.3g}</text>",
            ]
        for value in np.linspace(self.lows[0], self.highs[0], TICKS).tolist():
            parts.append(
                f'<text x="{self.x(value)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle"'
                f' fill="{SOFT}">{value:.3g}</text>'
            )
        return [*parts, *self._front(curves), *self._curves(curves)]

    def _front(self, curves: Sequence[Curve]) -> list[str]:
        """Return the line through the points that no other point beats."""
        points = _points_of(curves)
        best_rows = front(points * (1, -1))
        best = points[best_rows]
        order = np.argsort(best[:, 0])
        corners: list[str] = []
        for x, y in best[order].tolist():
            corners.append(f"{self.x(x)},{self.y(y)}")
        path = " ".join(corners)
        return [f'<polyline points="{path}" fill="none" stroke="{SOFT}" stroke-dasharray="5 4"/>']

    def _curves(self, curves: Sequence[Curve]) -> list[str]:
        parts = []
        for i, curve in enumerate(curves):
            colour = COLOURS[i % len(COLOURS)]
            top = TOP + 18 * i
            parts += [
                f'<circle cx="{WIDTH - RIGHT + 14}" cy="{top}" r="5" fill="{colour}"/>',
                f'<text x="{WIDTH - RIGHT + 26}" y="{top + 4}">{escape(curve.name)}</text>',
            ]
            for (x, y), label in zip(curve.points, curve.labels, strict=True):
                if np.isfinite(x) and np.isfinite(y):
                    name = f"{escape(curve.name)} {escape(label)}"
                    parts.append(
                        f"<g><title>{name}: {y:.4f} at {x:.4f}</title>"
                        f'<circle cx="{self.x(x)}" cy="{self.y(y)}" r="5" fill="{colour}"/><text'
                        f' x="{self.x(x) + 7}" y="{self.y(y) - 6}" font-size="10" fill="{SOFT}">'
                        f"{escape(label)}</text></g>"
                    )
        return parts

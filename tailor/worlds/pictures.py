"""Draw small pictures with known attributes: things, and pages of documents.

Attributes say what is drawn (`Thing`, `Page`), functions draw them into pixels, and
`data.pictures.write_png` makes files. Nothing in a picture tells an id, a name or a number. Pixels
are (size, size, 3) float, from 0 to 1, until they are finished.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

SIZE = 64  # pixels of a side
COLOURS = {
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.1),
    "yellow": (0.9, 0.82, 0.15),
    "green": (0.15, 0.6, 0.25),
    "blue": (0.15, 0.35, 0.85),
    "violet": (0.55, 0.2, 0.7),
}
BACKGROUNDS = {
    "white": (1.0, 1.0, 1.0),
    "grey": (0.72, 0.72, 0.72),
    "sand": (0.93, 0.87, 0.75),
    "dark": (0.2, 0.2, 0.24),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
TEXTURES = ("plain", "striped", "dotted")
SIZES = {"small": 0.45, "medium": 0.65, "large": 0.85}  # share of the picture's side
CHARTS = ("none", "bars", "line", "pie")
TABLES = {"none": 0, "short": 2, "long": 5}  # rows
STAMPS = ("none", "round", "square")
PAPER, INK, GREY = (0.97, 0.97, 0.95), (0.15, 0.15, 0.2), (0.72, 0.72, 0.74)
NOISE = 0.02  # deviation of a pixel's error
LIGHT = (0.85, 1.05)  # range of a picture's brightness
TITLE, LINE, SLOTS = (4, 9), 4, ((13, 36), (38, 61))  # rows of a page of 64 pixels

Box: TypeAlias = tuple[float, float, float, float]
"""Top, left, bottom and right of a part of a picture, in pixels."""
Inside: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes heights and widths from -1 to 1, and says which points are inside."""


@dataclass(frozen=True)
class Thing:
    """Attributes of a picture of one thing."""

    shape: str
    """One of SHAPES."""
    colour: str
    """One of COLOURS."""
    texture: str = "plain"
    """One of TEXTURES."""
    size: str = "medium"
    """One of SIZES."""
    background: str = "white"
    """One of BACKGROUNDS."""


@dataclass(frozen=True)
class Page:
    """Attributes of a picture of a page."""

    chart: str = "none"
    """One of CHARTS."""
    colour: str = "none"
    """The chart's colour, one of COLOURS; "none" without a chart."""
    table: str = "none"
    """One of TABLES."""
    stamp: str = "none"
    """One of STAMPS."""


def draw_thing(thing: Thing, rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Return the pixels (size, size, 3) uint8 of a thing somewhere near the middle."""
    canvas = _blank(BACKGROUNDS[thing.background], size)
    side = SIZES[thing.size] * size
    top, left = rng.uniform(0, size - side, 2)
    paint_thing(canvas, thing, (top, left, top + side, left + side))
    return finished(canvas, rng)


def paint_thing(canvas: np.ndarray, thing: Thing, box: Box) -> None:
    """Paint a thing into a box of a canvas; its background is left as it is."""
    y, x = _grid(canvas, box)
    mask = SHAPE_TESTS[thing.shape](y, x)
    light = 0.55 + 0.45 * np.array(COLOURS[thing.colour])
    canvas[mask] = COLOURS[thing.colour]
    canvas[mask & TEXTURE_TESTS[thing.texture](y, x)] = light


def draw_page(page: Page, rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Return the pixels (size, size, 3) uint8 of a page.

    A title and lines of grey stand for words; chart and table take a half each, in either order.
    """
    canvas = _blank(PAPER, size)
    scale = size / SIZE
    _paint(canvas, _scaled((TITLE[0], 5, TITLE[1], rng.uniform(24, 58)), scale), INK)
    slots = rng.permutation(len(SLOTS))
    halves = [(SLOTS[slot][0], 5, SLOTS[slot][1], 59) for slot in slots.tolist()]
    boxes = [_scaled(half, scale) for half in halves]
    if page.chart == "none":
        _paint_words(canvas, boxes[0], scale, rng)
    else:
        CHART_PAINTERS[page.chart](canvas, boxes[0], COLOURS[page.colour], rng)
    _paint_table(canvas, boxes[1], TABLES[page.table], scale, rng)
    if page.stamp != "none":
        top, left = rng.uniform(12, 46), rng.uniform(40, 48)
        _paint_stamp(canvas, page.stamp, _scaled((top, left, top + 14, left + 14), scale))
    return finished(canvas, rng)


def finished(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a canvas as uint8 pixels, in another light and with noise."""
    light = rng.uniform(*LIGHT)
    noise = NOISE * rng.standard_normal(canvas.shape)
    return np.rint(255 * np.clip(light * canvas + noise, 0, 1)).astype(np.uint8)


# --- parts


def _blank(colour: Sequence[float], size: int) -> np.ndarray:
    return np.full((size, size, 3), colour)


def _scaled(box: Box, scale: float) -> Box:
    top, left, bottom, right = box
    return scale * top, scale * left, scale * bottom, scale * right


def _grid(canvas: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return heights and widths (H, W) of all pixels, from -1 to 1 within a box."""
    top, left, bottom, right = box
    y, x = np.mgrid[: canvas.shape[0], : canvas.shape[1]] + 0.5
    return 2 * (y - top) / (bottom - top) - 1, 2 * (x - left) / (right - left) - 1


def _paint(
    canvas: np.ndarray, box: Box, colour: Sequence[float], inside: Inside | None = None
) -> None:
    y, x = _grid(canvas, box)
    mask = (np.abs(y) <= 1) & (np.abs(x) <= 1)
    canvas[mask if inside is None else mask & inside(y, x)] = colour


def _paint_words(canvas: np.ndarray, box: Box, scale: float, rng: np.random.Generator) -> None:
    """Paint grey lines of different lengths."""
    top, left, bottom, right = box
    step = LINE * scale
    thickness = LINE / 2 * scale
    for start in np.arange(top, bottom - step, step):
        share = rng.uniform(0.6, 1)
        end = left + (right - left) * share
        line = (start, left, start + thickness, end)
        _paint(canvas, line, GREY)


def _paint_table(
    canvas: np.ndarray, box: Box, rows: int, scale: float, rng: np.random.Generator
) -> None:
    """Paint a grid of four columns, and lines of words below it."""
    top, left, bottom, right = box
    end = top + rows * LINE * scale
    if rows:
        lines = [(top + i * LINE * scale, left, right) for i in range(rows + 1)]
        for height, start, stop in lines:
            _paint(canvas, (height, start, height + scale, stop), INK)
        for x in np.linspace(left, right - scale, 5):
            _paint(canvas, (top, x, end + scale, x + scale), INK)
    if end + 2 * scale < bottom:
        _paint_words(canvas, (end + 2 * scale, left, bottom, right), scale, rng)


def _paint_stamp(canvas: np.ndarray, stamp: str, box: Box) -> None:
    """Paint a thick ring, or a thick frame."""

    def inside(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        distance = np.hypot(y, x) if stamp == "round" else np.maximum(np.abs(y), np.abs(x))
        return np.asarray((distance <= 1) & (distance >= 0.6))

    _paint(canvas, box, INK, inside)


def _paint_bars(
    canvas: np.ndarray, box: Box, colour: Sequence[float], rng: np.random.Generator
) -> None:
    top, left, bottom, right = box
    width = (right - left) / 6
    for number in range(6):
        height = (bottom - top) * rng.uniform(0.25, 1)
        start = left + number * width
        _paint(canvas, (bottom - height, start, bottom, start + 0.7 * width), colour)


def _paint_line(
    canvas: np.ndarray, box: Box, colour: Sequence[float], rng: np.random.Generator
) -> None:
    knots = np.linspace(-1, 1, 6)
    heights = rng.uniform(-0.85, 0.85, 6)

    def inside(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(y - np.interp(x, knots, heights)) <= 0.22)

    _paint(canvas, box, colour, inside)


def _paint_pie(
    canvas: np.ndarray, box: Box, colour: Sequence[float], rng: np.random.Generator
) -> None:
    top, left, bottom, right = box
    middle = (left + right) / 2
    half = (bottom - top) / 2
    turn, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.8)

    def is_slice(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        angle = (np.arctan2(y, x) + turn) % (2 * np.pi)
        return np.asarray(_in_circle(y, x) & (angle < 2 * np.pi * share))

    circle = (top, middle - half, bottom, middle + half)
    _paint(canvas, circle, GREY, _in_circle)
    _paint(canvas, circle, colour, is_slice)


def _in_circle(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.asarray(np.hypot(y, x) <= 1)


def _in_star(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    angle = (np.arctan2(x, -y) / (2 * np.pi) * 5) % 1  # of five rays; 0 and 1 are their tips
    return np.asarray(np.hypot(y, x) <= 0.4 + 0.6 * np.abs(2 * angle - 1) ** 1.5)


SHAPE_TESTS: dict[str, Inside] = {
    "circle": _in_circle,
    "square": lambda y, x: np.maximum(np.abs(y), np.abs(x)) <= 0.88,
    "triangle": lambda y, x: (np.abs(y) <= 1) & (2 * np.abs(x) <= y + 1),
    "star": _in_star,
    "ring": lambda y, x: _in_circle(y, x) & (np.hypot(y, x) >= 0.55),
    "cross": lambda y, x: (
        (np.maximum(np.abs(y), np.abs(x)) <= 1) & (np.minimum(np.abs(y), np.abs(x)) <= 0.3)
    ),
}
TEXTURE_TESTS: dict[str, Inside] = {
    "plain": lambda y, x: np.zeros(y.shape, bool),
    "striped": lambda y, x: (4 * (y + x)) % 2 < 1,
    "dotted": lambda y, x: np.hypot((2.5 * y) % 1 - 0.5, (2.5 * x) % 1 - 0.5) < 0.3,
}
CHART_PAINTERS = {"bars": _paint_bars, "line": _paint_line, "pie": _paint_pie}

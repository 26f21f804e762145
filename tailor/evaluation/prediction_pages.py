"""Write predictions as one HTML page, with the reliability of their probabilities as plots."""

from html import escape

import numpy as np

from tailor.evaluation.pages import page
from tailor.evaluation.prediction_figures import NumberFigures
from tailor.evaluation.predictions import Predictions
from tailor.evaluation.protocol import compare
from tailor.evaluation.report import GIVEN
from tailor.metrics.calibration import Reliability, reliability

SIDE = 300  # pixels of the square of a plot
MARGIN = 40  # pixels left of it and below
LARGEST = 9.0  # pixels of the radius of the fullest bin


def predictions_page(
    predictions: Predictions, baseline: str | None = None, title: str = "What was predicted"
) -> str:
    """Return the HTML of predictions: figures, differences to `baseline`, reliability.

    A reliability plot shows, for pairs of about the same probability, how often the outcome
    happened. On the diagonal the probabilities are right. Of several outcomes each has a plot.
    """
    report = predictions.report
    comparisons = []
    if baseline is not None and len(predictions.probabilities) > 1:
        comparisons = compare(report, baseline, seen=GIVEN)
    return page(report, comparisons, title=title, sections=_reliability_sections(predictions))


def _reliability_sections(predictions: Predictions) -> list[str]:
    """Return a heading and a plot for every method and outcome; none for predicted numbers."""
    if isinstance(predictions.figures, NumberFigures):
        return []
    sections = []
    for name, predicted in predictions.probabilities.items():
        columns = {name: (predictions.labels, predicted)}
        if predicted.ndim > 1:
            columns = {
                f"{name}, outcome {outcome}": (predictions.labels == outcome, predicted[:, outcome])
                for outcome in range(predicted.shape[1])
            }
        for label, (happened, probabilities) in columns.items():
            table = reliability(happened, np.clip(probabilities, 0.0, 1.0))
            sections.append(f"<h2>Reliability of {escape(label)}</h2>")
            sections.append(reliability_plot(table))
    return sections


def reliability_plot(table: Reliability) -> str:
    """Return an SVG of what happened by what was predicted; dots are as large as their bins."""
    largest = max(table.rows.max(initial=0), 1)

    def x(value: float) -> float:
        return round(MARGIN + SIDE * value, 1)

    def y(value: float) -> float:
        return round(LARGEST + SIDE * (1 - value), 1)

    size = SIDE + 2 * MARGIN
    parts = [
        f'<svg viewBox="0 0 {size} {size}" style="max-width: {size}px" role="img">',
        f'<line class="rule" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>',
        f'<line class="rule" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(0)}"/>',
        f'<line class="rule" x1="{x(0)}" y1="{y(0)}" x2="{x(0)}" y2="{y(1)}"/>',
    ]
    for rows, predicted, happened in zip(*table, strict=True):
        radius = max(2.0, LARGEST * np.sqrt(rows / largest))
        parts.append(
            f"<g><title>predicted {predicted:.4f}, happened {happened:.4f}, {rows:,} pairs</title>"
            f'<circle class="dot" cx="{x(predicted)}" cy="{y(happened)}" r="{radius:.1f}"/></g>'
        )
    below = y(0) + MARGIN / 2
    parts += [
        f'<text class="soft" x="{x(0)}" y="{below}">0</text>',
        f'<text class="soft" x="{x(0.5)}" y="{below}" text-anchor="middle">predicted</text>',
        f'<text class="soft" x="{x(1)}" y="{below}" text-anchor="end">1</text>',
        f'<text class="soft" x="{x(0) - 6}" y="{y(1) + 10}" text-anchor="end">1</text>',
        f'<text class="soft" x="{x(0) - 6}" y="{y(0.5)}" text-anchor="end"'
        f' transform="rotate(-90 {x(0) - 6} {y(0.5)})">happened</text>',
    ]
    return "\n".join([*parts, "</svg>"])

"""Pains of a data set: the share of right answers that each costs, and what its remedy brings.

Shapes: U requests.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tailor.core.studies import ReportTable
from tailor.errors import DataError
from tailor.evaluation.checklist import DIGITS, Checklist, Figure
from tailor.evaluation.significance import draw_counts

DRAWS = 2_000  # of the requests, for the interval of a cost
PAIN_COLUMNS = (
    "pain",
    "touched",
    "cost",
    "low",
    "high",
    "remedy",
    "metric",
    "before",
    "after",
    "gain",
    "gain low",
    "gain high",
    "verdict",
)
"""Columns of the table of pains."""


class Cost(NamedTuple):
    """The share of right answers that a pain costs."""

    touched: float = 0.0
    """Share of the requests that have the pain, of the events for noise."""
    value: float = 0.0
    """Share of right answers that is lost, from 0 to 1."""
    low: float = 0.0
    """Lower end of the 95 % interval."""
    high: float = 0.0
    """Upper end of it."""


def cost_of(
    touched: float, answers: np.ndarray, reference: np.ndarray, weights: np.ndarray, seed: int
) -> Cost:
    """Return the cost 1 - mean(answers) / (sum(reference) / sum(weights)), cut to 0 to 1.

    `answers` (U,) are right or wrong with the pain, `reference` over `weights` (U,) without it;
    requests are drawn for the interval. Raises DataError where nothing is right without it either.
    """
    if not reference.sum() > 0:
        raise DataError("not one right answer without the pain: nothing can be lost")
    columns = np.stack([answers, reference, weights], axis=1)
    drawn = draw_counts(len(answers), DRAWS, seed, None)
    sums = np.concatenate([columns.sum(axis=0, keepdims=True), *(part @ columns for part in drawn)])
    has_reference = sums[:, 1] > 0
    means = sums[has_reference, 0] / len(answers)
    reference_means = sums[has_reference, 1] / sums[has_reference, 2]
    shares = np.clip(1 - means / reference_means, 0, 1)
    low, high = np.quantile(shares[1:], (0.025, 0.975))
    return Cost(touched, float(shares[0]), float(low), float(high))


def cost_of_group(answers: np.ndarray, is_touched: np.ndarray, seed: int) -> Cost:
    """Return what requests with a pain cost, where they are answered worse than the others.

    Both (U,). Nothing is lost where no request has it. Raises DataError where all have it, or
    where the others have no right answer.
    """
    if not is_touched.any():
        return Cost()
    is_free = (~is_touched).astype(np.float64)
    return cost_of(float(is_touched.mean()), answers, answers * is_free, is_free, seed)


@dataclass(frozen=True)
class Pain:
    """A pain, what it costs, and its remedy before and after."""

    name: str
    """The pain in two words or less."""
    condition: str
    """Words that follow "52 % of the", such as "requests are for rare items"."""
    remedy: str
    """Method to try."""
    metric: str
    """Measure of the remedy."""
    cost: Cost | None
    """None: it is not known."""
    reason: str = ""
    """Why the cost is not known."""
    before: Figure | None = None
    """Measure without the remedy; None: not measured."""
    after: Figure | None = None
    """Measure with it."""
    gain: Figure | None = None
    """Difference, paired over requests."""

    @property
    def verdict(self) -> str:
        """Say whether the remedy helps: beyond doubt, and more than its noise floor."""
        if self.gain is None:
            return "not measured"
        is_above_floor = self.gain.is_beyond_floor and self.gain.value > self.gain.floor
        return "gain" if self.gain.low > 0 and is_above_floor else "no gain"

    @property
    def row(self) -> tuple[Any, ...]:
        """The cells of `PAIN_COLUMNS`."""
        costs: list[float | None] = [None] * 4
        if self.cost is not None:
            costs = [round(value, DIGITS) for value in self.cost]
        return (
            self.name,
            *costs,
            self.remedy,
            self.metric,
            _value(self.before),
            _value(self.after),
            *_interval(self.gain),
            self.verdict,
        )

    def sentence(self) -> str:
        """Return the pain, its cost and the method to try, in plain words."""
        if self.cost is None:
            return f"{self.name}: cost not known. {self.reason}"
        first = (
            f"Worst pain: {self.name}. {self.cost.touched:.0%} of the {self.condition}, which costs"
            f" {self.cost.value:.0%} of the right answers (95 % interval {self.cost.low:.0%} to"
            f" {self.cost.high:.0%})."
        )
        if self.gain is None or self.before is None or self.after is None:
            return f"{first} Try {self.remedy}: it could not be measured here."
        change = f"{self.metric} {self.before.value:.3f} before, {self.after.value:.3f} after"
        if self.verdict == "gain":
            return f"{first} Try {self.remedy}: {change}."
        return f"{first} {self.remedy} is no remedy here: {change}, no gain beyond chance."


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else round(figure.value, DIGITS)


def _interval(figure: Figure | None) -> list[float | None]:
    if figure is None:
        return [None] * 3
    return [round(value, DIGITS) for value in (figure.value, figure.low, figure.high)]


@dataclass(frozen=True, eq=False)
class Prescription(Checklist):
    """A checklist, and the pains in the order of what they cost."""

    pains: tuple[Pain, ...] = ()
    """In any order; those of a cost that is known are in order in `known`."""
    least: float = 0.1
    """Cost below which nothing counts as a pain."""

    @property
    def known(self) -> list[Pain]:
        """The pains whose cost is known, the dearest first."""
        pains = [pain for pain in self.pains if pain.cost is not None]
        return sorted(pains, key=lambda pain: -(pain.cost or Cost()).value)

    @property
    def worst(self) -> Pain | None:
        """The dearest pain; None: none costs `least` or more, or none beyond doubt."""
        for pain in self.known:
            cost = pain.cost or Cost()
            if cost.value >= self.least and cost.low > 0:
                return pain
        return None

    def sentence(self) -> str:
        """Return the worst pain and the method to try, in plain words."""
        if self.worst is not None:
            return self.worst.sentence()
        if not self.known:
            return "No cost could be measured."
        dearest = self.known[0]
        cost = dearest.cost or Cost()
        return (
            f"Nothing hurts much: no pain costs {self.least:.0%} of the right answers beyond doubt;"
            f" the dearest is {dearest.name} with {cost.value:.0%}."
        )

    def tables(self) -> list[ReportTable]:
        """Return the pains, then the checks and details."""
        rows = tuple(pain.row for pain in self._in_order)
        return [ReportTable("pains, the dearest first", PAIN_COLUMNS, rows), *super().tables()]

    @property
    def _in_order(self) -> list[Pain]:
        return [*self.known, *(pain for pain in self.pains if pain.cost is None)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the verdict, the pains, and those of a checklist."""
        rows = [pain.row for pain in self._in_order]
        return {
            "worst": None if self.worst is None else self.worst.name,
            "verdict": self.sentence(),
            "pains": [dict(zip(PAIN_COLUMNS, row, strict=True)) for row in rows],
            **super().to_dict(),
        }

    def notes(self) -> list[str]:
        """Return the verdict, costs that are not known, and the notes of a checklist."""
        unknown = [pain.sentence() for pain in self.pains if pain.cost is None]
        return [self.sentence(), *unknown, *super().notes()]

"""Personalised service levels: learn each user's zone of tolerance, and share a scarce resource."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import polars as pl

from tailor.core.methods import Paper, Predictor
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.metrics.recalibration import pool_adjacent_violators
from tailor.ranking.pareto import nsga2

PAPER = Paper(
    "wireless-personalization",
    "Big-data-driven and AI-based framework to enable personalization in wireless networks",
    "https://arxiv.org/abs/2306.04887",
    "On planted zones of tolerance (3 seeds) true mean satisfaction at equal resource is above that"
    " of one level for all and of one curve for all; at equal satisfaction it takes at least 15 %"
    " less; curves get better with rounds of feedback",
)
REACH = 1.0  # how far a curve goes on below and above the levels, as a share of their range
POINTS = 121  # of a curve, from -REACH to 1 + REACH
OFFSETS = np.linspace(-0.5, 0.5, 41)  # of a user's curve against the shared one
ROUNDS = 4  # of fitting curves and offsets in turn
NOISE = 0.05  # least deviation of feedback that is assumed
DRAWS = 200  # of exploration, by which propensities are counted
WORST = 5  # percentile of the users who are served worst
MUTATION = 2.0  # distribution index: a level is to change by one or more
Pick = Literal["most", "knee"] | float


@dataclass(frozen=True, eq=False)
class Allocation:
    """A level for each of B users."""

    level_ids: list[str]
    satisfaction: np.ndarray
    """(B,) predicted, from 0 to 1."""
    amounts: np.ndarray
    """(B,) resource that the levels take."""
    propensities: np.ndarray
    """(B,) probability with which the level was chosen."""
    front: np.ndarray
    """(F, 2) mean satisfaction and amount in all of the choices that no other beats."""

    @property
    def worst(self) -> float:
        """Predicted satisfaction of the 5th percentile of users."""
        return float(np.percentile(self.satisfaction, WORST))


@dataclass(eq=False)
class WirelessPersonalization(Predictor):
    """Predict how satisfied a user is with a level of service, and share a resource by it.

    Satisfaction is 0 below what is adequate for a user and 1 above what is desired, and never falls
    in between. One rising curve per context is learned from everybody's feedback; a user's own
    feedback moves it, less the less there is. `allocate` searches levels for all users by NSGA-II,
    for mean satisfaction and saved resource, within a capacity and a floor for the worst served.
    Items are levels (bitrates, numbers of messages, model sizes); values say how satisfied users
    were. Nobody has numbers of their own: a user is what the history says.

    Differs from the paper, whose exact form was not available: the curves and the shrinkage are our
    reconstruction; half of the search begins with the greedy optimum on concave hulls, with levels
    of equal satisfaction, and with everyone's best level at a price of the resource.
    """

    amount: str = "price"
    """Column of the items table: the resource that a level takes."""
    context: str = ""
    """Attribute of users whose values have curves of their own; "": one curve for all."""
    lowest: float = 0.0
    """Value of an event that means no satisfaction."""
    highest: float = 1.0
    """Value of an event that means full satisfaction."""
    spread: Annotated[float, Range(0.02, 0.5)] = 0.15
    """Deviation of users' curves, as a share of the levels' range; 0: no curves of their own."""
    shared: float = 50.0
    """Events that the curve of a context must have to count as much as that of all."""
    population: int = 100
    """Allocations of a generation of the search."""
    generations: int = 100
    """Generations of the search."""
    explore: float = 0.05
    """Share of users who get the next higher or lower level, so that it is tried."""

    amounts_: np.ndarray = field(init=False, repr=False)
    """(L,) resource of each level; unknown ones take the mean."""
    contexts_: list[str] = field(init=False, repr=False)
    """Values of the context that have a curve."""
    curves_: np.ndarray = field(init=False, repr=False)
    """(C + 1, POINTS) satisfaction along the levels; the last curve is that of all."""
    noise_: float = field(init=False)
    """Deviation of feedback from the curves."""

    def __post_init__(self) -> None:
        if not self.highest > self.lowest:
            raise DataError(f"lowest is {self.lowest}, highest {self.highest}: it must be above")
        if self.spread < 0 or self.shared < 0 or not 0 <= self.explore < 1:
            raise DataError(
                f"spread is {self.spread}, shared {self.shared}, explore {self.explore}: at least"
                " 0, and explore below 1"
            )
        if self.population < 4 or self.generations < 0:
            raise DataError(
                f"population is {self.population}, generations {self.generations}: at least 4 and 0"
            )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.amounts_ = self._amounts(data)
        queries = data.queries(columns=["values"])
        values = self._values(queries)
        if not np.isfinite(values).any():
            raise DataError(f"no event of {data.name} has a value: nobody said how it was")
        contexts = queries.context(self.context) if self.context else []
        self.contexts_ = sorted({str(value) for value in contexts if value is not None})
        owners, positions, satisfaction = self._feedback(queries, values)
        curve_of = self._curve_of(queries)[owners]
        offsets = np.zeros(len(queries))
        self.noise_ = 1.0
        for _ in range(ROUNDS):
            self.curves_ = self._fit_curves(positions - offsets[owners], satisfaction, curve_of)
            predicted = self._at(curve_of, positions - offsets[owners])
            self.noise_ = max(NOISE, float((satisfaction - predicted).std()))
            offsets = self._offsets(queries)
        self.fit_report_ = {
            "events": len(owners),
            "levels": len(self.items_),
            "curves": len(self.curves_),
            "noise": round(self.noise_, 4),
            "deviation of users": round(float(offsets.std()), 4),
        }

    def _amounts(self, data: Dataset) -> np.ndarray:
        """Return (L,) amounts of the levels. Raises DataError for a column without numbers."""
        table = data.item_table
        if self.amount not in table.columns or not table[self.amount].dtype.is_numeric():
            raise DataError(
                f'amount is "{self.amount}", and {data.name} has no such column of numbers among'
                f" the items: {', '.join(table.columns)}"
            )
        amounts = table[self.amount].cast(pl.Float64)
        mean = amounts.mean()
        return amounts.fill_null(0.0 if mean is None else mean).to_numpy().copy()

    def _values(self, queries: Queries) -> np.ndarray:
        """Return (m,) satisfaction of the events of histories, NaN where nothing was said."""
        values = queries.columns.get("values")
        if values is None:
            return np.full(len(queries.histories.values), np.nan)
        shares: np.ndarray = (values.values - self.lowest) / (self.highest - self.lowest)
        return np.clip(shares, 0, 1)

    def _feedback(
        self, queries: Queries, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return query, position of the level and satisfaction of the events with a value."""
        is_said = np.isfinite(values)
        rows = queries.histories.values[is_said]
        return queries.histories.row_ids[is_said], self._positions(rows), values[is_said]

    def _positions(self, rows: np.ndarray) -> np.ndarray:
        """Return where levels lie from the smallest amount (0) to the largest (1); -1: the mean."""
        amounts = np.append(self.amounts_, self.amounts_.mean() if len(self.amounts_) else 0.0)
        width = np.ptp(self.amounts_)
        positions: np.ndarray = (amounts[rows] - self.amounts_.min(initial=np.inf)) / (width or 1.0)
        return positions

    def _curve_of(self, queries: Queries) -> np.ndarray:
        """Return (B,) the curve of each query's context, the last one for unknown contexts."""
        code_of = {value: code for code, value in enumerate(self.contexts_)}
        values = queries.context(self.context) if self.context else [None] * len(queries)
        codes = [code_of.get(str(value), len(code_of)) for value in values]
        return np.array(codes, dtype=np.int64)

    def _fit_curves(
        self, positions: np.ndarray, satisfaction: np.ndarray, curve_of: np.ndarray
    ) -> np.ndarray:
        """Return rising curves: that of all last, those of contexts drawn towards it."""
        cells = np.clip(np.rint(_place(positions)).astype(np.int64), 0, POINTS - 1)
        everything = _rising(cells, satisfaction)
        curves = []
        for code in range(len(self.contexts_)):
            mask = curve_of == code
            weight = mask.sum() / max(mask.sum() + self.shared, 1)
            curve = _rising(cells[mask], satisfaction[mask]) if mask.any() else everything
            curves.append(weight * curve + (1 - weight) * everything)
        return np.array([*curves, everything])

    def _at(self, curves: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return satisfaction on curves at positions of the same shape, linear between points."""
        places = np.clip(_place(positions), 0, POINTS - 1)
        below = np.minimum(places.astype(np.int64), POINTS - 2)
        part = places - below
        satisfaction: np.ndarray = (1 - part) * self.curves_[curves, below]
        satisfaction += part * self.curves_[curves, below + 1]
        return satisfaction

    def _offsets(self, queries: Queries) -> np.ndarray:
        """Return (B,) how far each user's curve is moved, 0 where nothing was said.

        The most likely of OFFSETS: squared errors over the noise, and a normal prior of `spread`.
        """
        if not self.spread:
            return np.zeros(len(queries))
        owners, positions, satisfaction = self._feedback(queries, self._values(queries))
        curves = self._curve_of(queries)[owners]
        costs = np.tile((OFFSETS / self.spread) ** 2, (len(queries), 1))
        for i, offset in enumerate(OFFSETS.tolist()):
            errors = (satisfaction - self._at(curves, positions - offset)) / self.noise_
            costs[:, i] += np.bincount(owners, errors**2, len(queries))
        weights = np.exp((costs.min(axis=1, keepdims=True) - costs) / 2)
        means: np.ndarray = (weights @ OFFSETS) / weights.sum(axis=1)
        return means

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        past = queries.before_request()
        offsets, curves = self._offsets(past), self._curve_of(past)
        positions = self._positions(items.values)
        return self._at(curves[items.row_ids], positions - offsets[items.row_ids])

    def zones(self, queries: Sequence[Query]) -> np.ndarray:
        """Return (B, 2) amounts that are adequate and desired for each user.

        Where satisfaction first reaches a tenth, and nine tenths; NaN where no level does.
        """
        batch, satisfaction, order = self._table(queries)
        zones = np.full((len(batch), 2), np.nan)
        for column, share in enumerate((0.1, 0.9)):
            reaches = satisfaction[:, order] >= share
            first = self.amounts_[order][reaches.argmax(axis=1)]
            zones[:, column] = np.where(reaches.any(axis=1), first, np.nan)
        return zones

    def _table(self, queries: Sequence[Query]) -> tuple[Queries, np.ndarray, np.ndarray]:
        """Return the queries, (B, L) predicted satisfaction, and the levels by their amounts."""
        self._check_fitted()
        batch = Queries.of(queries).reindexed(self.items_)
        levels = np.tile(np.arange(len(self.items_)), len(batch))
        lists = Ragged.of_lengths([len(self.items_)] * len(batch), levels)
        satisfaction = self._predict(batch, lists).reshape(len(batch), len(self.items_))
        return batch, satisfaction, np.argsort(self.amounts_, kind="stable")

    def allocate(
        self,
        queries: Sequence[Query],
        capacity: float,
        floor: float = 0.0,
        pick: Pick = "most",
        run: Run = Run(),
    ) -> Allocation:
        """Return a level for each user, which take at most `capacity` in all.

        `floor` is the least satisfaction of the 5th percentile of users. `pick` says which point of
        the front is taken: "most" satisfaction, the "knee", or the cheapest of a mean satisfaction.
        A share `explore` of users gets a neighbouring level, within the capacity. Raises DataError
        where even the smallest levels take more, or those that reach the floor.
        """
        _, satisfaction, order = self._table(queries)
        problem = Problem(satisfaction[:, order], self.amounts_[order], capacity, floor)
        if not len(satisfaction) or problem.least > capacity:
            raise DataError(
                f"capacity is {capacity:g} for {len(satisfaction)} users: the smallest levels take"
                f" {problem.least:g}"
            )
        problem.check_floor()
        n = len(satisfaction)
        front = nsga2(
            problem.evaluate,
            np.zeros(n),
            np.full(n, len(order) - 1.0),
            run.rng("allocation"),
            self.population,
            self.generations,
            problem.start(self.population // 4),
            MUTATION,
        )
        chosen = problem.levels(front.points[_picked(front.objectives, pick)][None])[0]
        levels, propensities = self._explored(chosen, problem, run)
        rows = np.arange(n)
        return Allocation(
            self.items_.named(order[levels]),
            problem.satisfaction[rows, levels],
            problem.amounts[levels],
            propensities,
            np.column_stack([-front.objectives[:, 0], front.objectives[:, 1]]),
        )

    def _explored(
        self, levels: np.ndarray, problem: "Problem", run: Run
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move some users by a level; return their levels, and the propensity of each.

        The propensity is how often a user gets this level when the draw is repeated.
        """
        rng = run.rng("exploration")
        explored = self._moved(levels, problem, rng)
        if not self.explore:
            return explored, np.ones(len(levels))
        counts = np.ones(len(levels))
        for _ in range(DRAWS):
            counts += self._moved(levels, problem, rng) == explored
        return explored, counts / (DRAWS + 1)

    def _moved(
        self, levels: np.ndarray, problem: "Problem", rng: np.random.Generator
    ) -> np.ndarray:
        """Return levels (B,) with a share of users one up or down, within the capacity."""
        n = len(levels)
        steps = np.where(rng.random(n) < 0.5, 1, -1)
        steps[rng.random(n) >= self.explore] = 0
        wished = np.clip(levels + steps, 0, len(problem.amounts) - 1)
        moved = np.minimum(levels, wished)  # all who go down do; that frees what they had
        left = problem.capacity - problem.amounts[moved].sum()
        going_up = rng.permutation(np.flatnonzero(wished > levels))
        costs = problem.amounts[wished] - problem.amounts[levels]
        fitting = going_up[np.cumsum(costs[going_up]) <= left]
        moved[fitting] = wished[fitting]
        return moved

    @classmethod
    def tiny(cls) -> "WirelessPersonalization":
        return cls(lowest=1.0, highest=5.0, population=8, generations=3)


@dataclass(frozen=True, eq=False)
class Problem:
    """The choice of a level for each user; levels by ascending amount."""

    satisfaction: np.ndarray
    """(B, L)."""
    amounts: np.ndarray
    """(L,)."""
    capacity: float
    floor: float

    @property
    def least(self) -> float:
        """The amount of the smallest level for all."""
        return float(self.amounts[0] * len(self.satisfaction))

    def check_floor(self) -> None:
        """Raise DataError where no choice of levels within the capacity reaches the floor."""
        floors = self._floors
        reached = self.satisfaction[np.arange(len(floors)), floors]
        worst = np.percentile(reached, WORST)
        if worst < self.floor - 1e-9:
            raise DataError(
                f"floor is {self.floor:g}: the best levels satisfy the 5th percentile of users to"
                f" {worst:.3f} only; ask for less"
            )
        least = float(self.amounts[floors].sum())
        if least > self.capacity:
            raise DataError(
                f"floor is {self.floor:g}: the smallest levels that reach it take {least:g} of a"
                f" capacity of {self.capacity:g}; lower the floor, or raise the capacity"
            )

    def levels(self, points: np.ndarray) -> np.ndarray:
        """Return (P, B) levels of points (P, B)."""
        return np.clip(np.rint(points).astype(np.int64), 0, len(self.amounts) - 1)

    def evaluate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return minus mean satisfaction and the amount (P, 2), and violations (P,)."""
        levels = self.levels(points)
        values = self.satisfaction[np.arange(len(self.satisfaction)), levels]  # P, B
        used = self.amounts[levels].sum(axis=1)
        excess = np.maximum(used - self.capacity, 0) / max(self.capacity, 1e-9)
        lack = np.maximum(self.floor - np.percentile(values, WORST, axis=1), 0)
        return np.column_stack([-values.mean(axis=1), used]), excess + lack

    def start(self, n: int) -> np.ndarray:
        """Return 2 n + 1 points to begin with, which reach the floor.

        The greedy optimum within the capacity; each user's best level at n prices of the resource,
        from free to dear; and levels of equal satisfaction, the smallest that reach n shares.
        """
        floors = self._floors
        optimum = greedy(self.satisfaction, self.amounts, self.capacity, floors)[None]
        equal = self._reaching(np.linspace(0, 1, n)[:, None])
        slopes = [slope for values in self.satisfaction for slope, _ in self._hull(values)]
        prices = np.quantile(slopes or [0.0], np.linspace(0, 1, n))[:, None, None]
        priced = (self.satisfaction - prices * self.amounts).argmax(axis=2)
        return np.maximum(np.concatenate([optimum, priced, equal]), floors).astype(float)

    @cached_property
    def _floors(self) -> np.ndarray:
        """(B,) the smallest levels that reach the floor; the dearest 5 % are spared."""
        floors = self._reaching(np.array([[self.floor]]))[0]
        spared = int((len(floors) - 1) * WORST / 100)
        floors[np.argsort(-floors, kind="stable")[:spared]] = 0
        return floors

    def _hull(self, values: np.ndarray) -> list[tuple[float, int]]:
        return _hull_steps(values, self.amounts, 0)

    def _reaching(self, shares: np.ndarray) -> np.ndarray:
        """Return (S, B) smallest levels that reach satisfactions (S, 1), or else the best."""
        reaches = self.satisfaction[None] >= shares[..., None] - 1e-9
        best = self.satisfaction.argmax(axis=1)
        return np.where(reaches.any(axis=2), reaches.argmax(axis=2), best)


def _picked(objectives: np.ndarray, pick: Pick) -> int:
    """Return the point of a front (F, 2) to take: minus satisfaction, and amount."""
    satisfaction, amounts = -objectives[:, 0], objectives[:, 1]
    if pick == "most":
        return int(satisfaction.argmax())
    if pick == "knee":
        gain = (satisfaction - satisfaction.min()) / (np.ptp(satisfaction) or 1.0)
        saved = (amounts.max() - amounts) / (np.ptp(amounts) or 1.0)
        return int((gain + saved).argmax())
    if isinstance(pick, str) or not 0 <= pick <= 1:
        raise DataError(f'pick is {pick!r}: write "most", "knee", or a satisfaction from 0 to 1')
    reaches = satisfaction >= pick
    return int(
        np.where(reaches, amounts, np.inf).argmin() if reaches.any() else satisfaction.argmax()
    )


def greedy(
    satisfaction: np.ndarray, amounts: np.ndarray, capacity: float, least: np.ndarray | None = None
) -> np.ndarray:
    """Return (B,) levels by the largest gain per amount, within a capacity.

    Each user climbs the concave hull of satisfaction (B, L) over ascending amounts (L,) from the
    level `least` on, the smallest by default. At the amounts where it stops no choice from there on
    has more satisfaction.
    """
    levels = np.zeros(len(satisfaction), dtype=np.int64) if least is None else least.copy()
    steps = [
        (slope, user, level)
        for user, values in enumerate(satisfaction)
        for slope, level in _hull_steps(values, amounts, int(levels[user]))
    ]
    left = capacity - amounts[levels].sum()
    for _, user, level in sorted(steps, key=lambda step: -step[0]):
        cost = amounts[level] - amounts[levels[user]]
        if cost > left:
            break
        left -= cost
        levels[user] = level
    return levels


def _hull_steps(values: np.ndarray, amounts: np.ndarray, level: int) -> list[tuple[float, int]]:
    """Return slope and upper level of each edge of the concave hull from a level on, in order."""
    steps = []
    while level < len(values) - 1:
        rises = values[level + 1 :] - values[level]
        slopes = rises / np.maximum(amounts[level + 1 :] - amounts[level], 1e-12)
        best = int(slopes.argmax())
        if slopes[best] <= 0:
            break
        level += best + 1
        steps.append((float(slopes[best]), level))
    return steps


def _place(positions: np.ndarray) -> np.ndarray:
    """Return positions as places on a curve, from 0 to POINTS - 1 within reach."""
    places: np.ndarray = (positions + REACH) / (1 + 2 * REACH) * (POINTS - 1)
    return places


def _rising(cells: np.ndarray, satisfaction: np.ndarray) -> np.ndarray:
    """Return (POINTS,) the rising curve nearest to satisfaction (m,) in cells of the curve."""
    counts = np.bincount(cells, minlength=POINTS)
    filled = np.flatnonzero(counts)
    means = np.bincount(cells, satisfaction, POINTS)[filled] / counts[filled]
    rising = pool_adjacent_violators(means, counts[filled].astype(np.float64))
    return np.interp(np.arange(POINTS), filled, rising)

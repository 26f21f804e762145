"""Exploration: show other items now and then, with known probabilities."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
import polars as pl

from tailor.core.costs import Cost, stand_in
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError

# the column of an answer that holds the probability that this item stands at this rank
PROPENSITY = "propensity"
PRIOR_SUCCESSES, PRIOR_IMPRESSIONS = 1, 20  # of the mean rate of all items
RATE_BOUNDS = (1e-4, 0.5)  # of that mean rate
MIN_SPAN = 1e-12  # divisor of scores that are all equal


class Draw(NamedTuple):
    """A list drawn from a pool."""

    positions: np.ndarray
    """(k,) positions in the pool, in the order of the list."""
    propensities: np.ndarray
    """(k,) probability of each item to stand where it does."""


@dataclass(eq=False)
class Exploring(Recommender):
    """Base of recommenders that draw a list from the first `depth` items of another one.

    Draws are keyed by (seed, request id), so that a request has one answer. A query without a
    request id is answered by the pool's first items, with propensities of 1.
    """

    inner: Recommender
    """The recommender whose lists are explored."""
    depth: int = 50
    """Items of the pool, or twice the list's length if that is more.

    A pool with fewer items than twice the list's length is not explored.
    """
    seed: int = 0
    """Seed of the draws."""

    inner_: Recommender = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Recommender):
            raise ModelError(f"{self.name}.inner is {self.inner!r}: it must be a recommender")
        if self.depth < 1:
            raise DataError(f"depth is {self.depth}: it must be at least 1")

    @classmethod
    def tiny(cls) -> Self:
        return build({"class": cls.__name__, "inner": {"class": "CoVisitation"}}, cls)

    @classmethod
    def around(cls, fitted: Recommender, **settings: float) -> Self:
        """Return exploration over a recommender that is fitted already; nothing is refitted."""
        exploring = cls(inner=fitted, **settings)  # type: ignore[arg-type]
        exploring._learn(fitted, None)
        exploring.trained_on_ = fitted.trained_on_
        exploring.fit_report_ = {}
        return exploring

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._learn(clone(self.inner).fit(data, run, valid), data)
        self.fit_report_ |= {self.inner_.name: self.inner_.fit_report_}

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        inner, cost = stand_in(clone(self.inner), data, run, valid)
        self._learn(inner, data)
        return cost

    def _learn(self, inner: Recommender, data: Dataset | None) -> None:
        """Set the learned state; `data` is None if the inner recommender was fitted before."""
        self.inner_ = inner

    @abstractmethod
    def _draw(self, pool: Rankings, i: int, k: int, rng: np.random.Generator) -> Draw:
        """Return a list of k items of pool i."""

    def restrict(self, queries: Queries) -> Queries:
        return self.inner_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        pool = self.inner_.recommend(queries, max(2 * k, self.depth), candidates)
        lengths = pool.lengths
        width = min(k, pool.rows.shape[1])
        order = np.tile(np.arange(width), (len(pool), 1))  # B, K
        propensity = np.ones((len(pool), width), np.float32)
        for i in range(len(queries)):
            request_id = queries.request_id(i)
            if request_id is not None and lengths[i] >= 2 * k:
                order[i], propensity[i] = self._draw(pool, i, k, self._rng(request_id))
        drawn = pool.reordered(order)
        propensity[drawn.rows < 0] = np.nan
        notes = {i: note for i, note in pool.notes.items() if lengths[i] < k}
        return replace(drawn, columns={**drawn.columns, PROPENSITY: propensity}, notes=notes)

    def _rng(self, request_id: str) -> np.random.Generator:
        """Return the generator of a request."""
        key = f"{self.seed}\0{request_id}".encode()
        digest = hashlib.blake2b(key, digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the inner recommender's explanations, as if nothing had been drawn."""
        self._check_fitted()
        return self.inner_.explain(self.restrict(Queries.of(queries)), rankings)


@dataclass(eq=False)
class Explore(Exploring):
    """Gives each rank away with probability `epsilon`, to a random item from below the list.

    Propensities are exact: 1 - epsilon for an item at its own rank, epsilon over the size of the
    rest for a random one (drawn without repeats, each item of the rest equally likely at every
    rank). Epsilon-greedy by rank (Sutton and Barto 2018, 2.2).
    """

    epsilon: float = 0.05
    """Share of ranks given away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon < 1:
            raise DataError(f"epsilon is {self.epsilon}: from 0 to below 1")

    def _draw(self, pool: Rankings, i: int, k: int, rng: np.random.Generator) -> Draw:
        rest_size = int(pool.lengths[i]) - k
        is_random = rng.random(k) < self.epsilon
        positions = np.arange(k)
        positions[is_random] = k + rng.permutation(rest_size)[: is_random.sum()]
        return Draw(positions, np.where(is_random, self.epsilon / rest_size, 1 - self.epsilon))


@dataclass(eq=False)
class Thompson(Exploring):
    """Orders items by their score times a success rate drawn for each item.

    An item that was shown little may be better than it looks, so its rate varies more. Rates have
    Beta posteriors: `strength` impressions at the mean rate of all items, and the item's own
    impressions and successes (events that name the request and the item). Without impressions every
    item has the prior. Thompson sampling (Thompson 1933) over the last stage. Propensities are
    shares of `draws` draws, with the list shown among them, so at least 1 / draws.
    """

    reads_impressions: ClassVar[bool] = True

    strength: float = 20.0
    """Impressions that the prior counts as."""
    draws: int = 100
    """Lists drawn to estimate the propensities."""

    items_: Vocabulary = field(init=False, repr=False)
    shown_: np.ndarray = field(init=False, repr=False)
    """(N,) float32 impressions."""
    chosen_: np.ndarray = field(init=False, repr=False)
    """(N,) float32 successes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strength > 0 or self.draws < 2:
            raise DataError(
                f"strength is {self.strength}, draws {self.draws}: strength above 0, draws from 2"
            )

    def _learn(self, inner: Recommender, data: Dataset | None) -> None:
        super()._learn(inner, data)
        self.items_ = Vocabulary([]) if data is None else data.catalogue
        self.shown_ = np.zeros(len(self.items_), np.float32)
        self.chosen_ = np.zeros(len(self.items_), np.float32)
        if data is not None and "impressions" in data.tables:
            impressions = data.tables["impressions"]
            self.shown_ = self._counts(impressions["item_id"])
            if "events" in data.tables and "request_id" in data.events.columns:
                self.chosen_ = self._counts(_successes(data.events, impressions))
        self.fit_report_ |= {
            "showings": int(self.shown_.sum()),
            "successes": int(self.chosen_.sum()),
        }

    def _counts(self, item_ids: pl.Series) -> np.ndarray:
        """Return (N,) how often each item occurs."""
        codes = self.items_.codes(item_ids)
        return np.bincount(codes, minlength=len(self.items_)).astype(np.float32)

    def _draw(self, pool: Rankings, i: int, k: int, rng: np.random.Generator) -> Draw:
        size = int(pool.lengths[i])
        item_ids = pool.catalogue.named(pool.rows[i, :size])
        impressions, successes = self._known_counts(item_ids)
        rates = rng.beta(*self._posterior(impressions, successes), (self.draws, size))
        scores = pool.scores[i, :size].astype(np.float64)
        low = min(float(scores.min()), 0.0)
        span = max(float(scores.max()) - low, MIN_SPAN)
        values = (scores - low) / span * rates
        lists = np.argsort(-values, axis=1, kind="stable")[:, :k]  # draws, K
        return Draw(lists[0], (lists == lists[0]).mean(axis=0))

    def _posterior(
        self, impressions: np.ndarray, successes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the two parameters of the Beta distribution of each item's rate."""
        all_successes = float(self.chosen_.sum()) + PRIOR_SUCCESSES
        all_impressions = float(self.shown_.sum()) + PRIOR_IMPRESSIONS
        mean_rate = float(np.clip(all_successes / all_impressions, *RATE_BOUNDS))
        failures = np.maximum(impressions - successes, 0)
        return self.strength * mean_rate + successes, self.strength * (1 - mean_rate) + failures

    def _known_counts(self, item_ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return impressions and successes of items, 0 for items without any."""
        if not len(self.items_):
            return np.zeros(len(item_ids)), np.zeros(len(item_ids))
        rows = self.items_.rows(item_ids)
        is_known = rows >= 0
        return np.where(is_known, self.shown_[rows], 0.0), np.where(
            is_known, self.chosen_[rows], 0.0
        )


def _successes(events: pl.DataFrame, impressions: pl.DataFrame) -> pl.Series:
    """Return the item of every impression that an event names."""
    keys = ["request_id", "item_id"]
    return events.select(keys).unique().join(impressions, on=keys, how="semi")["item_id"]

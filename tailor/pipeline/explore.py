"""Exploration: now and then something else is shown, with a probability that is written down, so
that one can learn from what people do with it.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np

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

# the column of an answer that holds the probability that this item stood at this place
PROPENSITY = "propensity"


@dataclass(eq=False)
class Exploring(Recommender):
    """What both ways share: the first `depth` items of `inner` are the pool; chance is drawn from
    (seed, request id), so that a request has one answer.

    A query without a request id is answered without chance, its propensities 1.
    """

    inner: Recommender
    depth: int = 50
    """Items of the pool, or twice the list's length where that is more; a shorter pool is not
    explored.
    """
    seed: int = 0

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
        """Exploration over a recommender that is fitted already: nothing of `fitted` is learned
        anew.
        """
        made = cls(inner=fitted, **settings)  # type: ignore[arg-type]
        made._learn(fitted, None)
        made.trained_on_, made.fit_report_ = fitted.trained_on_, {}
        return made

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._learn(clone(self.inner).fit(data, run, valid), data)
        self.fit_report_ |= {self.inner_.name: self.inner_.fit_report_}

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        inner, cost = stand_in(clone(self.inner), data, run, valid)
        self._learn(inner, data)
        return cost

    def _learn(self, inner: Recommender, data: Dataset | None) -> None:
        self.inner_ = inner

    @abstractmethod
    def _drawn(
        self, found: Rankings, i: int, n: int, k: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places (k,) in the pool of n items of list i, and each one's probability (k,) of standing
        where it does.
        """

    def restrict(self, queries: Queries) -> Queries:
        return self.inner_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        found = self.inner_.recommend(queries, max(2 * k, self.depth), candidates)
        lengths, width = found.lengths, min(k, found.rows.shape[1])
        order = np.tile(np.arange(width), (len(found), 1))
        chance = np.ones((len(found), width), np.float32)
        for i in range(len(queries)):
            request_id = queries.request_id(i)
            if request_id is not None and lengths[i] >= 2 * k:
                order[i], chance[i] = self._drawn(
                    found, i, int(lengths[i]), k, self._rng(request_id)
                )
        drawn = found.reordered(order)
        chance[drawn.rows < 0] = np.nan
        notes = {i: note for i, note in found.notes.items() if lengths[i] < k}
        return replace(drawn, columns={**drawn.columns, PROPENSITY: chance}, notes=notes)

    def _rng(self, request_id: str) -> np.random.Generator:
        return np.random.default_rng(
            int.from_bytes(
                hashlib.blake2b(f"{self.seed}\0{request_id}".encode(), digest_size=16).digest(),
                "little",
            )
        )

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The inner recommender's: why an item is good, not that chance put it there."""
        self._check_fitted()
        return self.inner_.explain(self.restrict(Queries.of(queries)), rankings)


@dataclass(eq=False)
class Explore(Exploring):
    """Each place of the list is given away with probability `epsilon`, to an item of the rest of
    the pool, all alike.

    Propensities are exact: 1 - epsilon for an item at the place `inner` gave it, epsilon over the
    size of the rest for one that chance put there (drawn without repeats, every item of the rest is
    as likely at every place given away). Epsilon-greedy by place (Sutton and Barto 2018, 2.2).
    """

    epsilon: float = 0.05
    """Share of places given away."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon < 1:
            raise DataError(f"epsilon is {self.epsilon}: from 0 to below 1")

    def _drawn(
        self, found: Rankings, i: int, n: int, k: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        given_away = rng.random(k) < self.epsilon
        rest = k + rng.permutation(n - k)[: given_away.sum()]
        order = np.arange(k)
        order[given_away] = rest
        return order, np.where(given_away, self.epsilon / (n - k), 1 - self.epsilon)


@dataclass(eq=False)
class Thompson(Exploring):
    """Items are ordered by their score times a rate of success drawn from what is known of them:
    who was shown little may be better than it looks.

    Rates have Beta posteriors: `strength` showings at the mean rate of all items, and the item's
    own showings and successes (an event that names the request and the item) in the tables of
    impressions and events that it was fitted on; without impressions every item has the prior.
    Thompson sampling (Thompson 1933) over the last stage. Propensities are shares of `draws` draws,
    the one that is shown among them, so at least 1 / draws.
    """

    reads_impressions: ClassVar[bool] = True

    strength: float = 20.0
    """Showings that the prior is worth."""
    draws: int = 100

    items_: Vocabulary = field(init=False, repr=False)
    shown_: np.ndarray = field(init=False, repr=False)
    """(N,) float32."""
    chosen_: np.ndarray = field(init=False, repr=False)
    """(N,) float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strength > 0 or self.draws < 2:
            raise DataError(
                f"strength is {self.strength}, draws {self.draws}: strength above 0, draws from 2"
            )

    def _learn(self, inner: Recommender, data: Dataset | None) -> None:
        super()._learn(inner, data)
        self.items_ = Vocabulary([]) if data is None else data.catalogue
        self.shown_, self.chosen_ = (
            np.zeros(len(self.items_), np.float32),
            np.zeros(len(self.items_), np.float32),
        )
        if data is not None and "impressions" in data.tables:
            shown = data.tables["impressions"]
            self.shown_ = np.bincount(
                self.items_.codes(shown["item_id"]), minlength=len(self.items_)
            ).astype(np.float32)
            if "events" in data.tables and "request_id" in data.events.columns:
                chosen = (
                    data.events.select("request_id", "item_id")
                    .unique()
                    .join(shown, on=["request_id", "item_id"], how="semi")
                )
                self.chosen_ = np.bincount(
                    self.items_.codes(chosen["item_id"]), minlength=len(self.items_)
                ).astype(np.float32)
        self.fit_report_ |= {
            "showings": int(self.shown_.sum()),
            "successes": int(self.chosen_.sum()),
        }

    def _drawn(
        self, found: Rankings, i: int, n: int, k: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = (
            self.items_.rows(found.catalogue.named(found.rows[i, :n]))
            if len(self.items_)
            else np.full(n, -1)
        )
        shown, chosen = (
            np.where(rows >= 0, counts[rows], 0.0) if len(counts) else np.zeros(n)
            for counts in (self.shown_, self.chosen_)
        )
        mean = float(np.clip((self.chosen_.sum() + 1) / (self.shown_.sum() + 20), 1e-4, 0.5))
        good, bad = (
            self.strength * mean + chosen,
            self.strength * (1 - mean) + np.maximum(shown - chosen, 0),
        )
        scores = found.scores[i, :n].astype(np.float64)
        low = min(float(scores.min()), 0.0)
        value = (
            (scores - low)
            / max(float(scores.max()) - low, 1e-12)
            * rng.beta(good, bad, (self.draws, n))
        )
        best = np.argsort(-value, axis=1, kind="stable")[:, :k]  # draws, k
        return best[0], (best == best[0]).mean(axis=0)

"""Biased matrix factorization: a rating is a mean, two biases and the match of two vectors.

Shapes: m ratings, n queries, G groups of ratings (by user or by item), F numbers of a group: its
bias and its vector, N items.
"""

from dataclasses import dataclass, field
from typing import Annotated, Self

import numpy as np

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError

FIRST_STD = 0.1  # of the vectors of items before the first round
RATINGS_AT_ONCE = 100_000  # of whole groups, so that products of features fit into memory


@dataclass(eq=False)
class BiasedMF(Predictor):
    """Predict ratings by biases of user and item and the product of their vectors.

    Users and items are solved in turns by ridge regression (alternating least squares; Koren, Bell
    and Volinsky 2009). A user is what the history says: bias and vector are solved from its ratings
    at every request. So no user is stored, and a new one is served.
    """

    width: Annotated[int, Choices(0, 4, 8, 16)] = 8
    """Width of a vector; 0: biases alone."""
    l2: Annotated[float, Range(1.0, 100.0, log=True)] = 10.0
    """Penalty of the squares of a vector; a rating's squared error counts 1."""
    bias_l2: Annotated[float, Range(0.5, 50.0, log=True)] = 5.0
    """Penalty of the square of a bias."""
    rounds: int = 12
    """Times that users and items are solved."""
    history: int = 500
    """Latest ratings of a user that are read at a request."""

    mean_: float = field(init=False, repr=False)
    """Mean rating."""
    range_: tuple[float, float] = field(init=False, repr=False)
    """Lowest and highest rating; predictions lie between them."""
    item_factors_: np.ndarray = field(init=False, repr=False)
    """(N + 1, F) bias and vector of each item; the last row, of an unknown item, is 0."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.width < 0 or self.rounds < 1 or self.history < 0:
            raise DataError(
                f"width is {self.width}, rounds {self.rounds}, history {self.history}: at least 0,"
                " 1 and 0"
            )
        if not self.l2 > 0 or not self.bias_l2 > 0:
            raise DataError(f"l2 is {self.l2}, bias_l2 {self.bias_l2}: both above 0")

    def outcome(self) -> Outcome:
        """Return what is predicted: the values of events."""
        return Outcome("value", length=self.history)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        examples = Outcome("value", length=0).learn(data, run.rng("examples"))
        ratings = examples.labels.astype(np.float64)
        users = data.users.rows(examples.queries.user_ids.tolist())
        self.mean_ = float(ratings.mean())
        self.range_ = (float(ratings.min()), float(ratings.max()))
        factors = np.zeros((len(self.items_) + 1, 1 + self.width))
        factors[:-1, 1:] = run.rng("vectors").normal(0, FIRST_STD, (len(self.items_), self.width))
        by_user = _Grouped(users, len(data.users))
        by_item = _Grouped(examples.items, len(self.items_))
        centred = ratings - self.mean_
        for _ in run.progress(range(self.rounds), "solving users and items", self.rounds):
            user_factors = self._solve(by_user, factors[examples.items], centred)
            factors[:-1] = self._solve(by_item, user_factors[users], centred)
        self.item_factors_ = factors
        fitted = self._match(user_factors[users], factors[examples.items])
        rmse = float(np.sqrt(np.mean((fitted - ratings) ** 2)))
        self.fit_report_ = {
            "ratings": len(ratings),
            "mean": round(self.mean_, 4),
            "RMSE of what was learned from": round(rmse, 4),
        }

    def _solve(self, groups: "_Grouped", others: np.ndarray, centred: np.ndarray) -> np.ndarray:
        """Return (G, F) the best bias and vector of each group, given those of the other side.

        `others` (m, F) are bias and vector of the other side of each rating, `centred` (m,) the
        ratings less their mean.
        """
        features = np.concatenate([np.ones((len(others), 1)), others[:, 1:]], axis=1)
        penalties = np.r_[self.bias_l2, np.full(self.width, self.l2)]
        return groups.ridge(features, centred - others[:, 0], penalties)

    def _match(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return (m,) predictions for bias and vector of users and items, (m, F) each."""
        products = (users[:, 1:] * items[:, 1:]).sum(axis=1)
        return np.clip(self.mean_ + users[:, 0] + items[:, 0] + products, *self.range_)

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        users = self._user_factors(queries)
        return self._match(users[items.row_ids], self.item_factors_[items.values])

    def _user_factors(self, queries: Queries) -> np.ndarray:
        """Return (n, F) bias and vector of each query's user, from the ratings in its history."""
        if "values" not in queries.columns:
            return np.zeros((len(queries), 1 + self.width))
        histories = queries.histories.last(self.history)
        ratings = queries.columns["values"].last(self.history).values
        is_rated = np.isfinite(ratings)
        groups = _Grouped(histories.row_ids[is_rated], len(queries))
        others = self.item_factors_[histories.values[is_rated]]
        return self._solve(groups, others, ratings[is_rated] - self.mean_)

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=2, rounds=3)


class _Grouped:
    """Ratings in the order of their groups, to be solved a group at a time."""

    def __init__(self, groups: np.ndarray, count: int) -> None:
        """Take the group (m,) of each rating; `count` is the number of groups."""
        self.order = np.argsort(groups, kind="stable")
        lengths = np.bincount(groups, minlength=count)
        self.present = np.flatnonzero(lengths)  # groups with a rating
        self.ends = np.cumsum(lengths[self.present])
        self.count = count

    def ridge(self, features: np.ndarray, targets: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """Return (G, F) ridge coefficients of each group; 0 for a group without a rating.

        `features` are (m, F), `targets` (m,), `penalties` (F,).
        """
        coefficients = np.zeros((self.count, features.shape[1]))
        starts = np.r_[0, self.ends]
        first = 0
        while first < len(self.present):
            start = starts[first]
            stop_group = np.searchsorted(self.ends, start + RATINGS_AT_ONCE, side="right")
            last = max(first + 1, int(stop_group))
            rows = self.order[start : starts[last]]
            edges = starts[first:last] - start
            x = features[rows]
            products = x[:, :, None] * x[:, None, :]
            grams = np.add.reduceat(products, edges)  # g, F, F
            sums = np.add.reduceat(x * targets[rows, None], edges)  # g, F
            solved = np.linalg.solve(grams + np.diag(penalties), sums[..., None])
            coefficients[self.present[first:last]] = solved[..., 0]
            first = last
        return coefficients

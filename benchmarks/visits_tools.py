"""A planted log of visits, cut before its last visit, for claims about lists and rewards."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from claim_tools import difference_interval

from tailor.core.methods import Recommender
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.worlds.facet_visits import DAY_MS, FacetVisits, facet_visits
from tailor.worlds.seeds import START_MS

VISITS = 6
ASKED = 10  # items of a list


@dataclass(frozen=True, eq=False)
class VisitLog:
    """A log whose last visit nobody may learn from."""

    world: FacetVisits
    train: Dataset
    """All visits but the last, with their impressions."""

    @classmethod
    def make(cls, people: int, seed: int) -> "VisitLog":
        """Make a log in which slates ignore the one colour and the one shape that a user likes."""
        world = facet_visits(people, VISITS, seed, values=(3, 3, 4, 4), slate=8, likes=1)
        data = world.data
        cut_ms = START_MS + (VISITS - 1) * DAY_MS
        requests = data.tables["requests"]
        is_early = (requests["time_ms"] < cut_ms).to_numpy()
        early = requests.filter(pl.Series(is_early))["request_id"]
        impressions = data.tables["impressions"]["request_id"].is_in(early.implode()).to_numpy()
        others = {"requests": is_early, "impressions": impressions}
        return cls(world, data.cut((data.events["time_ms"] < cut_ms).to_numpy(), others))

    @cached_property
    def queries(self) -> Queries:
        return self.train.queries()

    @cached_property
    def people(self) -> np.ndarray:
        """Return the world's row of every query's user."""
        return self.world.data.users.rows(self.queries.user_ids.tolist())

    @cached_property
    def next_items(self) -> set[tuple[int, int]]:
        """Return (user, item) of all that was chosen in the last visit."""
        data = self.world.data
        cut_ms = START_MS + (VISITS - 1) * DAY_MS
        late = data.events.filter(pl.col("time_ms") >= cut_ms)
        users = data.users.rows(late["user_id"].to_list()).tolist()
        return set(zip(users, data.catalogue.rows(late["item_id"].to_list()).tolist(), strict=True))

    def lists(self, method: Recommender) -> np.ndarray:
        """Return (n, ASKED) rows of the world's items."""
        answers = method.recommend(self.queries, ASKED)
        return answers.reindexed(self.world.data.catalogue).rows

    def utility(self, lists: np.ndarray, variety: float = 0.0) -> np.ndarray:
        """Return (n,) the true utility of the first five of each list."""
        return self.world.truth.utility(self.people, lists[:, :5], variety)

    def hits(self, lists: np.ndarray) -> np.ndarray:
        """Return (n,) whether an item of the list was chosen in the last visit."""
        pairs = zip(self.people.tolist(), lists.tolist(), strict=True)
        return np.array(
            [any((user, item) in self.next_items for item in row) for user, row in pairs], float
        )

    def figures(self, lists: np.ndarray) -> dict[str, float]:
        """Return means: true utility of the first five, and how often ten hold a next item."""
        return {
            "utility": round(float(self.utility(lists).mean()), 4),
            "HR@10": round(float(self.hits(lists).mean()), 4),
        }

    def lead(self, lists: np.ndarray, over: np.ndarray, variety: float = 0.0) -> dict[str, float]:
        """Return by how much the true utility of lists is above that of others, with interval."""
        return difference_interval(self.utility(lists, variety) - self.utility(over, variety), 0)


def ends(curves: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the first and the last value of every curve."""
    return {name: [values[0], values[-1]] for name, values in curves.items()}

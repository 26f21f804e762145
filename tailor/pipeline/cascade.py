"""Cascade: retrieve many, then order them better."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.dataset import Dataset, Lists
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split, inner_cut
from tailor.errors import DataError, ModelError
from tailor.pipeline.joining import followed_by, one_catalogue


@dataclass(eq=False)
class Cascade(Recommender):
    """The first stage retrieves `depth` items, the second orders them; what the second leaves out
    follows in the first's order.

    A second stage that learns from lists is fitted on lists of a first stage that never saw their
    targets: the first is fitted before an inner cut, makes the lists for what came after, and is
    then refitted on everything.
    """

    retrieve: Recommender
    rank: Recommender
    depth: int = 100
    """Items retrieved."""

    retrieve_: Recommender = field(init=False, repr=False)
    rank_: Recommender = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.retrieve, Recommender) or not isinstance(self.rank, Recommender):
            raise ModelError("Cascade needs two recommenders, retrieve and rank")
        if self.depth < 1:
            raise ModelError(f"Cascade.depth is {self.depth}: it must be at least 1")

    @classmethod
    def tiny(cls) -> Self:
        return build(
            {
                "class": "Cascade",
                "retrieve": {"class": "CoVisitation"},
                "rank": {"class": "TextNeighbours"},
            },
            cls,
        )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        if not self.rank.trains_on_candidates:
            self.retrieve_, self.rank_ = (
                clone(stage).fit(data, run, valid) for stage in (self.retrieve, self.rank)
            )
            return
        cut = inner_cut(data, run.seed)
        if cut is None:
            raise DataError(
                "Cascade: nobody has the 3 events needed to make lists for the second stage"
            )
        first = clone(self.retrieve).fit(cut.train, run)
        queries, targets = cut.queries("valid")
        lists = Lists(queries, first.recommend(queries, self.depth), targets)
        self.rank_ = clone(self.rank).fit(cut.train.with_lists(lists), run)
        self.retrieve_ = clone(self.retrieve).fit(data, run, valid)
        listed = np.isin(
            targets.row_ids * len(data.catalogue) + targets.values,
            _keys(lists.rankings.reindexed(data.catalogue)),
        )
        self.fit_report_ = {
            "lists": len(queries),
            "share_of_targets_in_the_lists": round(float(listed.mean()), 4),
        }

    def restrict(self, queries: Queries) -> Queries:
        return self.rank_.restrict(self.retrieve_.restrict(queries))

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        depth = max(k, self.depth)
        found = self.retrieve_.recommend(queries, depth, candidates)
        ordered = self.rank_.recommend(queries, depth, found)
        joined = followed_by(replace(ordered, columns={}), replace(found, columns={}), k)
        joined, found = one_catalogue([joined, found])
        return replace(
            joined,
            columns={**joined.columns, self.retrieve_.name: _scores_of(joined, found)},
            score_kind=ordered.score_kind,
        )

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The second stage's explanations where it has any, else the first's."""
        self._check_fitted()
        for stage in (self.rank_, self.retrieve_):
            if stage.explains():
                return stage.explain(self.restrict(Queries.of(queries)), rankings)
        raise ModelError("Cascade: neither stage can explain its rankings")


def _keys(lists: Rankings) -> np.ndarray:
    return (np.arange(len(lists))[:, None] * len(lists.catalogue) + lists.rows)[lists.rows >= 0]


def _scores_of(joined: Rankings, found: Rankings) -> np.ndarray:
    """(Q, k) the scores that `found` gave to the items of `joined`; NaN where it did not score
    them.
    """
    base = len(found.catalogue) + 1
    keys, shown = np.arange(len(found))[:, None] * base, found.rows >= 0
    known, scores = (keys + found.rows)[shown], found.scores[shown]
    order = np.argsort(known)
    wanted = keys + joined.rows
    at = np.searchsorted(known[order], wanted).clip(max=max(len(known) - 1, 0))
    if not len(known):
        return np.full(joined.rows.shape, np.nan, np.float32)
    return np.where(
        (joined.rows >= 0) & (known[order][at] == wanted), scores[order][at], np.nan
    ).astype(np.float32)

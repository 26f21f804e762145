"""Cascade: retrieve many items, then order them better."""

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
from tailor.pipeline.joining import followed_by, one_catalogue, part_reports


@dataclass(eq=False)
class Cascade(Recommender):
    """The first stage retrieves `depth` items, the second orders them.

    Items that the second stage leaves out follow in the first stage's order. A second stage that
    trains on candidates is fitted on lists of a first stage that never saw their targets: the first
    stage is fitted before an inner cut, makes lists for the events after it, and is then refitted
    on everything.
    """

    retrieve: Recommender
    """First stage: finds items."""
    rank: Recommender
    """Second stage: orders the items found."""
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
        cut = inner_cut(data, run.seed) if self.rank.trains_on_candidates else None
        if cut is not None:
            lists = self._fit_on_lists(cut, data, run, valid)
            self.fit_report_ = {
                "lists": len(lists.queries),
                "share_of_targets_in_the_lists": round(_target_share(lists, data), 4),
            }
        elif self.rank.trains_on_candidates and "judgements" not in data.tables:
            raise DataError(
                "Cascade: nobody has the 3 events needed to make lists for the second stage, and"
                " there are no judgements to learn from"
            )
        else:
            self.retrieve_ = clone(self.retrieve).fit(data, run, valid)
            self.rank_ = clone(self.rank).fit(data, run, valid)
        self.fit_report_ |= part_reports([self.retrieve_, self.rank_])

    def _fit_on_lists(self, cut: Split, data: Dataset, run: Run, valid: Split | None) -> Lists:
        """Fit both stages, the second on lists of a first stage that saw no targets."""
        first = clone(self.retrieve).fit(cut.train, run)
        queries, targets = cut.queries("valid")
        lists = Lists(queries, first.recommend(queries, self.depth), targets)
        self.rank_ = clone(self.rank).fit(cut.train.with_lists(lists), run)
        self.retrieve_ = clone(self.retrieve).fit(data, run, valid)
        return lists

    def restrict(self, queries: Queries) -> Queries:
        return self.rank_.restrict(self.retrieve_.restrict(queries))

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        depth = max(k, self.depth)
        retrieved = self.retrieve_.recommend(queries, depth, candidates)
        ranked = self.rank_.recommend(queries, depth, retrieved)
        joined = followed_by(replace(ranked, columns={}), replace(retrieved, columns={}), k)
        joined, retrieved = one_catalogue([joined, retrieved])
        first_scores = _scores_of(joined, retrieved)
        return replace(
            joined,
            columns={**joined.columns, self.retrieve_.name: first_scores},
            score_kind=ranked.score_kind,
        )

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the second stage's explanations if it has any, else the first's."""
        self._check_fitted()
        for stage in (self.rank_, self.retrieve_):
            if stage.explains():
                return stage.explain(self.restrict(Queries.of(queries)), rankings)
        raise ModelError("Cascade: neither stage can explain its rankings")


def _target_share(lists: Lists, data: Dataset) -> float:
    """Return the share of targets that stand in their query's list."""
    base = len(data.catalogue)
    rankings = lists.rankings.reindexed(data.catalogue)
    list_keys = (np.arange(len(rankings))[:, None] * base + rankings.rows)[rankings.rows >= 0]
    target_keys = lists.targets.row_ids * base + lists.targets.values
    return float(np.isin(target_keys, list_keys).mean())


def _scores_of(lists: Rankings, scored: Rankings) -> np.ndarray:
    """Return (n, k) the scores of the items of `lists` in `scored`; NaN for none.

    Both are rankings of the same queries over one catalogue.
    """
    base = len(scored.catalogue) + 1
    first_key = np.arange(len(scored))[:, None] * base
    is_scored = scored.rows >= 0
    keys = (first_key + scored.rows)[is_scored]
    if not len(keys):
        return np.full(lists.rows.shape, np.nan, np.float32)
    order = np.argsort(keys)
    sorted_keys = keys[order]
    sorted_scores = scored.scores[is_scored][order]
    list_keys = first_key + lists.rows
    positions = np.searchsorted(sorted_keys, list_keys).clip(max=len(keys) - 1)
    has_score = (lists.rows >= 0) & (sorted_keys[positions] == list_keys)
    return np.where(has_score, sorted_scores[positions], np.nan).astype(np.float32)

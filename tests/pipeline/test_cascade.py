"""Retrieve, then order: what each stage may see, and how the lists are joined."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from says import Says

from tailor.core.methods import Recommender, ScoringRecommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError
from tailor.pipeline.cascade import Cascade
from tailor.pipeline.filter import Filter
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

FITS: list[tuple[str, Dataset]] = []  # which stage was fitted on what, in order


@dataclass(eq=False)
class First(CoVisitation):
    """Co-visitation that tells what it was fitted on."""

    def _fit(self, data, run, valid):
        FITS.append(("first", data))
        super()._fit(data, run, valid)


@dataclass(eq=False)
class Reranker(ScoringRecommender):
    """Learns from lists: how often the target stood at each place; orders by the first stage's
    place.
    """

    trains_on_candidates: ClassVar[bool] = True

    def _fit(self, data, run, valid):
        FITS.append(("second", data))
        lists = data.lists
        self.items_ = data.catalogue
        self.hits_ = float(np.mean([self._place(lists, i) >= 0 for i in range(len(lists.queries))]))

    @staticmethod
    def _place(lists, i) -> int:
        found = np.flatnonzero(
            np.isin(lists.rankings[i].ids, lists.queries.catalogue.named(lists.targets[i]))
        )
        return int(found[0]) if len(found) else -1

    def _scores(self, queries):
        return np.ones((len(queries), len(self.items_)), np.float32)


def leaks(data: Dataset, lists) -> int:
    """How many targets of the lists stand, as events of that very user, in the data (each event
    counted as often as it is too many).
    """
    rows, users = data.sequences.rows, data.users
    found = 0
    for i, user in enumerate(lists.queries.user_ids):
        seen = rows[users.rows([user])[0]].tolist()
        history = lists.queries.histories[i].tolist()
        found += len(seen) > len(history)
        assert seen[: len(history)] == history
    return found


@pytest.fixture
def fitted():
    FITS.clear()
    data = last_out(tiny_data(users=50)).train
    return Cascade(First(), Reranker(), depth=20).fit(data, Run(seed=1)), data, list(FITS)


def test_the_first_stage_is_fitted_before_the_cut_then_the_second_then_the_first_on_everything(
    fitted,
):
    _, data, fits = fitted
    assert [stage for stage, _ in fits] == ["first", "second", "first"]
    assert len(fits[0][1].events) == len(fits[1][1].events) == len(data.events) - 50
    assert fits[2][1] is data


def test_no_stage_saw_a_target_of_the_lists_it_made_or_learns_from(fitted):
    _, data, fits = fitted
    lists = fits[1][1].lists
    assert len(lists.queries) == 50 and lists.targets.lengths.tolist() == [1] * 50
    assert leaks(fits[0][1], lists) == 0, "the stage that made the lists had seen their targets"
    assert leaks(fits[1][1], lists) == 0, "the second stage's data holds the targets"
    assert leaks(fits[2][1], lists) == 50, "this test would not notice a leak"
    for i in range(50):
        assert lists.queries.catalogue.named(lists.targets[i]) == [
            data.catalogue.ids[data.sequences.rows[i][-1]]
        ]


@dataclass(eq=False)
class Memory(ScoringRecommender):
    """Cheats: recommends to each user the last event it saw of them."""

    last_: dict[str, str] = field(init=False, repr=False)

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue
        rows = data.sequences.rows
        self.last_ = {
            user: self.items_.ids[rows[at][-1]]
            for at, user in enumerate(data.users.ids)
            if len(rows[at])
        }

    def _scores(self, queries):
        scores = np.zeros((len(queries), len(self.items_)), np.float32)
        for i, user in enumerate(queries.user_ids):
            scores[i, self.items_.rows([self.last_[user]])] = 1
        return scores


def test_a_stage_that_remembers_targets_gains_nothing_on_the_lists():
    """Every user ends on an item of their own that is no other event of theirs: whoever saw the
    targets puts all of them first.
    """
    rng = np.random.default_rng(0)
    rows = [(f"u{u:02d}", f"i{i:03d}") for u in range(40) for i in (*rng.integers(100, 160, 6), u)]
    data = Dataset({"events": pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")})
    method = Cascade(Memory(), Reranker(), depth=1).fit(data)
    assert method.fit_report_["share_of_targets_in_the_lists"] == 0 and method.rank_.hits_ == 0
    leaking = Memory().fit(data).recommend(data.queries(), 1)
    assert all(ranking.ids == (f"i{u:03d}",) for u, ranking in enumerate(leaking)), (
        "the planted cheat does not cheat"
    )


def test_a_second_stage_without_lists_is_fitted_on_everything():
    data = tiny_data()
    method = Cascade(CoVisitation(), Popularity()).fit(data)
    assert (
        method.retrieve_.trained_on_
        == method.rank_.trained_on_
        == method.trained_on_
        == data.provenance
    )


def test_too_little_data_for_lists_is_refused():
    data = Dataset({"events": pl.DataFrame({"user_id": list("uuvv"), "item_id": list("abcd")})})
    with pytest.raises(DataError, match="3 events"):
        Cascade(CoVisitation(), Reranker()).fit(data)


# --- joining
# -------------------------------------------------------------------------------------------------------------------


def asked(method: Recommender, k: int, query: Query | None = None):
    return method.fit(tiny_data(users=5)).recommend([query or Query()], k)[0]


def test_what_the_second_stage_leaves_out_follows_in_the_firsts_order():
    assert asked(Cascade(Says("abcdef"), Says("xfdz")), 6).ids == tuple("fdabce")
    assert asked(Cascade(Says("abcdef"), Says("")), 3).ids == tuple("abc")
    assert asked(Cascade(Says(""), Says("abc")), 3).ids == ()


def test_only_depth_items_are_retrieved_but_never_fewer_than_asked_for():
    assert asked(Cascade(Says("abcdef"), Says("fedcba"), depth=3), 2).ids == tuple("cb")
    assert asked(Cascade(Says("abcdef"), Says("fedcba"), depth=3), 5).ids == tuple("edcba")


def test_columns_stand_beside_the_ids_they_belong_to():
    ranking = asked(Cascade(Says("abcdef"), Says("xfdz")), 5)
    assert dict(zip(ranking.ids, ranking.columns["Says"].tolist(), strict=True)) == {
        "f": 95,
        "d": 97,
        "a": 100,
        "b": 99,
        "c": 98,
    }
    assert ranking.columns["stage"].tolist() == [0, 0, 1, 1, 1]


def test_columns_are_aligned_in_every_query_of_a_batch():
    data = tiny_data()
    method = Cascade(CoVisitation(), Popularity(), depth=15).fit(data)
    first = CoVisitation().fit(data)
    queries = [Query(), *data.queries()[:20], Query(history=History.of("unknown"))]
    for query, ranking in zip(queries, method.recommend(queries, 9), strict=True):
        known = first.recommend([query], 15)[0]
        scores = dict(zip(known.ids, known.scores.tolist(), strict=True))
        assert [scores[one] for one in ranking.ids] == pytest.approx(
            ranking.columns["CoVisitation"].tolist(), rel=1e-6
        )


def test_exclusions_reach_both_stages():
    assert asked(Cascade(Says("abcdef"), Says("fed")), 6, Query(exclude=("f", "a"))).ids == tuple(
        "edbc"
    )
    assert asked(
        Cascade(Filter(Says("abcdef"), blocked=["e"]), Filter(Says("fed"), blocked=["a"])), 6
    ).ids == tuple("fdbc")


@pytest.mark.parametrize(
    "stages", [("EASE", Popularity()), (Popularity(), None), (Popularity, Popularity())]
)
def test_stages_that_are_no_recommenders_are_refused(stages):
    with pytest.raises(ModelError, match="Cascade"):
        Cascade(*stages)

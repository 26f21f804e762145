"""Explanations are believed only as far as asking again bears them out."""

import itertools
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, History, Query
from tailor.errors import DataError
from tailor.evaluation.explanations import (
    _random_removals,
    counterfactual,
    explain_rankings,
    faithfulness,
    item_positions,
    leave_one_out,
    rank_drops,
    remove_items,
    strongest_evidence,
    with_faithfulness,
)
from tailor.papers.retrieval.graph_heuristic import GraphHeuristic
from tailor.pipeline.default import counting_pipeline
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.filter import Filter
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

ITEMS = [*"abcdefghijkl", *"xyzw"]
DATA = Dataset.from_events({"user_id": ["u"] * len(ITEMS), "item_id": ITEMS})


@dataclass(eq=False)
class Votes(ScoringRecommender):
    """Every item of the history adds what the table says; what stands under "" is there for
    everybody. Cannot explain itself.
    """

    table: dict[str, dict[str, float]] = field(default_factory=dict)

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _scores(self, queries):
        out = np.full((len(queries), len(self.items_)), -np.inf, np.float32)
        for i, query in enumerate(queries):
            for cause in ("", *query.history.item_ids):
                for item, vote in self.table.get(cause, {}).items():
                    at = self.items_.rows([item])
                    out[i, at] = np.where(out[i, at] == -np.inf, 0, out[i, at]) + vote
        return out


@dataclass(eq=False)
class Honest(Votes):
    """Names what it counted."""

    def explain(self, queries, rankings):
        return [
            [self._told(query, one) for one in ranking.ids]
            for query, ranking in zip(queries, rankings, strict=True)
        ]

    def _told(self, query, item_id):
        votes = {
            cause: self.table.get(cause, {}).get(item_id, 0.0) for cause in query.history.item_ids
        }
        ordered = sorted((-vote, cause) for cause, vote in votes.items() if vote > 0)
        total = sum(votes.values())
        return Explanation(
            item_id, tuple(Evidence("item", cause, -vote / total) for vote, cause in ordered)
        )


@dataclass(eq=False)
class Liar(Honest):
    """Ranks as the others do, and names items of the history by chance."""

    def _told(self, query, item_id):
        order = Run(seed=1).rng(item_id, *query.history.item_ids).permutation(len(query.history))
        return Explanation(item_id, (Evidence("item", query.history.item_ids[order[0]], 1.0),))


HAND = {"a": {"x": 5.0}, "b": {"x": 1.0, "y": 3.0}, "c": {"z": 2.0}}
ABC = Query(history=History.of("a", "b", "c"), exclude=("a", "b", "c"))


def about(method, query, item_id):
    return next(
        one
        for one in explain_rankings(method, [query], method.recommend([query], 10))[0]
        if one.item_id == item_id
    )


def test_faithfulness_by_hand():
    method = Honest(HAND).fit(DATA)
    fall = faithfulness(method, ABC, about(method, ABC, "x"))
    assert (
        fall.removed == ("a",)
        and (fall.rank, fall.score) == (1, 6)
        and (fall.rank_without, fall.score_without) == (3, 1)
    )
    assert fall.ranks_random == (1, 1) and fall.scores_random == (
        5,
        6,
    ), "both of the other events, once each"
    assert fall.figure == pytest.approx((1 - 0.5) / 1)
    gone = faithfulness(method, ABC, about(method, ABC, "z"))
    assert gone.rank_without is None and gone.score_without is None and gone.figure == 1


def test_an_explanation_that_names_what_holds_the_item_back_gets_less_than_nothing():
    method = Votes({"a": {"x": 2.0}, "b": {"y": 3.0}, "": {"w": 1.0}}).fit(DATA)
    query = Query(history=History.of("a", "b"))
    fall = faithfulness(method, query, Explanation("x", (Evidence("item", "b", 1.0),)))
    assert (fall.rank, fall.rank_without, fall.ranks_random) == (
        2,
        1,
        (None,),
    ) and fall.figure == -1


def test_leaving_one_out_finds_the_exact_shares_of_an_additive_method():
    silent, honest = Votes(HAND).fit(DATA), Honest(HAND).fit(DATA)
    ids = ["x", "y", "z"]
    for told, found in zip(
        [honest._told(ABC, one) for one in ids], leave_one_out(silent, ABC, ids), strict=True
    ):
        assert [(one.id, pytest.approx(one.share)) for one in told.evidence] == [
            (one.id, one.share) for one in found.evidence
        ]


def test_leaving_one_out_of_a_real_method_finds_its_own_exact_shares():
    data = tiny_data()
    # without decay, nothing else moves when an event is taken out
    method = CoVisitation(history_decay=1.0).fit(data)
    for query in data.queries()[:5]:
        ranking = method.recommend([query], 3)[0]
        for told, found in zip(
            method.explain([query], [ranking])[0],
            leave_one_out(method, query, ranking.ids),
            strict=True,
        ):
            shares = {one.id: one.share for one in found.evidence}
            assert shares.keys() == {one.id for one in told.evidence}
            assert all(
                shares[one.id] == pytest.approx(one.share, abs=1e-4) for one in told.evidence
            )


def people(n=60, history=6, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        ids = rng.permutation(list("abcdefghijkl"))[:history].tolist()
        yield Query(history=History(tuple(ids)), exclude=tuple("abcdefghijkl"), request_id=str(i))


def one_cause_an_item():
    """Every item of the history speaks for one of x, y, z, w, the first loudest."""
    return {cause: {"xyzw"[at % 4]: 4.0 - at // 4} for at, cause in enumerate("abcdefghijkl")} | {
        "": {one: 0.5 for one in "xyz"}
    }


def figures(method):
    queries = list(people())
    firsts = [about(method, query, method.recommend([query], 1)[0].ids[0]) for query in queries]
    return np.array([one.figure for one in rank_drops(method, queries, firsts) if one is not None])


def test_a_liar_is_told_from_an_honest_method():
    honest, liar = (
        figures(Honest(one_cause_an_item()).fit(DATA)),
        figures(Liar(one_cause_an_item()).fit(DATA)),
    )
    assert len(honest) == len(liar) == 60
    assert abs(liar.mean()) < 0.12 and honest.mean() > 0.3
    assert (honest > liar).mean() > 0.5 and (honest < liar).mean() < 0.1


def test_what_is_taken_out_is_the_strongest_evidence_up_to_half_of_the_score():
    evidence = tuple(Evidence("item", one, share) for one, share in zip("abc", (0.4, 0.3, 0.3)))
    told = Explanation(
        "x",
        (Evidence("word", "kettle", 0.1), *evidence, Evidence("item", "not in the history", 0.2)),
    )
    assert strongest_evidence(ABC, told) == ("a", "b")
    assert strongest_evidence(ABC, told, 0.4) == ("a",)
    assert strongest_evidence(ABC, told, 1.0) == ("a", "b", "c")


def test_nothing_to_compare_is_no_figure():
    method = Honest(HAND).fit(DATA)
    alone = Query(history=History.of("a"))
    assert faithfulness(method, alone, about(method, alone, "x")) is None, "no other event to draw"
    assert faithfulness(method, Query(), Explanation("x")) is None
    assert faithfulness(method, ABC, Explanation("x", (Evidence("popularity", "x", 1.0),))) is None
    nowhere = Explanation("nobody knows this", (Evidence("item", "a", 1.0),))
    assert faithfulness(method, ABC, nowhere) is None
    assert with_faithfulness(method, [Query()], [[Explanation("x")]])[0][0].faithfulness is None
    assert rank_drops(method, [], []) == [] and with_faithfulness(method, [Query()], [[]]) == [[]]
    for bad in ({"draws": 0}, {"cover": 0.0}, {"cover": 1.5}):
        with pytest.raises(DataError, match="draws"):
            faithfulness(method, ABC, Explanation("x"), **bad)


def test_draws_are_keyed_by_the_seed_and_the_request():
    method = Honest(one_cause_an_item() | {"": {"w": 2.0, "x": 1.0}}).fit(DATA)
    query = Query(
        history=History(tuple("abcdefghijkl")), exclude=tuple("abcdefghijkl"), request_id="r"
    )
    told = about(method, query, "x")
    ask = lambda seed, of: faithfulness(method, of, told, Run(seed=seed), draws=4).scores_random  # noqa: E731
    assert ask(0, query) == ask(0, query)
    assert (
        len({ask(seed, query) for seed in range(5)}) > 1
        and len({ask(0, replace(query, request_id=str(n))) for n in range(5)}) > 1
    )


@pytest.mark.parametrize(
    "make",
    [
        counting_pipeline,
        CoVisitation,
        GraphHeuristic,
        lambda: Fallback([CoVisitation(), Popularity()]),
    ],
)
def test_a_batch_gives_what_one_by_one_gives_and_figures_stay_within_bounds(make):
    data = tiny_data()
    method = make().fit(data)
    queries = [*data.queries()[:6], Query(), Query(history=History.of("no such item"))]
    queries = [replace(query, exclude=query.history.item_ids) for query in queries]
    rankings = method.recommend(queries, 3)
    told = explain_rankings(method, queries, rankings)
    batch = with_faithfulness(method, queries, told)
    assert any(one.faithfulness is not None for of_query in batch for one in of_query)
    for query, reasons, found in zip(queries, told, batch, strict=True):
        alone = [faithfulness(method, query, one) for one in reasons]
        assert [None if one is None else pytest.approx(one.figure) for one in alone] == [
            one.faithfulness for one in found
        ]
        assert all(one is None or -1 <= one.figure <= 1 for one in alone)


def test_taking_out_keeps_the_other_columns_and_what_is_excluded():
    history = History(
        ("a", "b", "a"),
        (1, 2, 3),
        ("view", "buy", "view"),
        (0.1, 0.2, 0.3),
        ("one", "two", "three"),
    )
    query = Query("u", history, "words", 9, "r", ("a", "b"), context={"surface": "app"})
    left = remove_items(query, ("a",))
    assert (
        left.history.item_ids == ("b",)
        and left.history.times_ms == (2,)
        and left.history.texts == ("two",)
    )
    assert left.exclude == ("a", "b") and (
        left.text,
        left.time_ms,
        left.request_id,
        left.user_id,
    ) == ("words", 9, "r", "u")
    assert len(query.history) == 3


def test_a_pipeline_of_parts_that_cannot_explain_is_explained_by_leaving_one_out():
    method = Filter(Votes(HAND), blocked=["y"]).fit(DATA)
    assert method.explains() and [one.id for one in about(method, ABC, "x").evidence] == ["a", "b"]


def test_a_very_long_history():
    ids = tuple(f"i{at}" for at in range(3000))
    data = Dataset.from_events({"user_id": ["u"] * 3002, "item_id": [*ids, "x", "y"]})
    query = Query(history=History(ids), exclude=ids)
    method = Votes({one: {"x": 1.0} for one in ids[:20]} | {"": {"y": 0.5, "x": 0.2}}).fit(data)
    assert leave_one_out(method, query, ["x"])[0].evidence == (), "the latest items only"
    found = counterfactual(method, query, "x", 1)
    assert set(ids[:20]) <= set(found.removed) and not found.is_smallest
    fall = faithfulness(method, query, Explanation("x", (Evidence("item", ids[0], 1.0),)))
    assert fall.figure == 0 and len(fall.ranks_random) == 10


# --- counterfactuals


def test_counterfactuals_by_hand():
    method = Honest(HAND).fit(DATA)
    assert counterfactual(method, ABC, "x", 1).removed == ("a",)
    assert counterfactual(method, ABC, "x", 2).removed == ("a",)
    found = counterfactual(method, ABC, "x", 3)
    assert found.removed == ("a", "b") and found.rank == 1 and found.is_smallest and found.is_found
    assert (
        counterfactual(method, ABC, "y", 1).rank is None
        and not counterfactual(method, ABC, "y", 1).is_found
    ), "it is second"


def test_where_there_is_none_it_says_so():
    method = Votes({"a": {"x": 1.0}, "": {"x": 5.0, "y": 4.0}}).fit(DATA)
    for query in (ABC, Query()):
        found = counterfactual(method, query, "x", 1)
        assert not found.is_found and found.rank == 1
    assert counterfactual(method, ABC, "nobody knows this", 3).rank is None


@pytest.mark.parametrize("kind", [Votes, Honest, Liar])
def test_a_long_history_is_searched_greedily_and_nothing_can_be_spared(kind):
    method = kind({one: {"x": 1.0} for one in "abcdefghij"} | {"": {"y": 3.5}}).fit(DATA)
    query = Query(history=History(tuple("abcdefghijkl")), exclude=tuple("abcdefghijkl"))
    found = counterfactual(method, query, "x", 1)
    assert len(found.removed) == 7 and not set(found.removed) & {"k", "l"} and not found.is_smallest
    assert counterfactual(method, query, "x", 1, tries=5000).is_smallest


@pytest.mark.parametrize("make", [counting_pipeline, CoVisitation, GraphHeuristic])
def test_counterfactuals_hold_and_are_the_smallest(make):
    data = tiny_data()
    method = make().fit(data)
    seen = 0
    for query in data.queries()[:6]:
        query = replace(query, exclude=query.history.item_ids)
        for item_id in method.recommend([query], 2)[0].ids:
            found = counterfactual(method, query, item_id, 5)
            causes = list(dict.fromkeys(query.history.item_ids))
            smaller = [
                gone
                for n in range(1, max(len(found.removed), 1))
                for gone in itertools.combinations(causes, n)
            ]
            assert all(
                item_id in one.ids
                for one in method.recommend([remove_items(query, gone) for gone in smaller], 5)
            )
            if found.is_found:
                seen += 1
                assert (
                    item_id not in method.recommend([remove_items(query, found.removed)], 5)[0].ids
                )
    assert seen


def test_places_of_items():
    method = Votes(HAND).fit(DATA)
    assert item_positions(method, [ABC, ABC, ABC, Query()], ["x", "z", "w", "x"]) == [
        (1, 6),
        (3, 2),
        None,
        None,
    ]
    assert (
        item_positions(method, [ABC], ["z"], depth=2) == [None]
        and item_positions(method, [], []) == []
    )


def test_the_work_of_taking_a_history_apart_grows_with_its_events_and_no_faster():
    def work(n: int) -> float:
        query = Query(history=History(tuple(str(at) for at in range(n))))
        explanation = Explanation("x", tuple(Evidence("item", str(at), 1 / n) for at in range(n)))
        named = strongest_evidence(query, explanation, cover=0.02)
        started = time.process_time()
        removed = _random_removals(query, named, "x", Run(), 2)
        seconds = time.process_time() - started
        assert [len(one.history) for one in removed] == [n - len(named)] * 2
        assert all(set(named) <= set(one.history.item_ids) for one in removed)
        return seconds

    small = work(5_000)
    assert work(100_000) < 100 * small  # 20 where linear; a set made anew for every event: 400

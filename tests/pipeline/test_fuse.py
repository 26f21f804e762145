"""Fusion: golden scores, learned weights, parts of every kind."""

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from tailor.core.methods import Recommender, ScoringRecommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.splits import by_ratio, last_out
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError
from tailor.evaluation.protocol import evaluate
from tailor.pipeline import fusion_weights
from tailor.pipeline.default import counting_pipeline
from tailor.pipeline.filter import Filter
from tailor.pipeline.fuse import Fuse
from tailor.pipeline.fusion_report import labels
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.ease import EASE
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.repeat import Repeat
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.text_neighbours import TextNeighbours
from tailor.testing.data import tiny_data
from tailor.worlds.opposites import SIGNALS, opposite


@dataclass(eq=False)
class Says(ScoringRecommender):
    """Gives every item of its table the score that stands there, whoever asks; knows no other
    items.
    """

    table: dict[str, float] = field(default_factory=dict)
    only_for: str = ""  # a user; nobody else is answered

    def _fit(self, data, run, valid):
        self.items_ = Vocabulary.of_items(self.table)
        self.row_ = np.array([self.table[one] for one in self.items_.ids], np.float32)

    def _scores(self, queries):
        scores = np.tile(self.row_, (len(queries), 1))
        if self.only_for:
            scores[[user != self.only_for for user in queries.user_ids]] = -np.inf
        return scores


DATA = Dataset({"events": pl.DataFrame({"user_id": list("uuuvvv"), "item_id": list("abcabd")})})


def fused(
    *tables: dict[str, float], k: int = 10, query: Query | None = None, **settings: Any
) -> dict[str, float]:
    settings = {"weights": (1.0,) * len(tables), **settings}
    ranking = (
        Fuse([Says(table) for table in tables], **settings)
        .fit(DATA)
        .recommend([query or Query()], k)[0]
    )
    return dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))


def approx(**expected: float) -> Any:
    return {name: pytest.approx(value, abs=1e-6) for name, value in expected.items()}


# --- golden scores
# -------------------------------------------------------------------------------------------------------------


def test_score_fusion_by_hand():
    got = fused({"a": 4.0, "b": 2.0}, {"b": 30.0, "c": 15.0}, weights=(0.75, 0.25))
    assert got == approx(a=0.75, b=0.75 * 0.5 + 0.25, c=0.125) and list(got) == ["a", "b", "c"]


def test_rank_fusion_by_hand():
    got = fused(
        {"a": 4.0, "b": 2.0, "d": 1.0}, {"b": 30.0, "c": 15.0}, kind="rank", rank_constant=10.0
    )
    assert got == approx(b=0.5 * 11 / 12 + 0.5, a=0.5, c=0.5 * 11 / 12, d=0.5 * 11 / 13)


@pytest.mark.parametrize(
    "table",
    [
        {"a": -1.0, "b": -2.0, "c": -5.0},
        {"a": -1.0},
        {"a": 3.0, "b": -3.0},
        {"a": 0.0, "b": 0.0},
        {"a": 1e-30, "b": -1e30},
    ],
    ids=str,
)
def test_scores_that_are_negative_or_zero_lose_no_item_and_keep_their_order(table):
    """Log-probabilities are negative: the worst item of a list is still an answer."""
    for k in (1, 2, 10):
        got = fused(table, k=k)
        assert (
            list(got)
            == sorted(
                table, key=lambda one: (-table[one], Vocabulary.of_items(table).rows([one])[0])
            )[:k]
        )
        assert all(0 < score <= 1 for score in got.values())
    assert set(fused(table, {"z": 1.0})) == {*table, "z"}


def test_a_part_without_weight_names_no_item():
    assert set(fused({"a": 1.0}, {"b": 1.0}, weights=(1.0, 0.0))) == {"a"}


def test_a_part_that_answers_nothing_leaves_the_others_as_they_are():
    alone = fused({"a": 4.0, "b": 2.0}, weights=(1.0,))
    assert fused({"a": 4.0, "b": 2.0}, {}) == approx(
        **{one: score / 2 for one, score in alone.items()}
    )
    assert fused({}, {}) == {}


def test_parts_with_different_catalogues_are_one():
    got = fused({"a": 2.0, "x": 1.0}, {"y": 3.0, "a": 3.0})
    assert got == approx(a=1.0, y=0.5, x=0.25)


def test_columns_hold_what_each_part_said():
    ranking = (
        Fuse([Says({"a": 4.0, "b": 2.0}), Says({"b": 5.0})], weights=(1, 1))
        .fit(DATA)
        .recommend([Query()], 5)[0]
    )
    at = {one: i for i, one in enumerate(ranking.ids)}
    assert ranking.columns["Says 1"][at["b"]] == 0.5 and ranking.columns["Says 2"][at["b"]] == 1
    assert np.isnan(ranking.columns["Says 2"][at["a"]])


def test_a_vote_of_zero_is_no_missing_vote():
    ranking = (
        Fuse([Says({"a": -1.0, "b": -2.0}), Says({"b": 5.0})], weights=(1, 1))
        .fit(DATA)
        .recommend([Query()], 5)[0]
    )
    assert ranking.columns["Says 1"][ranking.ids.index("b")] == pytest.approx(0, abs=1e-6)


def test_a_short_list_says_why_and_an_excluded_item_never_comes():
    method = Fuse([Says({"a": 1.0, "b": 0.5}), Says({})], weights=(1, 1)).fit(DATA)
    ranking = method.recommend([Query(exclude=("a",))], 5)[0]
    assert ranking.ids == ("b",) and ranking.notes
    (only,) = method.recommend([Query()], 5, [Ranking(("b", "z"), np.array([1, 2], np.float32))])
    assert only.ids == ("b",)


def test_one_by_one_equals_the_batch_even_across_blocks(monkeypatch):
    from tailor.pipeline import fuse

    monkeypatch.setattr(fuse, "BLOCK", 7)
    data = tiny_data()
    method = Fuse(
        [CoVisitation(), Says({"thing-001": -1.0, "y": -2.0}, only_for="person-008"), Popularity()],
        weights=(3, 2, 1),
    ).fit(data)
    batch = method.recommend(data.queries(), 6)
    assert len(batch) == 60
    for i, query in enumerate(data.queries()):
        alone = method.recommend([query], 6)[0]
        assert alone.ids == batch[i].ids and np.allclose(alone.scores, batch[i].scores, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0,), (1, 1, 1), (-1, 2), (0, 0), (float("nan"), 1), ()])
def test_weights_that_fit_no_parts_are_refused(weights):
    with pytest.raises(ModelError, match="weights"):
        Fuse([Popularity(), EASE()], weights=weights)


@pytest.mark.parametrize("parts", [[], ["EASE"], [Popularity], "EASE", None])
def test_parts_that_are_no_recommenders_are_refused(parts):
    with pytest.raises(ModelError, match="parts"):
        Fuse(parts)
    with pytest.raises(ModelError, match=r"depth|kind"):
        build({"class": "Fuse", "parts": [{"class": "EASE"}], "depth": 0, "kind": "score"})


# --- learned weights
# -----------------------------------------------------------------------------------------------------------


def quality(parts: list[Recommender], weights: tuple[float, ...], split: Any) -> float:
    method = Fuse(parts, weights=weights).fit(split.train)
    return evaluate(method, split, "valid", metrics=("NDCG",), seen=("removed",)).mean(
        "Fuse", "NDCG@10"
    )


PARTS = [CoVisitation(), TextNeighbours(max_share=1.0), EASE(l2=20.0)]


def learned(method: Fuse) -> tuple[float, ...]:
    """The weight of every part, those that are not asked included."""
    weights = method.fit_report_["weights"]
    return tuple(weights.get(name, 0.0) for name in labels(method.parts))


def test_the_learned_weights_are_as_good_as_the_best_of_a_grid():
    split = last_out(tiny_data(users=120, items=50, events=8, seed=3))
    method = Fuse(PARTS).fit(split.train, valid=split)
    grid = [
        (a / 4, b / 4, (4 - a - b) / 4)
        for a, b in itertools.product(range(5), repeat=2)
        if a + b <= 4
    ]
    best = max(quality(PARTS, one, split) for one in grid)
    assert sum(method.weights_) == pytest.approx(1)
    assert quality(PARTS, learned(method), split) >= best - 0.004


@pytest.mark.parametrize("cut", [last_out, by_ratio, lambda data: by_ratio(data, 0.4, 0.1)])
@pytest.mark.parametrize("kind", ["score", "rank"])
def test_the_reported_figure_is_what_the_protocol_measures(cut, kind):
    """With one target a user and with several, some of them chosen twice."""
    split = cut(tiny_data(users=120, items=25, events=14, seed=1))
    method = Fuse(PARTS, kind=kind).fit(split.train, valid=split)
    measured = evaluate(method, split, "valid", metrics=("NDCG",), seen=("removed",)).mean(
        "Fuse", "NDCG@10"
    )
    assert method.fit_report_["validation_ndcg@10"] == pytest.approx(measured, abs=2e-4)


def test_a_part_that_tells_nothing_apart_earns_no_weight():
    """All items at the same score: whatever stands first does so by chance, not by merit."""
    data = tiny_data(users=200)
    split = last_out(data)
    flat = Says(dict.fromkeys(data.catalogue.ids.tolist(), 1.0))
    method = Fuse([CoVisitation(), flat]).fit(split.train, valid=split)
    assert learned(method) == (1.0, 0.0)
    assert method.fit_report_["validation_ndcg@10"] == pytest.approx(
        quality([CoVisitation(), flat], learned(method), split), abs=1e-4
    )


def test_targets_that_no_part_knows_count_as_misses():
    """A part's catalogue may be smaller than the data's; another item must not stand in for the
    target.
    """
    data = tiny_data(users=100)
    split = last_out(data)
    few = Says({one: 1.0 + at for at, one in enumerate(data.catalogue.ids.tolist()[:6])})
    method = Fuse([few]).fit(split.train, valid=split)
    assert method.fit_report_["validation_ndcg@10"] == pytest.approx(
        quality([few], (1.0,), split), abs=1e-4
    )


def test_without_validation_an_inner_cut_is_learned_on_and_everything_refitted():
    split = last_out(tiny_data(users=100))
    method = Fuse(PARTS).fit(split.train)
    assert "inner cut" in method.fit_report_["learned_on"]
    whole = CoVisitation().fit(split.train)
    part = next(part for part in method.parts_ if isinstance(part, CoVisitation))
    assert (part.weights_ != whole.weights_).nnz == 0, "the parts were not refitted on everything"
    assert method.trained_on_ == split.train.provenance == part.trained_on_


def test_the_report_holds_those_of_the_parts():
    """A net's training is told wherever the net stands in a pipeline, on the model card too."""
    from tailor.core.saving import _card
    from tailor.pipeline.cascade import Cascade
    from tailor.pipeline.fallback import Fallback

    fused = Fuse([EASE(), Fallback([EASE(), Popularity()]), EASE()], weights=(1, 1, 1))
    method = Filter(Fallback([Cascade(fused, Popularity()), Popularity()])).fit(tiny_data())
    reports = method.fit_report_["Fallback"]["Cascade"]["Fuse"]["parts"]
    assert reports["EASE 1"] == reports["EASE 2"] == EASE().fit(tiny_data()).fit_report_
    assert (
        reports["Fallback"]["EASE"]
        and "weights" in method.fit_report_["Fallback"]["Cascade"]["Fuse"]
    )
    twice = Fallback([EASE(), EASE(l2=1.0), Popularity()]).fit(tiny_data())
    assert list(twice.fit_report_) == ["EASE 1", "EASE 2", "Popularity"]
    assert '"items_used"' in _card(method, False)


def test_learning_weights_is_the_same_each_time():
    split = last_out(tiny_data(users=80))
    a, b = (Fuse(PARTS).fit(split.train, Run(seed=4)).weights_ for _ in range(2))
    assert a == b


def test_too_little_data_gives_even_weights_and_says_so():
    method = Fuse([CoVisitation(), Popularity()]).fit(
        Dataset({"events": pl.DataFrame({"user_id": list("uv"), "item_id": list("ab")})})
    )
    assert method.weights_ == [0.5, 0.5] and "equal" in method.fit_report_["weights"]


# --- the choice of parts


@dataclass(eq=False)
class Counted(CoVisitation):
    """Counts how often a class of its kind is fitted and asked."""

    fits: ClassVar[int] = 0
    asked: ClassVar[int] = 0

    def _fit(self, data, run, valid):
        type(self).fits += 1
        super()._fit(data, run, valid)

    def _scores(self, queries):
        type(self).asked += 1
        return super()._scores(queries) * 0


def test_a_part_that_does_not_help_is_neither_refitted_nor_asked(monkeypatch):
    monkeypatch.setattr(Counted, "fits", 0)
    data = tiny_data(users=200)
    method = Fuse([CoVisitation(), Counted()]).fit(data)
    assert learned(method) == (1.0, 0.0) and Counted.fits == 1
    asked = Counted.asked
    method.recommend(data.queries(), 5)
    assert Counted.asked == asked and method.parts_[1] is None


@pytest.mark.parametrize("given", [True, False])
def test_a_filter_in_a_part_without_weight_still_holds(given):
    """A rule holds whichever part answers, and also where its own part is not asked."""
    data = tiny_data(users=200)
    split = last_out(data)
    blocked = split.train.catalogue.ids.tolist()[:10]
    flat = Says(dict.fromkeys(data.catalogue.ids.tolist(), 1.0))
    method = Fuse([CoVisitation(), Filter(flat, blocked=blocked)])
    method.fit(split.train, valid=split if given else None)
    assert method.weights_ == [1.0, 0.0]
    lists = method.recommend(split.queries("test")[0], 30)
    assert not set(blocked) & {item for ranking in lists for item in ranking.ids}


def test_a_part_with_nothing_to_learn_from_is_left_out_with_the_reason():
    """Titles are missing: a cosine of empty texts is no similarity."""
    data = opposite("sequence", people=100)
    method = Fuse([CoVisitation(), TextNeighbours(), SASRec()]).fit(data)
    report = method.fit_report_
    assert report["left_out"]["TextNeighbours"] == "no item has words"
    assert report["left_out"]["SASRec"] == "1,200 events are too few for a net (from 10,000)"
    assert list(report["weights"]) == ["CoVisitation"]


def test_where_nothing_suits_all_parts_are_kept():
    data = opposite("sequence", people=50)
    assert any(Fuse([TextNeighbours(), TextNeighbours(dims=2)]).fit(data).parts_)


def test_weights_are_learned_for_lists_with_seen_items_and_without():
    split = last_out(opposite("repeats", people=300))
    method = Fuse([CoVisitation(), Repeat()]).fit(split.train, valid=split)
    report = method.fit_report_
    assert report["weights"] == {"CoVisitation": 1.0}
    assert report["weights_seen_kept"]["Repeat"] >= 0.5
    assert "keep them" in report["seen_items"]
    queries, _ = split.queries("test")
    kept, removed = (method.recommend(asked, 5) for asked in (queries, queries.without_history()))
    assert set(kept.columns) >= {"Repeat"} and set(removed.columns) == {"CoVisitation"}
    mixed = [queries[0], queries.without_history()[1], Query(), queries[2]]
    answers = method.recommend(mixed, 5)
    expected = [kept[0], removed[1], method.recommend([Query()], 5)[0], kept[2]]
    assert [answer.ids for answer in answers] == [answer.ids for answer in expected]
    reasons = method.explain(mixed, answers)
    for query, answer, of_query in zip(mixed, answers, reasons, strict=True):
        alone = method.explain([query], [answer])[0]
        assert [one.evidence[0].id for one in of_query] == [one.evidence[0].id for one in alone]


def test_a_fusion_that_left_parts_out_answers_the_same_after_saving(tmp_path):
    """Parts are found again by their place: those that were not kept must keep theirs."""
    split = last_out(opposite("sequence", people=200))
    parts = [TextNeighbours(), Popularity(), CoVisitation(window=1, reverse=0.0), EASE(l2=20.0)]
    method = Fuse(parts).fit(split.train, valid=split)
    assert method.parts_[0] is None and method.parts_[2] is not None
    queries, _ = split.queries("test")
    again = Fuse.load(method.save(tmp_path / "model"))
    for asked in (queries, queries.without_history()):
        lists, others = (one.recommend(asked, 5) for one in (method, again))
        assert [one.ids for one in lists] == [one.ids for one in others]
        assert set(lists.columns) == set(others.columns)


@pytest.mark.parametrize(("kind", "name"), [(True, "weights_"), (False, "kept_weights_")])
def test_one_kind_of_list_can_be_asked_for(kind, name):
    split = last_out(opposite("repeats", people=200))
    method = Fuse([CoVisitation(), Repeat()], exclude_history=kind).fit(split.train, valid=split)
    both = Fuse([CoVisitation(), Repeat()]).fit(split.train, valid=split)
    key = "weights" if kind else "weights_seen_kept"
    assert method.fit_report_["weights"] == both.fit_report_[key]
    assert method.weights_ == method.kept_weights_ == getattr(method, name)


def test_a_model_of_an_earlier_version_answers_both_kinds_by_its_one_weights():
    split = last_out(opposite("repeats", people=100))
    method = Fuse([CoVisitation(), Repeat()], weights=(3, 1)).fit(split.train)
    queries, _ = split.queries("test")
    lists = method.recommend(queries, 5)
    del method.__dict__["kept_weights_"]
    assert (method.recommend(queries, 5).rows == lists.rows).all()


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_counting_pipeline_is_not_below_its_best_part(signal):
    split = last_out(opposite(signal, people=400))
    method = counting_pipeline()
    parts = {
        label: clone(part).fit(split.train, Run(), split)
        for label, part in zip(
            labels(method.inner.parts[0].parts), method.inner.parts[0].parts, strict=True
        )
        if not part.unsuited(split.train)
    }
    report = evaluate(
        {"pipeline": method.fit(split.train, valid=split), **parts},
        split,
        "test",
        metrics=("NDCG",),
    )
    for kind in ("removed", "kept"):
        values = {name: report.results[name, kind].per_user["NDCG@10"] for name in report.methods}
        best = max(parts, key=lambda name: values[name].mean())
        lead = values["pipeline"] - values[best]
        assert lead.mean() >= -1.96 * lead.std() / np.sqrt(len(lead)), (kind, best)


def test_rivals_and_targets_that_make_no_difference_are_left_out_exactly():
    rng = np.random.default_rng(5)
    votes = [sp.random(60, 80, 0.4, "csr", np.float32, random_state=rng).power(2) for _ in range(3)]
    targets = Ragged.of([rng.choice(80, 2, replace=False) for _ in range(60)])
    search = fusion_weights.WeightSearch()
    search.add(votes, targets)
    quality = fusion_weights._MeanNdcg(search.blocks, search.query_count)
    named = sum((vote > 0).astype(int) for vote in votes)
    assert search.pair_count < 2 * named.nnz / 2
    for steps in [(20, 0, 0), (0, 0, 20), (10, 5, 5), (1, 18, 1), (0, 7, 13)]:
        scores = sum(w / 20 * vote.toarray() for w, vote in zip(steps, votes, strict=True))
        gains = []
        for i in range(60):
            order = np.lexsort((np.arange(80), -scores[i]))
            order = [item for item in order if scores[i, item] > 0][:10]
            hit = [1 / np.log2(r + 2) for r, item in enumerate(order) if item in set(targets[i])]
            gains.append(sum(hit) / (1 + 1 / np.log2(3)))
        assert quality(steps) == pytest.approx(np.mean(gains), abs=1e-6)


# --- explanations
# --------------------------------------------------------------------------------------------------------------


def test_explanations_weigh_the_parts_as_the_score_does():
    data = tiny_data()
    method = Fuse([CoVisitation(), Popularity()], weights=(1, 1)).fit(data)
    query = [Query(history=History.of("thing-004", "thing-008"))]
    ranking = method.recommend(query, 6)
    for at, reason in enumerate(method.explain(query, ranking)[0]):
        co, popular = (
            np.nan_to_num(ranking[0].columns[name][at]) for name in ("CoVisitation", "Popularity")
        )
        by_kind = {one.kind: 0.0 for one in reason.evidence}
        for one in reason.evidence:
            by_kind[one.kind] += one.share
        assert by_kind.get("popularity", 0) == pytest.approx(popular / (co + popular), abs=1e-5)
        assert sum(by_kind.values()) == pytest.approx(1, abs=1e-5)


def test_a_list_that_brings_its_votes_is_explained_as_without_them(monkeypatch):
    """The parts are not asked again: that took as long as the answer itself."""
    method = Fuse([CoVisitation(), TextNeighbours(), Popularity()], weights=(3, 2, 1)).fit(
        tiny_data()
    )
    queries = [Query(history=History.of(f"thing-00{i}", "thing-008")) for i in range(5)]
    rankings = [method.recommend([query], 6)[0] for query in queries]
    bare = [Ranking(ranking.ids, ranking.scores) for ranking in rankings]
    without_votes = method.explain(queries, bare)
    for part in method.parts_:
        monkeypatch.setattr(part, "_recommend", None)
    for one, other in zip(method.explain(queries, rankings), without_votes, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert [part.id for part in mine.evidence] == [part.id for part in theirs.evidence]
            assert [part.share for part in mine.evidence] == pytest.approx(
                [part.share for part in theirs.evidence], abs=1e-5
            )


def test_every_item_of_a_ranking_gets_its_explanation_known_or_not():
    method = Fuse([CoVisitation(), Popularity()], weights=(1, 1)).fit(tiny_data())
    mixed = Ranking(("thing-004", "unknown", "thing-008"), np.array([3, 2, 1], np.float32))
    reasons = method.explain([Query(history=History.of("thing-000"))], [mixed])[0]
    assert [one.item_id for one in reasons] == list(mixed.ids) and not reasons[1].evidence


def test_an_item_beyond_the_depth_is_explained_among_the_items_of_its_ranking():
    data = tiny_data()
    method = Fuse([CoVisitation(), TextNeighbours()], weights=(1, 1), depth=2).fit(data)
    query = Query(history=History.of("thing-001", "thing-005"))
    deep = method.recommend([query], 10, [Ranking(tuple(data.catalogue.ids[:20]), np.ones(20))])[0]
    listed = method.recommend([query], 2)[0]
    beyond = [one for one in method.explain([query], [deep])[0] if one.item_id not in listed.ids]
    assert beyond and all(abs(sum(e.share for e in one.evidence) - 1) < 1e-3 for one in beyond)


def test_a_part_without_weight_is_not_asked(monkeypatch):
    method = Fuse([CoVisitation(), Popularity()], weights=(1, 0)).fit(tiny_data())
    monkeypatch.setattr(method.parts_[1], "_recommend", None)
    ranking = method.recommend([Query(history=History.of("thing-001"))], 5)[0]
    assert len(ranking) == 5 and set(ranking.columns) == {"CoVisitation"}

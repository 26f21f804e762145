"""Verbs beside recommend: profile, generate, act, explain, update; guards and optional verbs."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tailor.core.methods import Agent, Generator, Predictor, Profiler, catalogue_size
from tailor.core.specs import build
from tailor.data.nouns import Evidence, Explanation, History, Output, Profile, Query, Ranking, Turn
from tailor.errors import DataError, ModelError, NotFittedError
from tailor.retrieval.popularity import Popularity
from tailor.testing import predictor_checks, recommender_checks
from tailor.testing.contracts import contracts
from tailor.testing.data import tiny_data
from tailor.testing.fits import fitted

DATA = tiny_data()


class Fitted:
    """Learns nothing."""

    answers = ()

    def _fit(self, data, run, valid):
        pass

    def _profile(self, queries):
        return self.answers

    _generate = _profile

    def _act(self, dialogues, queries):
        return self.answers


@dataclass(eq=False)
class Describes(Fitted, Profiler):
    """Answers what it is set to."""


@dataclass(eq=False)
class Writes(Fitted, Generator):
    """Answers what it is set to."""


@dataclass(eq=False)
class Talks(Fitted, Agent):
    """Answers what it is set to."""


CALLS = [
    (Describes, lambda method: method.profile([Query(), Query()]), Profile("u")),
    (Writes, lambda method: method.generate([Query(), Query()]), Output("x")),
    (Talks, lambda method: method.act([[], [Turn("user", "x")]]), Turn("assistant", "x")),
]


@pytest.mark.parametrize(("cls", "call", "answer"), CALLS)
def test_a_method_gives_one_answer_a_query_of_its_noun(cls, call, answer):
    with pytest.raises(NotFittedError, match=f"{cls.__name__} is not fitted"):
        call(cls())
    method = cls().fit(DATA)
    method.answers = (answer, answer)
    assert call(method) == [answer, answer]
    for answers, says in (([answer], "1 answers for 2"), ([answer, "x"], "answered 'x'")):
        method.answers = answers
        with pytest.raises(ModelError, match=says):
            call(method)


@pytest.mark.parametrize(("cls", "verb"), [(Describes, "profile"), (Writes, "generate")])
def test_what_is_no_list_of_queries_is_refused(cls, verb):
    method = cls().fit(DATA)
    with pytest.raises(DataError, match=r"write \[query\]"):
        getattr(method, verb)(Query())
    with pytest.raises(DataError, match="'u1'"):
        getattr(method, verb)(["u1"])


def test_dialogues_and_queries_must_match():
    method = Talks().fit(DATA)
    with pytest.raises(DataError, match=r"write act\(\[\[turn\]\]\)"):
        method.act([Turn("user", "x")])
    with pytest.raises(DataError, match="consists of turns, got 'hello'"):
        method.act([["hello"]])
    with pytest.raises(DataError, match="1 queries for 2 dialogues"):
        method.act([[], []], [Query()])


def test_profilers_see_only_what_came_before_the_query():
    seen = []

    @dataclass(eq=False)
    class Looks(Describes):
        def _profile(self, queries):
            seen.extend(query.history for query in queries)
            return [Profile(None)] * len(queries)

    history = History(("a", "b", "c"), (1, 2, 3))
    Looks().fit(DATA).profile([Query(history=history, time_ms=2), Query(history=history)])
    assert [one.item_ids for one in seen] == [("a",), ("a", "b", "c")]


# --- optional verbs


@dataclass(eq=False)
class Counting(Popularity):
    """Popularity that learns from new events."""

    def _update(self, feedback, run):
        rows = self.items_.rows(feedback.events["item_id"].to_list())
        self.counts_ = self.counts_ + np.bincount(rows[rows >= 0], minlength=len(self.items_))


@dataclass(eq=False)
class InPlace(Counting):
    """As Counting, but changes what others may share."""

    def _update(self, feedback, run):
        self.counts_ += 1.0


@dataclass(eq=False)
class Rates(Predictor):
    """Mean label of each item."""

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue
        self.sums_, self.counts_ = np.zeros(len(self.items_)), np.ones(len(self.items_))

    def _predict(self, queries, items):
        known = items.values >= 0
        return np.where(known, self.sums_[items.values] / self.counts_[items.values], 0.0)

    def _explain(self, queries, items, item_ids):
        return [Explanation(item_id, (Evidence("popularity", "", 1.0),)) for item_id in item_ids]

    def _update(self, queries, items, labels, run):
        rows, n = items.values, len(self.items_)
        self.sums_ = self.sums_ + np.bincount(rows[rows >= 0], labels[rows >= 0], n)
        self.counts_ = self.counts_ + np.bincount(rows[rows >= 0], minlength=n)


def test_optional_verbs_are_seen_and_checked():
    assert Counting.updates() and not Popularity.updates()
    assert Rates.explains() and Rates.updates()
    assert recommender_checks.an_update_learns_and_is_saved in contracts(Counting)
    assert predictor_checks.predictions_are_explained in contracts(Rates)
    for check in (predictor_checks.predictions_are_explained, predictor_checks.pairs_stand_alone):
        check(Rates)


def test_an_update_counts_and_keeps_where_it_came_from():
    method = Counting().fit(DATA)
    before = method.counts_
    news = tiny_data(users=5, seed=3)
    assert method.update(news) is method
    assert method.counts_.sum() == before.sum() + len(news.events)
    hashes = [origin.data_hash for origin in method.trained_on_.chain()]
    assert hashes == [news.content_hash, DATA.content_hash]
    with pytest.raises(DataError, match="a data set"):
        method.update([Query()])
    with pytest.raises(NotFittedError):
        Counting().update(news)
    with pytest.raises(ModelError, match="fit it again"):
        Popularity().fit(DATA).update(news)


def test_an_update_in_place_breaks_the_contract(monkeypatch):
    method = fitted(InPlace)
    monkeypatch.setattr("tailor.testing.recommender_checks.reloaded", lambda one: one)
    method.counts_ = method.counts_.astype(float)
    with pytest.raises(AssertionError, match="in place"):
        recommender_checks.an_update_learns_and_is_saved(InPlace)


def test_outcomes_of_pairs_are_learned():
    method = Rates().fit(DATA)
    queries, ids = [Query("u"), Query("v")], [["thing-001", "thing-002"], []]
    assert method.update(queries, ids, [[1.0, 0.0], []]) is method
    assert [row.tolist() for row in method.predict(queries, ids)] == [[0.5, 0.0], []]
    assert [[one.item_id for one in row] for row in method.explain(queries, ids)] == ids
    for labels, says in (([[1.0], []], "lengths"), ([[1.0, np.nan], []], "finite")):
        with pytest.raises(DataError, match=says):
            method.update(queries, ids, labels)


# --- sizes that nobody meant, and candidates that nobody knows


def test_a_k_of_any_size_costs_no_more_than_the_catalogue():
    fallback = {"class": "Fallback", "parts": [{"class": "CoVisitation"}, {"class": "Popularity"}]}
    for about in ({"class": "Popularity"}, {"class": "EASE"}, fallback):
        method = build(about).fit(DATA)
        lists = method.recommend([Query(history=History.of("thing-001"))] * 2, 10**10)
        assert lists.rows.shape[1] <= catalogue_size(method) <= 2 * 40
        assert lists[0].ids == method.recommend([Query(history=History.of("thing-001"))], 40)[0].ids
        assert "k is more than all items" in lists[0].notes[-1] or len(lists[0]) < 40
    assert catalogue_size(build({"class": "Popularity"})) is None


def test_candidates_that_are_not_known_are_noted_where_the_list_is_short():
    method = Popularity().fit(DATA)
    known = ("thing-001", "thing-002", "thing-003")
    lists = [Ranking((*known, "x", "y"), np.ones(5)), Ranking(known, np.ones(3))]
    answers = method.recommend([Query(), Query()], 4, lists)
    assert "2 candidates are not in its catalogue" in " ".join(answers[0].notes)
    assert "catalogue" not in " ".join(answers[1].notes)
    assert not method.recommend([Query()], 3, lists[:1])[0].notes  # full: nothing to excuse


def test_a_query_keeps_its_other_fields_for_a_method():
    query = replace(Query("u"), text="red", request_id="r", context={"page": 2})
    seen = []

    @dataclass(eq=False)
    class Looks(Writes):
        def _generate(self, queries):
            seen.extend(queries)
            return [Output("x")]

    Looks().fit(DATA).generate([query])
    assert (seen[0].text, seen[0].request_id, seen[0].context) == ("red", "r", {"page": 2})


class Rising(Popularity):
    """Gives the last item of a list the highest score."""

    def _recommend(self, queries, k, candidates):
        lists = super()._recommend(queries, k, candidates)
        return replace(lists, scores=-lists.scores)


def test_scores_that_rise_break_the_contract():
    with pytest.raises(AssertionError, match="scores rise"):
        recommender_checks.lists_are_lists(Rising)

"""The contract of recommenders."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from tailor.core.methods import Recommender, ScoringRecommender
from tailor.data.nouns import History, Query, Ranking, same
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.testing.data import tiny_data
from tailor.testing.fits import (
    UNKNOWN_ITEM,
    K,
    fitted,
    recommend,
    reloaded,
    sample_answers,
    sample_queries,
)


def checks_of(cls: type[Recommender]) -> list[Callable[[type[Any]], None]]:
    """Return the checks of a recommender, and of the optional verbs that it has."""
    checks: list[Callable[[type[Any]], None]] = [
        lists_are_lists,
        only_from_candidates,
        one_by_one_equals_batch,
        cold_users_are_served,
        k_beyond_the_catalogue,
        everything_excluded,
        no_queries,
        a_bad_k_is_refused,
    ]
    if cls.needs_candidates:
        checks.append(says_that_it_only_orders)
    if cls.reads_candidate_texts:
        checks.append(unknown_documents_are_ranked)
    if issubclass(cls, ScoringRecommender):
        checks.append(ties_stand_in_hash_order)
    if cls.explains():
        checks.append(explanations_add_up)
    if cls.updates():
        checks.append(an_update_learns_and_is_saved)
    return checks


def equal_lists(a: Ranking, b: Ranking) -> bool:
    """Return whether two lists are equal, but for neighbours with nearly equal scores."""
    if len(a) != len(b) or not np.allclose(a.scores, b.scores, atol=1e-5, rtol=1e-5):
        return False
    return all(
        x == y or abs(a.scores[i] - b.scores[b.ids.index(x)]) < 1e-5
        for i, (x, y) in enumerate(zip(a.ids, b.ids, strict=True))
        if x in b.ids
    )


def lists_are_lists(cls: type[Recommender]) -> None:
    catalogue = set(tiny_data().catalogue.ids)
    queries = sample_queries()
    for query, ranking in zip(queries, recommend(fitted(cls), queries), strict=True):
        ids = set(ranking.ids)
        assert len(ranking) <= K and len(ids) == len(ranking) == len(ranking.scores)
        assert ids <= catalogue, "an unknown item"
        assert not ids & set(query.exclude), "an excluded item"
        assert np.isfinite(ranking.scores).all(), "a score that is no finite number"
        if "propensity" not in ranking.columns:  # where chance ordered it, scores may rise
            assert (np.diff(ranking.scores) <= 0).all(), "scores rise down the list"
        assert len(ranking) == K or ranking.notes, "a short list says why"
        assert all(len(column) == len(ranking) for column in ranking.columns.values())
        assert set(ranking.details) <= ids, "details of an item that is not in the list"


def only_from_candidates(cls: type[Recommender]) -> None:
    ids = [*(f"thing-{number:03d}" for number in (3, 5, 7, 9, 11, 0)), UNKNOWN_ITEM]
    scores = np.arange(len(ids), 0, -1).astype(np.float32)
    queries = sample_queries()
    lists = fitted(cls).recommend(queries, K, [Ranking(tuple(ids), scores) for _ in queries])
    for query, ranking in zip(queries, lists, strict=True):
        allowed = set(ids) - set(query.exclude)
        if not cls.reads_candidate_texts:
            allowed -= {UNKNOWN_ITEM}
        assert set(ranking.ids) <= allowed


def unknown_documents_are_ranked(cls: type[Recommender]) -> None:
    documents = Ranking.of_texts(["a copper kettle", "a green tent", "a copper lamp"])
    query = Query(text="copper lamp", exclude=("0",))
    ranking = fitted(cls).recommend([query], 3, [documents])[0]
    assert sorted(ranking.ids) == ["1", "2"], "documents that the catalogue lacks got lost"


def says_that_it_only_orders(cls: type[Recommender]) -> None:
    try:
        fitted(cls).recommend([Query()], K)
    except DataError:
        return
    raise AssertionError("a method that only orders answered without a list")


def one_by_one_equals_batch(cls: type[Recommender]) -> None:
    method = fitted(cls)
    batch = recommend(method, sample_queries())
    for i, query in enumerate(sample_queries()):
        alone = recommend(method, [query])[0]
        assert equal_lists(batch[i], alone), f"query {i} is answered differently alone"
        assert alone.notes == batch[i].notes


def cold_users_are_served(cls: type[Recommender]) -> None:
    queries = [
        Query(),
        Query("never seen", History.of("thing-001")),
        Query(history=History.of("no such item")),
        Query(text="copper kettle"),
    ]
    lists = recommend(fitted(cls), queries)
    assert len(lists) == len(queries)
    assert all(len(set(ranking.ids)) == len(ranking) for ranking in lists)


def k_beyond_the_catalogue(cls: type[Recommender]) -> None:
    """A k of any size costs no more than the catalogue."""
    n = len(tiny_data().catalogue)
    for k in (n + 50, 10**10):
        lists = recommend(fitted(cls), sample_queries(), k)
        assert lists.rows.shape[1] <= 20 * n, "memory was reserved for k items"
        assert all(len(set(ranking.ids)) == len(ranking) <= n for ranking in lists)
        assert all(ranking.notes for ranking in lists), "a list shorter than k says why"


def everything_excluded(cls: type[Recommender]) -> None:
    everything = tuple(tiny_data().catalogue.ids)
    query = Query(history=History.of("thing-001"), exclude=everything)
    ranking = recommend(fitted(cls), [query])[0]
    assert len(ranking) == 0 and ranking.notes, "an empty list says why"


def no_queries(cls: type[Recommender]) -> None:
    assert len(recommend(fitted(cls), [])) == 0


def a_bad_k_is_refused(cls: type[Recommender]) -> None:
    for k in (0, -1):
        try:
            fitted(cls).recommend([Query()], k)
        except DataError:
            continue
        raise AssertionError(f"k = {k} was taken")


def explanations_add_up(cls: type[Recommender]) -> None:
    method = fitted(cls)
    queries = sample_queries()
    rankings = recommend(method, queries)
    explanations = method.explain(queries, rankings)
    for query, ranking, reasons in zip(queries, rankings, explanations, strict=True):
        assert [reason.item_id for reason in reasons] == list(ranking.ids)
        for reason in reasons:
            shares = [evidence.share for evidence in reason.evidence]
            assert not shares or abs(sum(shares) - 1) < 1e-3, f"shares add up to {sum(shares)}"
            assert shares == sorted(shares, reverse=True)
            items = {evidence.id for evidence in reason.evidence if evidence.kind == "item"}
            assert items <= set(query.history.item_ids), "evidence that is not in the history"


def an_update_learns_and_is_saved(cls: type[Recommender]) -> None:
    before = sample_answers(fitted(cls))
    method = copy.copy(fitted(cls))
    news = tiny_data(users=20, seed=1)
    assert method.update(news) is method, "update returned another object"
    assert method.trained_on_.data_hash == news.content_hash, "what it learned is not recorded"
    loaded = sample_answers(reloaded(method))
    assert same(list(sample_answers(method)), list(loaded)), "a loaded method answers differently"
    unchanged = same(list(before), list(sample_answers(fitted(cls))))
    assert unchanged, "update changed arrays in place, so that a failed one would be half done"


def ties_stand_in_hash_order(cls: type[ScoringRecommender]) -> None:
    method = fitted(cls)
    for ranking in method.recommend(Queries.of(sample_queries()), K):
        rows = method.items_.rows(ranking.ids)
        is_tie = ranking.scores[1:] == ranking.scores[:-1]
        assert (rows[1:][is_tie] > rows[:-1][is_tie]).all(), "equal scores out of their hash order"

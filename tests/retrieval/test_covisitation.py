import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.retrieval.covisitation import CoVisitation
from tailor.testing.data import tiny_data


def logged(*sequences: str) -> Dataset:
    """One user a string, one event a letter."""
    events = [(f"u{u}", letter) for u, sequence in enumerate(sequences) for letter in sequence]
    return Dataset({"events": pl.DataFrame(events, schema=["user_id", "item_id"], orient="row")})


def naive(data: Dataset, method: CoVisitation) -> np.ndarray:
    """The weights by a double loop over every pair of every sequence."""
    n = len(data.catalogue)
    weights = np.zeros((n, n))
    counts = np.bincount(data.sequences.rows.values, minlength=n)
    for user in range(len(data.sequences.rows)):
        row = data.sequences.rows[user]
        for at, i in enumerate(row):
            for d in range(1, method.window + 1):
                if at + d < len(row):
                    j = row[at + d]
                    weights[i, j] += 1 / d**method.distance_power
                    weights[j, i] += method.reverse / d**method.distance_power
    weights /= np.maximum(counts, 1)[None, :] ** method.popularity_power
    if method.top_n is not None:
        for i in range(n):
            order = np.lexsort((np.arange(n), -weights[i].astype(np.float32)))
            weights[i, order[method.top_n :]] = 0
    return weights


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": 1, "reverse": 0.0},
        {"window": 3, "distance_power": 0.0, "reverse": 1.0},
        {"window": 7, "distance_power": 2.0, "reverse": 0.7, "top_n": None},
        {"window": 100, "top_n": None},
        {"popularity_power": 0.5, "top_n": None},
        {"popularity_power": 1.0, "window": 2},
        {"distance_power": 0.0, "reverse": 0.0, "top_n": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("workers", [1, 3])
def test_the_weights_are_those_of_a_double_loop(settings, workers):
    data = tiny_data(users=25, items=15, events=9)
    method = CoVisitation(**settings).fit(data, Run(workers=workers))
    np.testing.assert_allclose(method.weights_.toarray(), naive(data, method), rtol=1e-5, atol=1e-7)


def test_top_n_keeps_the_heaviest():
    data = tiny_data(users=25, items=15, events=9)
    for power in (0.0, 1.0):
        method = CoVisitation(top_n=4, distance_power=0.7, popularity_power=power).fit(data)
        every = np.sort(
            naive(data, CoVisitation(top_n=None, distance_power=0.7, popularity_power=power)),
            axis=1,
        )[:, ::-1]
        assert np.diff(method.weights_.indptr).max() == 4
        for i in range(15):
            np.testing.assert_allclose(
                np.sort(method.weights_[i].data)[::-1],
                every[i, : len(method.weights_[i].data)],
                rtol=1e-5,
            )


def test_scores_fade_over_the_history_with_repeats_and_length():
    data = tiny_data(users=25, items=15, events=9)
    method = CoVisitation(history_decay=0.6, history_length=4).fit(data)
    ids = data.catalogue.ids.tolist()
    history = [ids[at] for at in (0, 3, 5, 3, 7, 3)]
    expected = sum(
        0.6**age * method.weights_[at].toarray().ravel() for age, at in enumerate((3, 7, 3, 5))
    )
    ranking = method.recommend([Query(history=History.of(*history))], 15)[0]
    for one, score in zip(ranking.ids, ranking.scores, strict=True):
        assert score == pytest.approx(expected[ids.index(one)], rel=1e-5)
    assert len(ranking) == (expected > 0).sum()


def test_users_do_not_run_into_each_other():
    weights = CoVisitation(reverse=0.0).fit(logged("ab", "cd"))
    ids = weights.items_.ids.tolist()
    pairs = {(ids[i], ids[j]) for i, j in zip(*weights.weights_.nonzero(), strict=True)}
    assert pairs == {("a", "b"), ("c", "d")}


def test_taking_the_evidence_out_of_the_history_lowers_the_score_by_its_share():
    """Explanations are exact: with no decay, an event's share is what the score loses without it."""
    method = CoVisitation(history_decay=1.0, top_n=None).fit(tiny_data())
    ids = method.items_.ids.tolist()
    query = Query(history=History.of(*ids[:6]))
    rankings = method.recommend([query], 8)
    for reason, score in zip(method.explain([query], rankings)[0], rankings[0].scores, strict=True):
        assert sum(one.share for one in reason.evidence) == pytest.approx(1, abs=1e-5)
        for one in reason.evidence:
            rest = Query(history=History.of(*(item for item in ids[:6] if item != one.id)))
            left = method.recommend([rest], len(ids))[0]
            got = dict(zip(left.ids, left.scores, strict=True)).get(reason.item_id, 0.0)
            assert score - got == pytest.approx(one.share * score, abs=1e-4)


def test_every_item_of_a_ranking_gets_its_explanation_known_or_not():
    from tailor.data.nouns import Ranking

    method = CoVisitation().fit(tiny_data())
    query = Query(history=History.of("thing-004"))
    good = method.recommend([query], 2)[0]
    mixed = Ranking((good.ids[0], "unknown", good.ids[1]), np.array([3, 2, 1], np.float32))
    reasons = method.explain([query, Query()], [mixed, mixed])
    assert (
        [one.item_id for one in reasons[0]]
        == list(mixed.ids)
        == [one.item_id for one in reasons[1]]
    )
    assert (
        reasons[0][0].evidence
        and not reasons[0][1].evidence
        and reasons[0][2].evidence
        and not reasons[1][0].evidence
    )


def test_a_stranger_gets_nothing_and_is_told_why():
    ranking = (
        CoVisitation()
        .fit(tiny_data())
        .recommend([Query(history=History.of("no such thing"))], 5)[0]
    )
    assert not len(ranking) and "no known item in the history" in ranking.notes[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"window": 0},
        {"window": 101},
        {"reverse": -0.1},
        {"history_decay": 0},
        {"history_decay": 1.5},
        {"history_length": 0},
        {"top_n": 0},
        {"history_decay": float("nan")},
        {"reverse": float("nan")},
        {"distance_power": float("nan")},
        {"popularity_power": float("nan")},
        {"distance_power": -1.0},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        CoVisitation(**settings)

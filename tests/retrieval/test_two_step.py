"""Two steps by hand, and what they are for."""

import numpy as np
import pytest

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.retrieval import two_step
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.two_step import TwoStep

PLAIN = {"window": 1, "distance_power": 0.0, "reverse": 0.0, "history_decay": 1.0}


def log(*histories, titles=None):
    events = {
        "user_id": [str(u) for u, h in enumerate(histories) for _ in h],
        "item_id": [one for h in histories for one in h],
    }
    return Dataset.from_events(
        events,
        None if titles is None else {"item_id": list(titles), "title": list(titles.values())},
    )


def scores(method, *history):
    ranking = method.recommend([Query(history=History(history))], 10)[0]
    return dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))


def test_followers_of_followers_by_their_shares():
    """a -> b (2 of 3) and c (1 of 3); b -> d always; c -> d half, e half."""
    data = log("ab", "ab", "ac", "bd", "cd", "ce")
    assert scores(TwoStep(**PLAIN).fit(data), "a") == pytest.approx(
        {"d": 2 / 3 + 1 / 6, "e": 1 / 6}
    )


def test_followers_of_twins_serve_an_item_nobody_followed():
    data = log(
        "xb",
        "xb",
        "xc",
        titles={"x": "copper kettle", "y": "copper kettle", "b": "tin", "c": "oak"},
    )
    assert scores(CoVisitation(**PLAIN).fit(data), "y") == {}
    assert scores(TwoStep(first="texts", twins=1, **PLAIN).fit(data), "y") == pytest.approx(
        {"b": 2 / 3, "c": 1 / 3}
    )


def test_the_heaviest_are_kept():
    data = log("ab", "ac", "bd", "be", "be", "cf")
    assert set(scores(TwoStep(top_n=2, **PLAIN).fit(data), "a")) == {"f", "e"}
    dense = TwoStep(top_n=None, **PLAIN).fit(data).weights_.toarray()
    assert np.allclose(dense.sum(axis=1)[dense.any(axis=1)], 1)


@pytest.mark.parametrize("wrong", [{"first": "words"}, {"twins": 0}, {"max_share": 0}])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        TwoStep(**wrong)


def test_the_product_is_never_held_whole(monkeypatch):
    """Two hundred followers of each of two hundred followers would be most of the catalogue in
    every row.
    """
    data = log("ab", "ac", "bd", "be", "be", "cf", "da", "fb")
    whole = {n: TwoStep(top_n=n, **PLAIN).fit(data).weights_ for n in (2, None)}
    seen, keep = [], two_step.heaviest
    monkeypatch.setattr(
        two_step, "heaviest", lambda block, top_n: seen.append(block.shape[0]) or keep(block, top_n)
    )
    monkeypatch.setattr(two_step, "ROWS", 4)
    for n, weights in whole.items():
        again = TwoStep(top_n=n, **PLAIN).fit(data).weights_
        assert (again != weights).nnz == 0
        assert np.array_equal(again.indices, weights.indices)
    assert seen == [4, 2, 4, 2]

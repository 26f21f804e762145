"""Nets with several interests: users of two kinds of items get vectors for both."""

from itertools import combinations

import numpy as np
import pytest
from scipy.special import softmax

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.data.dataset import Dataset  # noqa: E402
from tailor.data.nouns import History, Query  # noqa: E402
from tailor.errors import DataError  # noqa: E402
from tailor.retrieval.comirec import ComiRec  # noqa: E402
from tailor.retrieval.sequences import whole_windows  # noqa: E402

RUN = Run(workers=1, dtype="float32")
GROUPS, SIZE = 6, 8  # groups of items, and items of a group
SETTINGS = {"width": 6, "length": 12, "epochs": 12, "patience": None, "batch_places": 256}


def item(group, number):
    return f"g{group}-{number}"


def two_tastes(users=150, events=12, seed=0):
    """Return a log of users with two groups each, whose events are of either at random."""
    rng = np.random.default_rng(seed)
    pairs = np.array([rng.choice(GROUPS, 2, replace=False) for _ in range(users)])
    groups = np.take_along_axis(pairs, rng.integers(2, size=(users, events)), axis=1)
    numbers = rng.integers(SIZE, size=(users, events))
    return Dataset.from_events(
        {
            "user_id": np.repeat([f"u{user}" for user in range(users)], events),
            "item_id": [item(*pair) for pair in zip(groups.flat, numbers.flat, strict=True)],
            "time_ms": np.tile(np.arange(events), users),
        }
    )


@pytest.fixture(scope="module")
def data():
    return two_tastes()


@pytest.fixture(scope="module")
def fitted(data):
    return ComiRec(**SETTINGS, dropout=0.1, lr=0.05, negatives=None, interests=4).fit(data, RUN)


def asked():
    history = [item(group, number) for number in range(3) for group in (1, 4)]
    return [Query(history=History.of(*history)), Query(history=History.of(item(2, 0)))]


def nearest_groups(method, queries):
    """Return the groups of the items nearest the interests of each query."""
    vectors = method.interest_vectors(queries)
    items = method._ready().catalogue().detach().numpy()
    nearest = method.items_.ids[(vectors @ items.T).argmax(axis=2)]
    return [{item_id[:2] for item_id in row} for row in nearest]


def test_users_of_two_tastes_have_interests_near_both(data, fitted):
    pairs = list(combinations(range(GROUPS), 2))
    histories = [[item(group, n) for n in range(3) for group in pair] for pair in pairs]
    queries = [Query(history=History.of(*history)) for history in histories]
    nearest = nearest_groups(fitted, queries)
    wanted = [{f"g{group}" for group in pair} for pair in pairs]
    assert np.mean([a <= b for a, b in zip(wanted, nearest, strict=True)]) >= 0.9


def test_a_score_is_the_softmax_of_the_best_products(fitted):
    vectors = fitted.interest_vectors(asked())
    items = fitted._ready().catalogue().detach().numpy()
    wanted = softmax((vectors @ items.T).max(axis=1), axis=1)
    lists = fitted.recommend(asked(), GROUPS * SIZE)
    for ranking, shares in zip(lists, wanted, strict=True):
        rows = fitted.items_.rows(ranking.ids)
        assert np.allclose(ranking.scores, shares[rows], atol=1e-6)


def test_item_vectors_are_those_that_scores_are_made_of(fitted):
    ranking = fitted.recommend(asked()[:1], 5)[0]
    vectors = fitted.item_vectors([*ranking.ids, "nobody knows this"])
    products = (fitted.interest_vectors(asked()[:1])[0] @ vectors.T).max(axis=0)
    assert (np.diff(products[:-1]) <= 0).all() and not vectors[-1].any()


def test_the_order_of_events_does_not_count(fitted):
    query = asked()[0]
    turned = Query(history=History.of(*query.history.item_ids[::-1]))
    vectors = fitted.interest_vectors([query, turned])
    assert np.allclose(vectors[0], vectors[1], atol=1e-5)


def test_a_stranger_without_history_has_no_interests(fitted):
    vectors = fitted.interest_vectors([Query(), *asked()])
    assert not vectors[0].any() and vectors[1:].any(axis=2).all()


def test_only_the_interest_nearest_the_target_learns(data, fitted, monkeypatch):
    seen = []

    def choose(interests, positive):
        interests.retain_grad()
        seen.append((interests, positive))
        return ComiRec._choose(fitted, interests, positive)

    monkeypatch.setattr(fitted, "_choose", choose, raising=False)
    training = fitted._training_data(data, data)
    windows = whole_windows(training.rows, fitted.length).take(np.arange(20))
    fitted._loss(windows, training, np.random.default_rng(0)).backward()
    ((interests, positive),) = seen
    products = (interests * positive[:, None]).sum(dim=2)
    learns = interests.grad.abs().sum(dim=2) > 0
    assert (learns.sum(dim=1) == 1).all()
    assert torch.equal(learns.float().argmax(dim=1), products.argmax(dim=1))


def test_a_number_of_interests_below_one_is_refused():
    with pytest.raises(DataError, match="interests is 0: it must be at least 1"):
        ComiRec(interests=0)

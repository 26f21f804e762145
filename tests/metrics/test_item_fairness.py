"""Item fairness: golden values, ends that are reached, and slow forms by hand."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from tailor.metrics.item_fairness import PATIENCE, item_fairness


def lists(text):
    return np.array([[int(one) for one in part] for part in text.split(",")])


def found(rows, items, relevant=None):
    return {one.name: one for one in item_fairness(rows, items, relevant)}


@pytest.mark.parametrize(
    ("rows", "items", "values"),
    [
        (
            "01,02,01",
            6,
            {
                "Jain": (0.428571, 0.142857),
                "QF": (0.5, 0.25),
                "Ent": (0.564475, 0.289690),
                "Gini": (0.611111, 0.916667),
                "Gini-w": (0.661399, None),
                "FSat": (0.5, 0.25),
                "VoCD": (0.5, None),
                "II-D": (0.183333, None),
                "AI-D": (0.135926, None),
            },
        ),
        (
            "01,02,31",
            5,
            {
                "Jain": (0.72, 0.64),
                "QF": (0.8, 0.666667),
                "Ent": (0.826165, 0.733680),
                "Gini": (0.333333, 0.428571),
            },
        ),
        ("01,01,01", 6, {"Gini-w": (0.704382, 1.0)}),
        ("01,23,45", 6, {"Gini-w": (0.113147, 0.0)}),
    ],
)
def test_golden_values(rows, items, values):
    got = found(lists(rows), items)
    for name, (raw, corrected) in values.items():
        assert got[name].raw == pytest.approx(raw, abs=1e-6), name
        if corrected is not None:
            assert got[name].corrected == pytest.approx(corrected, abs=1e-6), name


@pytest.mark.parametrize(("n", "k", "m"), [(100, 10, 30), (100, 10, 25), (1000, 10, 50)])
def test_the_worst_and_the_fairest_lists_are_at_the_ends(n, k, m):
    worst = np.tile(np.arange(k), (m, 1))
    fairest = (np.arange(m * k) % n).reshape(m, k)
    low, high = found(worst, n), found(fairest, n)
    for name in ("Jain", "QF", "Ent", "Gini", "FSat"):
        ends = (1, 0) if name == "Gini" else (0, 1)
        if name == "FSat" and m * k < n:
            assert np.isnan(low[name].corrected) and "fewer places than items" in low[name].note
            continue
        assert (low[name].corrected, high[name].corrected) == pytest.approx(ends, abs=1e-9), name


def test_two_measures_cannot_see_what_they_should():
    same = {
        round(found(lists(rows), 6)["II-D"].raw, 9) for rows in ("01,02,01", "01,01,01", "01,23,45")
    }
    assert (
        same == {round(found(lists("01,02,01"), 6)["II-D"].raw, 9)}
        and found(lists("01,01,01"), 6)["VoCD"].raw == 0
    )


def test_showing_the_unshown_never_looks_less_fair():
    rows, n = np.tile(np.arange(5), (8, 1)), 40
    before = found(rows, n)
    for new, at in enumerate(range(7), start=5):  # the last copy is not over-exposed
        rows = rows.copy()
        rows[at, 0] = new
        after = found(rows, n)
        for name in ("Jain", "QF", "Ent"):
            assert after[name].corrected > before[name].corrected
        assert after["Gini"].corrected < before["Gini"].corrected
        before = after


def test_measures_with_relevance_are_those_of_slow_forms():
    rng = np.random.default_rng(0)
    m, n, k = 7, 9, 4
    rows = np.array([rng.permutation(n)[:k] for _ in range(m)])
    relevant = (rng.random((m, n)) < 0.4).astype(float)
    relevant[3] = 0
    relevant[:, 2] = 0
    got = found(rows, n, sp.csr_matrix(relevant))
    rank = np.zeros((m, n))
    for u in range(m):
        rank[u, rows[u]] = np.arange(1, k + 1)
    shown = rank > 0
    attention = np.where(shown, (k - rank) / (k - 1), 0)
    discount = np.where(shown, 1 / np.log2(np.where(shown, rank, 1) + 1), 0)
    exposure = np.where(shown, PATIENCE ** (rank - 1), 0)
    assert got["IAA"].raw == pytest.approx(np.abs(attention - relevant).sum(axis=1).mean() / n)
    joint = relevant * discount
    assert got["IFD_mul"].raw == pytest.approx(
        np.mean(
            [np.mean([(a - b) ** 2 for a, b in itertools.combinations(row, 2)]) for row in joint]
        )
    )
    pairs = [
        np.mean([max(0, a - b) for a, b in itertools.permutations(discount[u][relevant[u] > 0], 2)])
        for u in range(m)
        if relevant[u].sum() > 1
    ]
    assert got["IFD_div"].raw == pytest.approx(np.mean(pairs))
    count = relevant.sum(axis=1, keepdims=True)
    target = np.where(
        count > 0, relevant * (1 - PATIENCE**count) / ((1 - PATIENCE) * np.maximum(count, 1)), 0
    )
    assert got["II-F"].raw == pytest.approx(((exposure - target) ** 2).mean())
    assert got["AI-F"].raw == pytest.approx(((exposure - target).mean(axis=0) ** 2).mean())
    gains = np.where(shown, 1 / np.where(shown, rank, 1), 0).T @ relevant
    assert got["MME"].raw == pytest.approx(
        np.mean([(gains[:, i] - gains[i, i]).max() for i in range(n)]) / m
    )
    impact = (relevant * np.where(shown, 1 / np.where(shown, rank, 1), 0)).sum(axis=0)
    chance = relevant.sum(axis=0) * (1 / np.arange(1, k + 1)).sum() / n
    known = chance > 0
    assert np.isnan(got["IBO"].raw) and got["IBO"].corrected == pytest.approx(
        (impact >= 1.1 * chance)[known].mean()
    )
    assert (
        got["IWO"].corrected == pytest.approx((impact <= 0.9 * chance)[known].mean())
        and "nobody" in got["IWO"].note
    )
    assert 0 <= got["HD"].raw <= 1 and "left out" in got["HD"].note


def test_what_cannot_be_said_is_nan_with_a_reason():
    assert (
        np.isnan(found(lists("01"), 6)["Jain"].corrected)
        and found(lists("01"), 6)["Jain"].note == "one list"
    )
    whole = found(lists("01,10"), 2)
    assert np.isnan(whole["Ent"].corrected) and whole["Gini"].note == "lists of the whole catalogue"
    assert (
        np.isnan(found(lists("0,0"), 3)["VoCD"].raw)
        and found(lists("0,1"), 3, sp.csr_matrix(np.zeros((2, 3))))["IAA"].note
        == "lists of one item"
    )


@pytest.mark.parametrize(
    "rows",
    [
        np.array([[0, -1]]),
        np.array([[0, 0]]),
        np.array([[0, 9]]),
        np.zeros((0, 3), int),
        np.array([1, 2]),
    ],
)
def test_lists_that_cannot_be_judged_are_refused(rows):
    with pytest.raises(ValueError):
        item_fairness(rows, 6)

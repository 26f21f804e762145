"""Candidates, discovery, agreement, groups: values by hand and loops over sets."""

import math

import numpy as np
import pytest
from scipy import stats

from tailor.metrics import agreement, candidates, discovery, fairness
from tailor.metrics.lists import concentration

ROWS = np.array([[0, 1, 2], [2, 3, -1], [-1, -1, -1]])
HITS = np.array([[False, True, True], [True, False, False], [False, False, False]])


def lists(seed: int, users: int = 30, items: int = 25, width: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(items)[:width] for _ in range(users)])
    rows[np.arange(width) >= rng.integers(0, width + 1, users)[:, None]] = -1
    return rows


def sets(rows: np.ndarray) -> list[set[int]]:
    return [set(row[row >= 0].tolist()) for row in rows]


# ---- candidates


def test_the_ceiling_is_the_ndcg_of_the_candidates_in_perfect_order():
    values = candidates.ceiling(HITS, np.array([4, 1, 1]), 2)
    assert values.tolist() == pytest.approx([1, 1, 0])
    assert candidates.ceiling(HITS, np.array([4, 1, 0]), 3)[0] == pytest.approx(
        (1 + 1 / math.log2(3)) / (1 + 1 / math.log2(3) + 0.5)
    )


def test_coverage_of_users_and_spread_over_items():
    assert candidates.user_coverage(ROWS) == pytest.approx(2 / 3)
    assert candidates.distributional_coverage(np.array([[0], [1], [2], [3]]), 4) == pytest.approx(1)
    assert candidates.distributional_coverage(np.array([[0], [0], [1], [1]]), 4) == pytest.approx(
        0.5
    )
    assert candidates.distributional_coverage(np.array([[2], [2]]), 4) == 0
    assert math.isnan(candidates.distributional_coverage(ROWS[2:], 4)) and math.isnan(
        candidates.user_coverage(ROWS[:0])
    )


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_are_those_of_sets(seed):
    a, b = lists(seed), lists(seed + 100)
    shared = [len(x & y) for x, y in zip(sets(a), sets(b), strict=True)]
    assert candidates.shared_items(a, b).tolist() == shared
    jaccard = np.mean(
        [len(x & y) / len(x | y) for x, y in zip(sets(a), sets(b), strict=True) if x | y]
    )
    assert candidates.source_overlap({"a": a, "b": b, "c": a})["a", "b"] == pytest.approx(jaccard)
    assert candidates.source_overlap({"a": a, "c": a})["a", "c"] == 1


def test_unique_hits_are_those_no_other_source_finds():
    one, two = np.array([[0, 1], [2, 3]]), np.array([[1, 5], [2, -1]])
    hits = {
        "one": np.array([[True, True], [True, True]]),
        "two": np.array([[True, True], [True, False]]),
    }
    assert candidates.unique_hits({"one": one, "two": two}, hits) == {"one": 2, "two": 1}
    assert candidates.unique_hits({"one": one}, {"one": hits["one"]}) == {"one": 4}


# ---- discovery


def test_popularity_of_what_is_shown():
    users = np.array([10, 4, 4, 2, 0])
    assert discovery.average_popularity(ROWS, users)[:2].tolist() == [6, 3]
    assert discovery.long_tail(users, 0.2).tolist() == [False, False, False, True, True]
    assert discovery.long_tail_share(ROWS, discovery.long_tail(users, 0.2))[:2].tolist() == [0, 0.5]
    total = 1 + 1 / math.log2(3) + 0.5
    assert discovery.expected_popularity_complement(ROWS, HITS, users)[0] == pytest.approx(
        (0.6 / math.log2(3) + 0.6 / 2) / total
    )
    assert discovery.expected_free_discovery(ROWS, HITS, users)[1] == pytest.approx(
        -math.log2(4 / 20) / (1 + 1 / math.log2(3))
    )
    for values in (
        discovery.average_popularity(ROWS, users),
        discovery.expected_free_discovery(ROWS, HITS, users),
        discovery.unexpectedness(ROWS, ROWS),
    ):
        assert np.isnan(values[2])


@pytest.mark.parametrize("seed", range(5))
def test_surprise_is_what_the_obvious_list_lacks(seed):
    rows, obvious = lists(seed), lists(seed + 50)
    hits = (np.random.default_rng(seed).random(rows.shape) < 0.3) & (rows >= 0)
    surprise, happy = (
        discovery.unexpectedness(rows, obvious),
        discovery.serendipity(rows, hits, obvious),
    )
    for at, (own, plain) in enumerate(zip(sets(rows), sets(obvious), strict=True)):
        if not own:
            assert np.isnan(surprise[at]) and np.isnan(happy[at])
            continue
        liked = set(rows[at][hits[at]].tolist())
        assert surprise[at] == pytest.approx(len(own - plain) / len(own)) and happy[
            at
        ] == pytest.approx(len((own - plain) & liked) / len(own))
    assert np.array_equal(discovery.temporal_diversity(rows, obvious), surprise, equal_nan=True)


def test_personalisation_is_0_for_equal_lists_and_1_for_lists_apart():
    assert discovery.personalisation(np.tile([3, 1, 2], (50, 1))) == 0
    assert discovery.personalisation(np.arange(60).reshape(20, 3)) == 1
    assert math.isnan(discovery.personalisation(ROWS[1:]))  # one user with a list
    rows = lists(0, users=40)
    some = [one for one in sets(rows) if one]
    pairs = [len(a & b) / min(len(a), len(b)) for i, a in enumerate(some) for b in some[:i]]
    assert discovery.personalisation(rows) == pytest.approx(1 - np.mean(pairs))
    many = lists(1, users=400)
    assert discovery.personalisation(many, pairs=4000) == pytest.approx(
        discovery.personalisation(many, pairs=10**6), abs=0.02
    )


def test_categories():
    categories = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert discovery.category_counts(ROWS, categories).tolist() == [[2, 1, 1], [0, 0, 1], [0, 0, 0]]
    bits = discovery.category_entropy(ROWS, categories)
    assert bits[:2].tolist() == pytest.approx([1.5, 0]) and np.isnan(bits[2])
    wanted = np.array([[True, True, True], [True, False, False], [False, False, False]])
    values = discovery.subtopic_recall(ROWS, HITS, categories, wanted)
    assert values[:2].tolist() == [1, 0] and np.isnan(values[2])


def test_an_aspect_seen_before_gains_half():
    aspects, wanted = np.array([[1, 0], [1, 0], [0, 1], [0, 0]]), np.array([[1, 1], [0, 0]])
    values = discovery.alpha_ndcg(
        np.array([[0, 1, 2], [0, 1, 2]]), aspects, wanted, [np.array([0, 1, 2]), np.array([0])], k=3
    )
    gained, ideal = 1 + 0.5 / math.log2(3) + 1 / 2, 1 + 1 / math.log2(3) + 0.5 / 2
    assert values[0] == pytest.approx(gained / ideal) and np.isnan(values[1])
    best = discovery.alpha_ndcg(
        np.array([[2, 1, 0]]), aspects, wanted[:1], [np.array([0, 1, 2])], k=3
    )
    assert best.tolist() == [1]


# ---- agreement


def rbo_by_steps(a: list[int], b: list[int], p: float) -> float:
    agreed = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, len(a) + 1)]
    return (1 - p) / p * sum(x * p**d for d, x in enumerate(agreed, 1)) + agreed[-1] * p ** len(a)


def test_overlap_of_ranks():
    a, b = (
        np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3], [-1, -1, -1]]),
        np.array([[1, 2, 3], [3, 2, 1], [7, 8, 9], [-1, -1, -1]]),
    )
    values = agreement.rank_biased_overlap(a, b)
    assert values[:3].tolist() == pytest.approx(
        [1, rbo_by_steps([1, 2, 3], [3, 2, 1], 0.9), 0]
    ) and np.isnan(values[3])
    top = agreement.overlap(a, b, 2)
    assert top[:3].tolist() == [1, 0.5, 0] and np.isnan(top[3])


def test_correlation_of_systems_and_wins():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 30).astype(float), rng.integers(0, 5, 30).astype(float)
    a[3] = np.nan
    kept = ~np.isnan(a)
    assert agreement.rank_correlation(a, b) == pytest.approx(
        stats.kendalltau(a[kept], b[kept]).statistic
    )
    assert math.isnan(agreement.rank_correlation(a[:1], b[:1]))
    assert agreement.wins(np.array([0, 1, 2, np.nan]), np.array([1, 1, 1, 5.0])) == (1, 1, 1)


# ---- groups


def test_groups_of_people():
    found = fairness.by_group(
        np.array([1.0, 0, 0.5, np.nan, np.nan]), np.array(["a", "a", "b", "b", "c"])
    )
    assert found.names == ["a", "b", "c"] and found.users.tolist() == [2, 1, 0]
    assert found.means[:2].tolist() == [0.5, 0.5] and np.isnan(found.means[2])
    assert (found.difference, found.ratio, found.deviation) == (0, 1, 0)
    apart = fairness.by_group(np.array([0.8, 0.2]), np.array(["x", "y"]))
    assert (apart.difference, apart.ratio, apart.deviation) == pytest.approx((0.6, 0.25, 0.3))
    assert math.isnan(fairness.by_group(np.ones(3), np.array(["a"] * 3)).difference)


def test_groups_of_items():
    assert fairness.exposure_disparity(np.array([10, 30]), np.array([100, 100])) == pytest.approx(
        0.1 / 0.2
    )
    assert fairness.recall_disparity(np.array([5, 5, 0]), np.array([10, 10, 0])) == 0
    assert math.isnan(fairness.recall_disparity(np.array([5]), np.array([10])))


def test_concentration_by_hand():
    assert concentration(np.array([1, 1, 1])) == 0 and concentration(
        np.array([0, 0, 6])
    ) == pytest.approx(2 / 3)
    assert math.isnan(concentration(np.zeros(3)))

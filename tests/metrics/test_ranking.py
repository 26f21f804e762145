"""Ranking metrics: values worked out by hand, naive loops, and scikit-learn where its definition is
ours.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from tailor.data.arrays import Ragged
from tailor.metrics.ranking import (
    PER_USER,
    average_precision,
    average_recall,
    average_reciprocal_hit_rank,
    bpref,
    capped_recall,
    f1,
    hit_count,
    hit_rate,
    hits,
    mean_rank,
    ndcg,
    percentile_rank,
    precision,
    r_precision,
    rank_biased_precision,
    recall,
    reciprocal_rank,
    relevant_counts,
)

HITS = np.array(
    [
        [False, True, False, True],
        [True, False, False, False],
        [False, False, False, False],
        [False, False, False, False],
    ]
)
RELEVANT = np.array([3, 1, 2, 0])  # the last user has nothing relevant


def found(lists: list[list[int]], targets: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    width = max((len(one) for one in lists), default=0)
    rows = np.full((len(lists), width), -1, dtype=np.int32)
    for at, one in enumerate(lists):
        rows[at, : len(one)] = one
    ragged = Ragged.of(targets)
    return hits(rows, ragged.offsets, ragged.values), relevant_counts(ragged.offsets, ragged.values)


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (hit_rate, 1, [0, 1, 0]),
        (hit_rate, 2, [1, 1, 0]),
        (recall, 4, [2 / 3, 1, 0]),
        (recall, 3, [1 / 3, 1, 0]),
        (precision, 4, [2 / 4, 1 / 4, 0]),
        (precision, 10, [2 / 10, 1 / 10, 0]),  # a list too short counts as misses
        (reciprocal_rank, 4, [1 / 2, 1, 0]),
        (reciprocal_rank, 1, [0, 1, 0]),
        (average_precision, 4, [(1 / 2 + 2 / 4) / 3, 1, 0]),
        (average_precision, 2, [(1 / 2) / 2, 1, 0]),
        (average_precision, 10, [(1 / 2 + 2 / 4) / 3, 1, 0]),
        (ndcg, 4, [(1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2), 1, 0]),
        (ndcg, 2, [(1 / math.log2(3)) / (1 + 1 / math.log2(3)), 1, 0]),
        (ndcg, 10, [(1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2), 1, 0]),
        (hit_count, 4, [2, 1, 0]),
        (capped_recall, 2, [1 / 2, 1, 0]),
        (r_precision, 4, [1 / 3, 1, 0]),  # three relevant: one of them among the first three
        (f1, 4, [2 * 2 / (4 + 3), 2 / 5, 0]),
        (average_recall, 4, [(0 + 1 + 1 + 2) / 3 / 4, 1, 0]),
        (average_reciprocal_hit_rank, 4, [1 / 2 + 1 / 4, 1, 0]),
        (rank_biased_precision, 4, [0.2 * (0.8 + 0.8**3), 0.2, 0]),
        (mean_rank, 4, [(2 + 4 + 5) / 3, 1, 5]),
    ],
)
def test_values_worked_out_by_hand(metric, k, expected):
    values = metric(HITS, RELEVANT, k)
    np.testing.assert_allclose(values[:3], expected, rtol=0, atol=1e-12)
    assert np.isnan(values[3])
    assert values.dtype == np.float64


def naive(name: str, ranked: list[int], relevant: set[int], k: int) -> float:
    if not relevant:
        return math.nan
    at = [rank for rank, item in enumerate(ranked[:k], start=1) if item in relevant]
    n, best = len(relevant), min(k, len(relevant))
    precisions = sum((i + 1) / rank for i, rank in enumerate(at))
    return {
        "HR": lambda: float(bool(at)),
        "hits": lambda: float(len(at)),
        "recall": lambda: len(at) / n,
        "recall-capped": lambda: len(at) / best,
        "precision": lambda: len(at) / k,
        "F1": lambda: 2 / (k / len(at) + n / len(at)) if at else 0.0,
        "R-precision": lambda: sum(rank <= n for rank in at) / n,
        "MRR": lambda: 1 / at[0] if at else 0.0,
        "MAP": lambda: precisions / best,
        "MAP-uncapped": lambda: precisions / n,
        "MAR": lambda: sum(sum(rank <= depth for rank in at) / n for depth in range(1, k + 1)) / k,
        "ARHR": lambda: sum(1 / rank for rank in at),
        "RBP": lambda: 0.2 * sum(0.8 ** (rank - 1) for rank in at),
        "NDCG": (
            lambda: (
                sum(1 / math.log2(rank + 1) for rank in at)
                / sum(1 / math.log2(rank + 1) for rank in range(1, best + 1))
            )
        ),
    }[name]()


list_of_items = st.lists(st.integers(0, 9), max_size=7, unique=True)
users = st.lists(
    st.tuples(list_of_items, st.lists(st.integers(0, 9), max_size=6)), min_size=1, max_size=6
)


@settings(max_examples=150, deadline=None)
@given(users, st.integers(1, 10))
def test_every_metric_equals_its_loop(people, k):
    lists, targets = [one[0] for one in people], [one[1] for one in people]
    found_at, counts = found(lists, targets)
    for name, metric in PER_USER.items():
        expected = [naive(name, ranked, set(relevant), k) for ranked, relevant in people]
        np.testing.assert_allclose(metric(found_at, counts, k), expected, atol=1e-12, err_msg=name)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_ndcg_and_map_agree_with_scikit_learn_on_whole_rankings(seed, k):
    rng = np.random.default_rng(seed)
    order, relevant = rng.permutation(12), rng.random(12) < 0.3
    relevant[rng.integers(12)] = True
    found_at, counts = found([order.tolist()], [np.flatnonzero(relevant).tolist()])
    score = np.empty(12)
    score[order] = np.arange(12, 0, -1)
    assert ndcg(found_at, counts, k)[0] == pytest.approx(
        ndcg_score(relevant[None].astype(float), score[None], k=k)
    )
    assert average_precision(found_at, counts, 12)[0] == pytest.approx(
        average_precision_score(relevant, score)
    )


def test_an_item_twice_in_a_list_is_refused():
    one = Ragged.of([[4]])
    with pytest.raises(ValueError, match="twice"):
        hits(np.array([[4, 1, 4]]), one.offsets, one.values)


def test_padding_twice_in_a_list_is_no_item():
    found_at, _ = found([[], [3]], [[1], [3]])
    assert found_at.tolist() == [[False], [True]]


@pytest.mark.parametrize("others", [[[2], [-1]], [[2, 1], [-1]], [[2, 1], [0, -1]]])
def test_a_target_that_the_catalogue_does_not_know_is_never_hit(others):
    """Row -1 stands for no item on both sides, and must not match padding or a neighbour's item."""
    targets = Ragged.of(others)
    rows = np.array([[9, 8], [5, -1]])
    assert not hits(rows, targets.offsets, targets.values).any()
    assert relevant_counts(targets.offsets, targets.values)[1] == len(others[1])


def test_a_target_twice_counts_once():
    found_at, counts = found([[1, 2]], [[1, 1, 3]])
    assert counts.tolist() == [2]
    assert recall(found_at, counts, 2)[0] == 0.5


def test_nobody_and_nothing():
    for lists, targets in [([], []), ([[], []], [[], [1]]), ([[1]], [[]])]:
        found_at, counts = found(lists, targets)
        assert len(counts) == len(lists)
        for name, metric in PER_USER.items():
            values = metric(found_at, counts, 3)
            assert values.shape == (len(lists),), name
            assert np.isnan(values[counts == 0]).all(), name
            assert (values[counts > 0] == 0).all(), name


def test_metrics_do_not_change_their_input():
    before = HITS.copy()
    for metric in PER_USER.values():
        metric(HITS, RELEVANT, 2)
    assert (before == HITS).all()


@pytest.mark.parametrize("k", [0, -1])
@pytest.mark.parametrize("metric", [*PER_USER.values(), mean_rank])
def test_no_place_at_all_is_refused(metric, k):
    with pytest.raises(ValueError, match=f"k is {k}"):
        metric(HITS, RELEVANT, k)


def test_percentile_rank_is_0_first_1_last_and_half_by_chance():
    order = np.random.default_rng(0).permuted(np.tile(np.arange(50), (4000, 1)), axis=1)
    assert percentile_rank(order == 7, np.ones(4000, int), 50, 50).mean() == pytest.approx(
        0.5, abs=0.02
    )
    assert percentile_rank(order == 7, np.ones(4000, int), 5, 50)[
        ~(order == 7)[:, :5].any(axis=1)
    ].tolist() == pytest.approx([(5 + 49) / 2 / 49] * int((~(order == 7)[:, :5].any(axis=1)).sum()))
    ends = np.array([[True, False, False], [False, False, True]])
    assert percentile_rank(ends, np.array([1, 1]), 3, 3).tolist() == [0, 1]
    with pytest.raises(ValueError, match="more than the 2 items"):
        percentile_rank(ends, np.array([1, 1]), 3, 2)


def test_bpref_by_hand():
    """R = 2, N = 3. Before the first relevant item stands one judged bad, before the second two: (1
    - 1/2 + 1 - 2/2) / 2.
    """
    found = np.array([[False, True, False, False, True]])
    refused = np.array([[True, False, False, True, False]])  # the third was judged by nobody
    assert bpref(found, refused, np.array([2]), np.array([3])).tolist() == [0.25]
    assert bpref(found, np.zeros_like(refused), np.array([2]), np.array([0])).tolist() == [1.0]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 6, 40, 700]), st.sampled_from([50, 3_000_000])
)
def test_hits_equal_set_membership_however_many_are_relevant(seed, most, items):
    """Few are compared one by one, many stand in a table where some share a slot: both must be
    exact.
    """
    rng = np.random.default_rng(seed)
    pool = rng.choice(items, min(items, 900), replace=False)
    lists = [rng.permutation(pool)[: rng.integers(0, 30)].tolist() for _ in range(5)]
    targets = [rng.permutation(pool)[: rng.integers(0, most + 1)].tolist() for _ in range(5)]
    found_at, counts = found(lists, targets)
    assert counts.tolist() == [len(one) for one in targets]
    for at, (shown, wanted) in enumerate(zip(lists, targets, strict=True)):
        assert found_at[at, : len(shown)].tolist() == [one in set(wanted) for one in shown]
        assert not found_at[at, len(shown) :].any()


def test_items_that_share_every_slot_are_still_told_apart():
    """Rows a multiple of 2^32 / 2^bits apart after hashing: the plan's worst case, made by
    searching for a slot shared by many.
    """
    from tailor.metrics.ranking import SLOTS_PER_ITEM, _hash_rows

    rows = np.arange(200_000, dtype=np.int32)
    bits = (SLOTS_PER_ITEM * 20 - 1).bit_length()
    same = rows[_hash_rows(rows, bits) == _hash_rows(rows[:1], bits)[0]][:40]
    assert len(same) == 40
    found_at, _ = found([same.tolist()], [same[::2].tolist()])
    assert found_at[0].tolist() == [True, False] * 20

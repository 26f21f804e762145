"""Ragged rows against lists, and the exact top-k against a sort."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.data.arrays import Ragged, best_first, concatenate, top_k
from tailor.errors import ModelError

lists = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6)


def plain(ragged: Ragged) -> list[list[int]]:
    assert ragged.offsets[0] == 0
    assert ragged.offsets[-1] == len(ragged.values)
    return [ragged[i].tolist() for i in range(len(ragged))]


@settings(max_examples=100, deadline=None)
@given(lists, st.data())
def test_ragged_equals_lists(rows, data):
    ragged = Ragged.of(rows)
    flat = [one for row in rows for one in row]
    assert plain(ragged) == rows
    assert [row.tolist() for row in ragged] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.row_ids.tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert ragged.from_end.tolist() == [len(row) - 1 - at for row in rows for at in range(len(row))]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(rows)), st.integers(0, len(rows)))))
    assert plain(ragged.slice(start, stop)) == rows[start:stop]
    picks = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert plain(ragged.take(np.array(picks, dtype=int))) == [rows[i] for i in picks]
    assert (
        plain(ragged.slice(start, stop).take(np.arange(stop - start)[::-1]))
        == rows[start:stop][::-1]
    )
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(flat), max_size=len(flat))), dtype=bool
    )
    kept = iter(mask.tolist())
    assert plain(ragged.keep(mask)) == [[one for one in row if next(kept)] for row in rows]
    n = data.draw(st.integers(0, 6))
    assert plain(ragged.last(n)) == [row[max(len(row) - n, 0) :] for row in rows]
    assert plain(concatenate([ragged, ragged.last(n)])) == rows + [
        row[max(len(row) - n, 0) :] for row in rows
    ]
    assert plain(ragged.distinct()) == [sorted(set(row)) for row in rows]
    assert plain(ragged.with_values(-ragged.values)) == [[-one for one in row] for row in rows]


@pytest.mark.parametrize("rows", [[], [[]], [[], [], []]])
def test_ragged_of_nothing(rows):
    ragged = Ragged.of(rows)
    assert ragged.values.dtype == np.int32
    assert plain(ragged.keep(np.zeros(0, bool))) == rows
    assert plain(ragged.last(3)) == rows
    assert plain(ragged.take(np.zeros(0, int))) == []
    assert ragged.matrix(4).shape == (len(rows), 4)


def test_a_negative_row_counts_from_the_end_and_a_row_too_far_is_refused():
    ragged = Ragged.of([[1], [2, 3], [4]])
    assert [ragged[i].tolist() for i in (-1, -2, -3)] == [[4], [2, 3], [1]]
    for far in (3, -4):
        with pytest.raises(IndexError):
            ragged[far]


def test_matrix_owns_its_memory_and_adds_up_repeats():
    ragged = Ragged.of([[2, 2, 0], []])
    matrix = ragged.matrix(3)
    matrix.sum_duplicates()
    assert matrix.toarray().tolist() == [[1, 0, 2], [0, 0, 0]]
    assert plain(ragged) == [[2, 2, 0], []]


def sorted_best(scores: dict[int, float], k: int) -> list[int]:
    return sorted(
        (one for one, score in scores.items() if score > -np.inf),
        key=lambda one: (-scores[one], one),
    )[:k]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 12),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_top_k_equals_a_sort_with_few_distinct_scores(
    seed, k, as_sparse, with_exclude, with_blocked, with_candidates
):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 5), rng.integers(1, 11)
    # ties everywhere, also exactly at the edge
    dense = rng.integers(-1, 3, (rows, columns)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.2] = -np.inf
    matrix = None
    if as_sparse:
        stored = rng.random(dense.shape) < 0.7
        # unsorted, with zeros that are scores
        where = [np.flatnonzero(one)[::-1] for one in stored]
        lengths = [len(one) for one in where]
        values = np.concatenate([dense[i, one] for i, one in enumerate(where)])
        matrix = sp.csr_matrix(
            (values, np.concatenate(where), np.r_[0, np.cumsum(lengths)]), shape=dense.shape
        )
        dense = np.where(stored, dense, -np.inf)

    def some() -> Ragged:
        # with duplicates
        return Ragged.of(
            [rng.integers(0, columns, rng.integers(0, columns + 2)) for _ in range(rows)]
        )

    exclude, candidates = some() if with_exclude else None, some() if with_candidates else None
    blocked = rng.integers(0, columns, 2) if with_blocked else None
    got, scores = top_k(dense if matrix is None else matrix, k, exclude, blocked, candidates)
    assert got.shape == scores.shape == (rows, k)
    for row in range(rows):
        banned = {
            *(exclude[row].tolist() if with_exclude else ()),
            *(blocked.tolist() if with_blocked else ()),
        }
        allowed = set(candidates[row].tolist()) if with_candidates else set(range(columns))
        expected = sorted_best({one: dense[row, one] for one in allowed - banned}, k)
        assert got[row].tolist() == expected + [-1] * (k - len(expected))
        assert scores[row].tolist() == [dense[row, one] for one in expected] + [-np.inf] * (
            k - len(expected)
        )


def test_nothing_that_was_blocked_comes_back_after_a_row_that_also_excludes_it():
    scores = np.tile(np.arange(5, 0, -1, dtype=np.float32), (3, 1))
    exclude = Ragged.of([[0, 0, 1, 1], [1], []])
    rows, _ = top_k(scores, 5, exclude, blocked=np.array([0, 0]))
    assert rows.tolist() == [[2, 3, 4, -1, -1], [2, 3, 4, -1, -1], [1, 2, 3, 4, -1]]


def test_candidates_of_one_row_do_not_serve_the_next():
    rows, _ = top_k(np.ones((2, 4), np.float32), 4, candidates=Ragged.of([[3, 1, 3], []]))
    assert rows.tolist() == [[1, 3, -1, -1], [-1] * 4]


def test_everything_excluded_gives_nothing():
    rows, scores = top_k(np.ones((1, 3), np.float32), 2, Ragged.of([[0, 1, 2]]))
    assert rows.tolist() == [[-1, -1]]
    assert np.isneginf(scores).all()


def test_ties_at_the_edge_go_to_the_lower_column_whatever_the_order_stored():
    scores = np.array([1, 2, 2, 2, 3], np.float32)
    assert best_first(scores, np.array([9, 7, 5, 6, 0]), 3).tolist() == [4, 2, 3]
    assert best_first(scores[::-1], np.array([9, 7, 5, 6, 0])[::-1], 3).tolist() == [0, 2, 1]


@pytest.mark.parametrize("kinds", [3, 50, 10**6])
@pytest.mark.parametrize("k", [1, 10, 255, 700])
def test_long_rows_with_ties_and_gaps_are_as_sorted(kinds, k):
    rng = np.random.default_rng(k)
    scores = rng.integers(0, kinds, 5_003).astype(np.float32)
    # sometimes fewer than k are left
    scores[rng.random(len(scores)) < (0.2 if k < 700 else 0.95)] = -np.inf
    expected = sorted(np.flatnonzero(scores > -np.inf).tolist(), key=lambda at: (-scores[at], at))[
        :k
    ]
    assert best_first(scores, None, k).tolist() == expected
    assert best_first(scores[::-1], np.arange(len(scores))[::-1], k).tolist() == [
        len(scores) - 1 - at for at in expected
    ]


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_a_nan_is_refused(make):
    with pytest.raises(ModelError, match="NaN"):
        top_k(make(np.array([[1, np.nan]], np.float32)), 1)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float64, bool])
def test_counts_order_as_numbers_do(make, kind):
    """Negating an unsigned number makes 0 the best of all."""
    rows, scores = top_k(make(np.array([[3, 1, 5]]).astype(kind)), 3)
    assert rows.tolist() == [[0, 1, 2] if kind is bool else [2, 0, 1]]
    assert scores.tolist() == [[1, 1, 1] if kind is bool else [5, 3, 1]]


def test_top_k_leaves_its_arguments_alone():
    scores, exclude = np.ones((2, 3), np.float32), Ragged.of([[0], [1]])
    for array in (scores, exclude.values, exclude.offsets):
        array.flags.writeable = False
    top_k(scores, 2, exclude, np.array([2]), Ragged.of([[0, 1], [0, 1]]))


def test_no_queries_and_no_items():
    assert top_k(np.zeros((0, 4), np.float32), 3)[0].shape == (0, 3)
    assert top_k(np.zeros((2, 0), np.float32), 3)[0].tolist() == [[-1] * 3] * 2


def test_pairs_stay_within_their_rows():
    rows = Ragged.of([[1, 2, 3], [], [4], [5, 6]])
    first, second = rows.pairs(1)
    assert first.tolist() == [1, 2, 5] and second.tolist() == [2, 3, 6]
    assert [values.tolist() for values in rows.pairs(2)] == [[1], [3]]
    assert [values.tolist() for values in rows.pairs(3)] == [[], []]

"""Many users at once: shards and threads change nothing, memory stays bounded, what cannot be is
refused.
"""

import tracemalloc

import numpy as np
import pytest

from tailor.metrics import battery
from tailor.metrics.battery import per_user
from tailor.metrics.ranking import PER_USER, hits, relevant_counts


def case(users: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(200)[:20] for _ in range(users)]).astype(np.int32)
    lengths = rng.integers(0, 9, users)
    targets = np.concatenate([rng.permutation(200)[:n] for n in lengths]).astype(np.int32)
    return rows, np.r_[0, np.cumsum(lengths)], targets


def test_shards_and_threads_change_nothing(monkeypatch):
    rows, offsets, targets = case(300)
    whole = per_user(rows, offsets, targets, (5, 20), list(PER_USER), threads=1)
    monkeypatch.setattr(battery, "SHARD_POSITIONS", 7 * 20)
    for name, values in per_user(
        rows, offsets, targets, (5, 20), list(PER_USER), threads=3
    ).items():
        assert np.array_equal(values, whole[name], equal_nan=True), name
    found, relevant = hits(rows, offsets, targets), relevant_counts(offsets, targets)
    assert np.array_equal(whole["MAP@5"], PER_USER["MAP"](found, relevant, 5), equal_nan=True)
    assert np.isnan(whole["MAP@5"]).sum() == (np.diff(offsets) == 0).sum() > 0


def test_binary_relevance_is_grade_1():
    rows, offsets, targets = case(100)
    binary = per_user(rows, offsets, targets, (5,), list(PER_USER))
    graded = per_user(rows, offsets, targets, (5,), list(PER_USER), grades=np.ones(len(targets)))
    for name, values in binary.items():
        np.testing.assert_allclose(graded[name], values, atol=1e-12, err_msg=name)


def test_nobody_and_empty_lists():
    assert per_user(
        np.zeros((0, 5), np.int32), np.array([0]), np.zeros(0, np.int32), (3,), ("NDCG",)
    )["NDCG@3"].shape == (0,)
    values = per_user(
        np.full((2, 4), -1, np.int32),
        np.array([0, 1, 1]),
        np.array([3], np.int32),
        (3,),
        list(PER_USER),
    )
    assert all(value[0] == 0 and np.isnan(value[1]) for value in values.values())
    assert per_user(
        np.zeros((1, 0), np.int32), np.array([0, 1]), np.array([3]), (3,), ("NDCG", "MRR")
    )["NDCG@3"].tolist() == [0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"metrics": ("NDGC",)}, 'no metric "NDGC"'),
        ({"metrics": ("ERR",)}, "needs grades"),
        ({"k": (0,)}, "at least 1"),
        ({"k": ()}, "at least 1"),
        ({"offsets": np.array([0, 1])}, "2 lists, but offsets for 1 users"),
        ({"rows": np.array([[1, 1], [2, 3]])}, "same item twice"),
    ],
)
def test_what_cannot_be_is_refused(given, says):
    call = {
        "rows": np.array([[1, 0], [2, 3]]),
        "offsets": np.array([0, 1, 2]),
        "targets": np.array([1, 2]),
        "k": (2,),
        "metrics": ("NDCG",),
        **given,
    }
    with pytest.raises(ValueError, match=says):
        per_user(**call)


def test_memory_grows_with_the_answer_only():
    """A catalogue of ten million items; the shards of 40,000 users with 100 places must not stand
    in memory together.
    """
    users = 40_000
    rng = np.random.default_rng(0)
    rows = (rng.integers(0, 10**7, (users, 1)) + np.arange(100) * 97) % 10**7
    rows, targets = rows.astype(np.int32), rows[:, [3, 20, 50, 70, 80, 90]].ravel().astype(np.int32)
    tracemalloc.start()
    values = per_user(
        rows, np.arange(users + 1) * 6, targets, (100,), ("NDCG", "MAP", "RBP", "MRR"), threads=2
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all((one > 0).all() for one in values.values())
    assert peak < 120e6, f"{peak / 1e6:.0f} MB for {rows.nbytes / 1e6:.0f} MB of lists"


@pytest.mark.parametrize(
    ("offsets", "targets", "grades", "says"),
    [
        ([0, 1, 0], [2], None, "offsets"),
        ([0, 1, 3], [2], None, "offsets"),
        ([1, 1, 1], [2], None, "offsets"),
        ([0, 1, 1], [2], [np.nan], "nan"),
        ([0, 1, 1], [2], [np.inf], "inf"),
        ([0, 1, 1], [2], [1.0, 2.0], "2 grades"),
    ],
)
def test_offsets_and_grades_that_do_not_fit_are_named(offsets, targets, grades, says):
    rows = np.array([[1, 2, 3], [4, 5, 6]])
    with pytest.raises(ValueError, match=says):
        per_user(
            rows,
            np.array(offsets),
            np.array(targets),
            (3,),
            ("NDCG",),
            grades=None if grades is None else np.array(grades),
        )

"""Graded metrics: values by hand, loops, trec_eval (through ir-measures) live, and ranx through a
file that it made.
"""

import json
import math
import random
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, Bpref, P, R, Rprec, Success, nDCG

from tailor.metrics.battery import per_user
from tailor.metrics.graded import (
    GRADED,
    best_grades,
    dcg,
    dcg_exponential,
    expected_reciprocal_rank,
    grades_of,
    ndcg,
    ndcg_exponential,
    rank_biased_precision,
)

GRADES = np.array([[3.0, 0, 2], [0, 0, 0], [0, 0, 0]])
BEST = np.array([[3.0, 3, 2], [1, 0, 0], [0, 0, 0]])  # the last user judged nothing to be relevant


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (dcg, 3, 3 + 2 / 2),
        (dcg, 1, 3),
        (dcg_exponential, 3, 7 + 3 / 2),
        (ndcg, 3, 4 / (3 + 3 / math.log2(3) + 2 / 2)),
        (ndcg_exponential, 2, 7 / (7 + 7 / math.log2(3))),
        (rank_biased_precision, 3, 0.2 * (3 + 2 * 0.64)),
        (expected_reciprocal_rank, 3, 7 / 16 + (1 - 7 / 16) * (3 / 16) / 3),
    ],
)
def test_values_worked_out_by_hand(metric, k, expected):
    values = metric(GRADES, BEST, k)
    assert values[:2].tolist() == pytest.approx([expected, 0], abs=1e-12) and np.isnan(values[2])


def test_grades_are_found_where_the_items_stand():
    rows = np.array([[4, 9, 2], [9, -1, -1]])
    grades = grades_of(
        rows, np.array([0, 3, 4]), np.array([2, 4, 7, 3]), np.array([1.0, 2.0, 3.0, 5.0])
    )
    assert grades.tolist() == [[2, 0, 1], [0, 0, 0]]
    assert best_grades(np.array([0, 3, 4]), np.array([1.0, 2.0, 3.0, 5.0]), 2).tolist() == [
        [3, 2],
        [5, 0],
    ]
    assert grades_of(np.zeros((0, 3), int), np.array([0]), np.zeros(0, int), np.zeros(0)).shape == (
        0,
        3,
    )


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="judged the same item twice"):
        grades_of(np.array([[1]]), np.array([0, 2]), np.array([4, 4]), np.ones(2))
    with pytest.raises(ValueError, match="same item twice"):
        grades_of(np.array([[1, 1]]), np.array([0, 1]), np.array([4]), np.ones(1))
    with pytest.raises(ValueError, match="grade of 5"):
        expected_reciprocal_rank(np.array([[5.0]]), np.array([[5.0]]), 1)
    with pytest.raises(ValueError, match="k is 0"):
        dcg(GRADES, BEST, 0)


def arrays(judged: dict[str, dict[str, float]], lists: dict[str, list[str]]):
    """Rows, offsets, targets and grades of the users in order of their names; items are called
    "i7".
    """
    users, width = sorted(judged), max(map(len, lists.values()))
    rows = np.full((len(users), width), -1)
    for at, user in enumerate(users):
        rows[at, : len(lists[user])] = [int(item[1:]) for item in lists[user]]
    targets = [int(item[1:]) for user in users for item in judged[user]]
    grades = [float(grade) for user in users for grade in judged[user].values()]
    return (
        rows,
        np.cumsum([0, *(len(judged[user]) for user in users)]),
        np.array(targets),
        np.array(grades),
    )


def random_judgements(seed: int, users: int = 80):
    """Some users have no relevant item, some none that is not, some nothing judged in their list;
    lists end early.
    """
    draw = random.Random(seed)
    judged, lists = {}, {}
    for at in range(users):
        items = draw.sample(range(30), draw.randint(1, 12))
        judged[f"u{at:03d}"] = {f"i{item}": draw.choice([0, 0, 1, 2, 3]) for item in items}
        lists[f"u{at:03d}"] = [f"i{item}" for item in draw.sample(range(30), draw.randint(1, 15))]
    return judged, lists


TREC = {
    "MAP-uncapped@5": AP @ 5,
    "MAP-uncapped@100": AP,
    "NDCG@5": nDCG @ 5,
    "NDCG@100": nDCG,
    "MRR@100": RR,
    "precision@5": P @ 5,
    "recall@5": R @ 5,
    "R-precision@100": Rprec,
    "bpref@100": Bpref,
    "HR@5": Success @ 5,
}


@pytest.mark.parametrize("seed", range(5))
def test_every_value_is_that_of_trec_eval(seed):
    judged, lists = random_judgements(seed)
    names = sorted({name.partition("@")[0] for name in TREC})
    rows, offsets, targets, grades = arrays(judged, lists)
    ours = per_user(rows, offsets, targets, (5, 100), names, grades=grades)
    run = {
        user: {item: -float(rank) for rank, item in enumerate(items)}
        for user, items in lists.items()
    }
    theirs = {
        (str(one.measure), one.query_id): one.value
        for one in ir_measures.iter_calc(list(TREC.values()), judged, run)
    }
    seen = 0
    for at, user in enumerate(sorted(judged)):
        relevant = any(grade > 0 for grade in judged[user].values())
        for name, measure in TREC.items():
            if not relevant:
                assert np.isnan(ours[name][at]), (
                    f"{name} of a user without a relevant item is undefined, not 0"
                )
                continue
            seen += 1
            assert ours[name][at] == pytest.approx(theirs[str(measure), user], abs=1e-9), (
                name,
                user,
            )
    assert seen > 500


RANX = {
    "hits@5": "hits@5",
    "hit_rate@5": "HR@5",
    "precision@5": "precision@5",
    "recall@5": "recall@5",
    "f1@5": "F1@5",
    "r-precision": "R-precision@12",
    "bpref": "bpref@12",
    "rbp.80": "RBP@12",
    "rbp.95": "RBP.95@12",
    "mrr@5": "MRR@5",
    "mrr": "MRR@12",
    "map@5": "MAP-uncapped@5",
    "map": "MAP-uncapped@12",
    "dcg@5": "DCG@5",
    "dcg_burges@5": "DCG-exp@5",
    "ndcg@5": "NDCG@5",
    "ndcg": "NDCG@12",
    "ndcg_burges@5": "NDCG-exp@5",
    "ndcg_burges": "NDCG-exp@12",
}


def test_every_value_is_that_of_ranx():
    """The file was made by ranx itself (benchmarks/peers/ranx_golden.py), which needs numba and
    compiles for a minute.
    """
    about = json.loads((Path(__file__).parent / "ranx_golden.json").read_text(encoding="utf-8"))
    assert about["made by"].startswith("ranx ") and set(about["values"]) == set(RANX)
    rows, offsets, targets, grades = arrays(about["judged"], about["lists"])
    ours = per_user(
        rows,
        offsets,
        targets,
        (5, 12),
        sorted({name.partition("@")[0] for name in RANX.values()}),
        grades=grades,
    )
    for theirs, name in RANX.items():
        np.testing.assert_allclose(
            ours[name], about["values"][theirs], rtol=0, atol=1e-9, err_msg=name
        )


def stop_loop(grades: list[float], k: int) -> float:
    value, reached = 0.0, 1.0
    for rank, grade in enumerate(grades[:k], start=1):
        content = (2**grade - 1) / 16
        value += reached * content / rank
        reached *= 1 - content
    return value


def test_expected_reciprocal_rank_equals_its_loop():
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 5, (50, 9)).astype(float)
    best = -np.sort(-grades, axis=1)
    expected = [stop_loop(row.tolist(), 6) if row.any() else math.nan for row in grades]
    np.testing.assert_allclose(expected_reciprocal_rank(grades, best, 6), expected, atol=1e-12)


@pytest.mark.parametrize("k", [0, -1])
@pytest.mark.parametrize("name", GRADED)
def test_a_list_has_at_least_one_place(name, k):
    with pytest.raises(ValueError, match=f"k is {k}"):
        GRADED[name](np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]]), k)

"""Comparing: what runs may be put beside one another, and what the table says where nothing was
found.
"""

from dataclasses import replace

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.splits import by_ratio, last_out
from tailor.errors import DataError
from tailor.evaluation.comparing import compare, join_reports, over_seeds
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.report import Report, Result
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

DATA = tiny_data(users=80, items=30, events=9)
SPLIT = last_out(DATA)


def planted(values: dict[str, np.ndarray], users: list[str] | None = None) -> Report:
    """A report of made-up per-user values of one metric."""
    n = len(next(iter(values.values())))
    results = {
        (name, "removed"): Result({"NDCG@10": one}, {}, 0.0, "train")
        for name, one in values.items()
    }
    return Report({"hash": "h"}, "test", users or [f"u{at}" for at in range(n)], {}, results, 0.0)


def test_runs_made_one_by_one_are_compared_as_if_made_together():
    methods = {"a": Popularity().fit(SPLIT.train), "b": CoVisitation().fit(SPLIT.train)}
    together = evaluate(methods, SPLIT)
    apart = join_reports([evaluate({name: one}, SPLIT) for name, one in methods.items()])
    assert compare(apart, "a") == compare(together, "a")
    assert apart.interval == together.interval and apart.strata_interval == together.strata_interval


def test_runs_of_other_users_splits_parts_or_metrics_are_refused():
    fitted = Popularity().fit(SPLIT.train)
    report = evaluate({"a": fitted}, SPLIT)
    other = by_ratio(DATA, 0.2, 0.2)
    fewer = replace(
        planted({"b": np.zeros(80)}, [f"someone{at}" for at in range(80)]), split=report.split
    )
    for second, says in (
        (evaluate({"b": Popularity().fit(other.train)}, other), "different splits"),
        (evaluate({"b": fitted}, SPLIT, "valid"), "different parts"),
        (evaluate({"b": fitted}, SPLIT, k=(5,)), "different metrics"),
        (evaluate({"a": fitted}, SPLIT), 'two reports hold a method "a"'),
    ):
        with pytest.raises(DataError, match=says):
            join_reports([report, second])
    with pytest.raises(DataError, match=r"different users \(160 of them are in one only"):
        join_reports([planted_like(report), fewer])
    with pytest.raises(DataError, match="no report"):
        join_reports([])


def planted_like(report: Report) -> Report:
    return replace(planted({"a": np.zeros(80)}, report.user_ids), split=report.split)


def test_where_no_difference_is_found_the_table_says_what_would_have_been():
    rng = np.random.default_rng(0)
    base = rng.random(400)
    found = compare(
        planted(
            {
                "base": base,
                "same": base + rng.normal(0, 0.1, 400),
                "better": base + rng.normal(0.05, 0.1, 400),
            }
        ),
        "base",
    )
    same, better = found
    assert not same.is_significant and better.is_significant
    # two comparisons: level .025
    assert same.detectable == pytest.approx((2.2414 + 0.8416) * 0.1 / 20, rel=0.1)
    assert same.p <= same.to_dict()["p_bh"] <= same.p_holm


@pytest.mark.parametrize("kind", ["permutation", "bootstrap", "t", "wilcoxon"])
def test_every_kind_of_test_finds_a_planted_difference_and_no_other(kind):
    rng = np.random.default_rng(1)
    base = rng.random(300)
    report = planted(
        {
            "base": base,
            "better": base + rng.normal(0.05, 0.1, 300),
            "same": base + rng.normal(0, 0.1, 300),
        }
    )
    assert [one.is_significant for one in compare(report, "base", kind=kind)] == [True, False]


def test_nothing_beside_the_baseline_is_no_comparison():
    assert compare(planted({"base": np.zeros(5)}), "base") == []


def test_the_table_of_seeds():
    reports = [
        evaluate({"co": CoVisitation().fit(SPLIT.train)}, SPLIT, run=Run(seed=seed))
        for seed in range(3)
    ]
    rows = over_seeds(reports)
    assert [(row.method, row.metric, row.seen) for row in rows] == [
        ("co", metric, seen) for seen in ("removed", "kept") for metric in ("HR@10", "NDCG@10")
    ]
    assert all(
        row.deviation == pytest.approx(0)
        and len(row.means) == 3
        and row.low <= row.mean <= row.high
        for row in rows
    )
    shifted = over_seeds([planted({"a": np.full(50, value)}) for value in (0.1, 0.2, 0.3)])[0]
    assert shifted.mean == pytest.approx(0.2) and shifted.deviation == pytest.approx(0.1)
    with pytest.raises(DataError, match="different methods"):
        over_seeds([reports[0], evaluate({"pop": Popularity().fit(SPLIT.train)}, SPLIT)])


def test_every_stratum_has_its_interval():
    report = evaluate(CoVisitation().fit(SPLIT.train), SPLIT)
    rows = report.to_dict()["strata"]
    assert rows and all(row["low"] <= row["mean"] <= row["high"] for row in rows)
    whole = next(
        row
        for row in report.to_dict()["metrics"]
        if row["metric"] == "HR@10" and row["seen"] == "removed"
    )
    part = next(row for row in rows if row["metric"] == "HR@10" and row["users"] < 40)
    assert part["high"] - part["low"] > whole["high"] - whole["low"]

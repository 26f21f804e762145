"""Checklists: no row without a call, no figure without interval and floor, nothing counted twice."""

import dataclasses
import json

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.errors import DataError, ModelError
from tailor.evaluation.checklist import BeforeAfter, Check, Figure, Sample, run_checks


def check(name="order", call=None, **cells):
    values = {"method": "shuffles", "metric": "tau", "ask": f"tailor {name}", **cells}
    return Check(
        name, call=call or (lambda: Figure.of(np.array([0.25, 0.75]), 0.5, "chance")), **values
    )


def test_a_figure_is_the_mean_of_the_rows_that_have_a_value_and_a_floor():
    figure = Figure.of(
        np.array([1.0, np.nan, 0.0, 0.5]), np.array([0.5, 0.5, np.nan, 0.5]), "again"
    )
    assert (figure.value, figure.floor, figure.n) == (0.75, 0.5, 2)
    assert (figure.low, figure.high) == (0.5, 1.0)


def test_a_figure_is_beyond_its_floor_only_where_pairs_say_so():
    values = np.linspace(0, 1, 40)
    assert Figure.of(values, values - 0.01, "again").is_beyond_floor
    assert Figure.of(values, values + 0.01, "again").is_beyond_floor
    assert not Figure.of(values, values.mean(), "chance").is_beyond_floor
    assert not Figure.of(values, values.copy(), "again").is_beyond_floor
    assert not Figure.of(values + 1e-15, values, "rounded").is_beyond_floor


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(DataError, match="none of 2 rows"):
        Figure.of(np.array([np.nan, 1.0]), np.array([1.0, np.nan]), "again")


@pytest.mark.parametrize("cell", ["name", "method", "metric", "ask"])
def test_an_empty_cell_is_refused_before_anything_runs(cell):
    ran = []
    bad = dataclasses.replace(check(call=lambda: ran.append(1)), **{cell: " "})
    with pytest.raises(DataError, match=f"has no {cell}"):
        run_checks([check("first", call=lambda: ran.append(1)), bad], Run(), "list")
    assert not ran


def test_one_thing_counts_once():
    with pytest.raises(DataError, match="twice"):
        run_checks([check("order"), check("order", method="other")], Run(), "list")
    with pytest.raises(DataError, match="twice"):
        run_checks([check("a", ask="same"), check("b", ask="same")], Run(), "list")
    with pytest.raises(DataError, match="no check"):
        run_checks([], Run(), "list")


def test_a_check_that_cannot_run_is_told_and_leaves_the_list_incomplete():
    def refused():
        raise ModelError("the endpoint gives no log-probabilities")

    report = run_checks([check("order"), check("yes", refused)], Run(), "list")
    assert not report.is_complete
    assert report.notes() == ["yes: not measured. the endpoint gives no log-probabilities"]
    assert report.to_dict()["checks"][1]["value"] is None
    with pytest.raises(DataError, match="no figure"):
        report.figure("yes")


def test_a_figure_that_is_no_number_is_no_figure():
    nan = dataclasses.replace(check().call(), value=float("nan"))
    report = run_checks([check(call=lambda: nan)], Run(), "list")
    assert not report.is_complete and "nan" in report.notes()[0]


def test_an_error_of_the_program_is_not_hidden():
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_checks([check(call=broken)], Run(), "list")


def test_tables_are_by_group_and_plain():
    report = run_checks([check("a", group="one"), check("b", group="two")], Run(), "list")
    assert report.is_complete
    assert [table.title for table in report.tables()] == ["list: one", "list: two"]
    row = report.to_dict()["checks"][0]
    assert (row["value"], row["low"], row["high"], row["floor"]) == (0.5, 0.25, 0.75, 0.5)
    assert (row["beyond floor"], row["n"], row["ask"]) == ("no", 2, "tailor a")
    assert row["seconds"] >= 0
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_quantile_has_an_interval_and_a_paired_floor():
    values = np.arange(100.0)
    figure = Figure.of_quantile(values, values - 1, 0.95, "again")
    assert figure.value == pytest.approx(np.quantile(values, 0.95))
    assert figure.floor == pytest.approx(figure.value - 1) and figure.is_beyond_floor
    assert figure.low < figure.value < figure.high and figure.n == 100
    assert not Figure.of_quantile(values, values.copy(), 0.5, "again").is_beyond_floor
    with pytest.raises(DataError, match="no row"):
        Figure.of_quantile(np.zeros(0), np.zeros(0), 0.5, "again")


def pair(before, after, **fields):
    sides = [lambda: Sample(*before), lambda: Sample(*after)]
    return BeforeAfter("tail", "recall", ("old", "new"), ("ask old", "ask new"), *sides, **fields)


def test_a_gain_is_paired_and_its_floor_is_the_remedy_where_only_chance_differs():
    before = (np.array([0.0, 1.0, 0.0, 0.0]), 0.1, "chance")
    after = (np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0]), "other texts")
    report = run_checks(pair(before, after).checks(), Run(), "pairs")
    assert [r.check.name for r in report.results] == ["tail: before", "tail: after", "tail: gain"]
    gain = report.figure("tail: gain")
    assert (gain.value, gain.floor, gain.floor_of) == (0.5, 0.25, "other texts")


def test_of_a_loss_the_gain_is_what_is_lost_less():
    before = (np.array([0.5, 0.3]), np.array([0.1, 0.1]), "repeated")
    after = (np.array([0.2, 0.2]), np.array([0.0, 0.1]), "repeated")
    report = run_checks(pair(before, after, is_loss=True).checks(), Run(), "pairs")
    gain = report.figure("tail: gain")
    assert (gain.value, gain.floor) == (pytest.approx(0.2), pytest.approx(0.05))


def test_without_a_remedy_the_before_is_measured_all_the_same():
    def refuse():
        raise DataError("no item has words")

    calls = []

    def measure():
        calls.append(1)
        return Sample(np.array([1.0, 0.0]), 0.0, "chance")

    comparison = BeforeAfter("tail", "recall", ("old", "new"), ("a", "b"), measure, refuse)
    report = run_checks(comparison.checks(), Run(), "pairs")
    assert [result.figure is None for result in report.results] == [False, True, True]
    assert report.results[2].reason == "no item has words" and calls == [1]
    only = dataclasses.replace(comparison, stages=("after", "gain")).checks()
    assert [check.name for check in only] == ["tail: after", "tail: gain"]

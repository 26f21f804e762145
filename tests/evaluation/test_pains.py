"""Costs of pains: shares of right answers that are lost, and the words for them."""

import dataclasses
import json

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.errors import DataError
from tailor.evaluation.checklist import Check, Figure, run_checks
from tailor.evaluation.latency import time_requests
from tailor.evaluation.pains import Cost, Pain, Prescription, cost_of, cost_of_group

GAIN = Figure.of(np.full(30, 0.5), 0.0, "chance")


def pain(name="tail", value=0.3, low=0.2, **fields):
    cost = None if value is None else Cost(0.5, value, low, value + 0.1)
    return Pain(name, "requests are odd", "Remedy", "recall@20", cost, **fields)


def prescription(*pains):
    check = Check("a", "b", "c", "d", lambda: GAIN)
    report = run_checks([check], Run(), "pains")
    return Prescription(report.title, report.results, pains=pains)


def test_a_group_that_is_never_right_costs_its_share():
    is_touched = np.arange(200) % 4 == 0
    cost = cost_of_group((~is_touched).astype(float), is_touched, 0)
    assert cost.touched == 0.25 and cost.value == pytest.approx(0.25)
    assert 0.15 < cost.low < cost.value < cost.high < 0.35


def test_a_group_that_is_answered_better_costs_nothing():
    is_touched = np.arange(100) < 50
    answers = np.where(is_touched, 1.0, np.arange(100) % 2)
    assert cost_of_group(answers, is_touched, 0) == Cost(0.5, 0.0, 0.0, 0.0)
    assert cost_of_group(answers, np.zeros(100, bool), 0) == Cost()


def test_a_cost_is_relative_to_what_is_right_without_the_pain():
    answers = np.array([1.0, 0, 0, 0] * 20)
    reference = np.array([1.0, 1, 0, 0] * 20)
    assert cost_of(0.1, answers, reference, np.ones(80), 0).value == pytest.approx(0.5)
    with pytest.raises(DataError, match="nothing can be lost"):
        cost_of_group(np.zeros(10), np.arange(10) < 5, 0)
    with pytest.raises(DataError, match="nothing can be lost"):
        cost_of_group(np.ones(10), np.ones(10, bool), 0)


def test_the_dearest_pain_is_named_and_the_method_to_try():
    figures = {"before": GAIN, "after": GAIN, "gain": GAIN}
    report = prescription(pain("noise", 0.2), pain("tail", 0.4, **figures), pain("x", None))
    assert report.worst.name == "tail" and [p.name for p in report.known] == ["tail", "noise"]
    assert report.sentence().startswith("Worst pain: tail. 50% of the requests are odd")
    assert "Try Remedy: recall@20 0.500 before, 0.500 after." in report.sentence()
    assert report.notes()[0] == report.sentence()
    assert [row[0] for row in report.tables()[0].rows] == ["tail", "noise", "x"]
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_small_or_doubtful_cost_is_no_pain():
    assert prescription(pain(value=0.09)).worst is None
    assert prescription(pain(value=0.5, low=0.0)).worst is None
    report = prescription(pain(value=0.05))
    assert "Nothing hurts much" in report.sentence() and "5%" in report.sentence()
    assert prescription(pain(value=None)).sentence() == "No cost could be measured."


def test_no_gain_and_no_measure_are_said():
    flat = Figure.of(np.array([0.5, -0.5] * 10), 0.0, "chance")
    figures = {"before": GAIN, "after": GAIN}
    assert pain(**figures, gain=flat).verdict == "no gain"
    assert "no remedy here" in pain(**figures, gain=flat).sentence()
    assert pain().verdict == "not measured" and "could not be measured" in pain().sentence()
    at_floor = Figure.of(np.full(9, 0.5), np.full(9, 0.5), "texts of other items")
    assert pain(**figures, gain=at_floor).verdict == "no gain"  # chance brings as much
    assert pain(**figures, gain=dataclasses.replace(GAIN, low=0.1)).verdict == "gain"
    below_floor = Figure.of(np.full(9, 0.5), np.full(9, 0.8), "texts of other items")
    assert below_floor.is_beyond_floor  # chance brings more
    assert pain(**figures, gain=below_floor).verdict == "no gain"


def test_requests_are_timed_twice_each_after_one_that_is_not():
    asked = []
    times = time_requests(asked.append, 3)
    assert asked == [0, 0, 0, 1, 1, 2, 2]
    assert times.first.shape == times.again.shape == (3,) and (times.first >= 0).all()
    late = times._replace(first=np.array([1.0, 5.0, 9.0]))
    assert late.within(5.0)[0].tolist() == [1, 1, 0]

"""A few settings compared on validation."""

import pytest

from tailor.bench.choose import attempt, choose
from tailor.core.run import Run
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.evaluation.protocol import evaluate
from tailor.retrieval.covisitation import CoVisitation
from tailor.testing.data import tiny_data


@pytest.fixture(scope="module")
def split():
    return last_out(tiny_data())


def test_the_figure_is_that_of_the_protocol_on_validation(split):
    found = attempt(CoVisitation(window=2), split, "HR@5", "kept", Run())
    report = evaluate(CoVisitation(window=2).fit(split.train), split, "valid", (5,), ("HR",))
    assert found.value == report.mean("CoVisitation", "HR@5", "kept")
    assert (found.low, found.high) == report.interval["CoVisitation", "kept"][
        "HR@5"
    ] and found.low < found.value < found.high


def test_the_first_of_equals_wins_and_all_are_told_of(split):
    options = [
        CoVisitation(window=1, reverse=0.0),
        CoVisitation(window=3),
        CoVisitation(window=3, history_length=99),
    ]
    choice = choose(options, split)
    figures = [one["NDCG@10"] for one in choice.tried]
    assert figures[1] == figures[2] == max(figures) > figures[0]
    assert (
        choice.best.params() == options[1].params()
        and choice.best.is_fitted
        and not options[1].is_fitted
    )
    assert all(
        one["low"] <= one["NDCG@10"] <= one["high"] and one["seconds"] >= 0 for one in choice.tried
    )


@pytest.mark.parametrize("metric", ["NDCG", "NDCG@", "NDCG@ten"])
def test_a_metric_without_a_depth_is_named(split, metric):
    with pytest.raises(DataError, match=metric):
        choose([CoVisitation()], split, metric)

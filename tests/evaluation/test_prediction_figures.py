"""Figures of numbers and of several outcomes, against independent programs; the page."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, log_loss, mean_absolute_error, root_mean_squared_error

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.splits import by_time
from tailor.errors import DataError
from tailor.evaluation.prediction_figures import ClassFigures, LabelFigures, NumberFigures
from tailor.evaluation.prediction_pages import predictions_page
from tailor.evaluation.predictions import evaluate_predictions
from tailor.evaluation.report import GIVEN
from tailor.evaluation.significance import draw_counts

VALUE = Outcome("value")


@dataclass(eq=False)
class Table(Predictor):
    """Answer from a random table by item."""

    columns: int = 0
    """Outcomes; 0: one number."""
    scale: float = 1.0
    """Factor of the numbers."""
    answers_: np.ndarray = field(init=False)

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue
        size = (len(data.catalogue), self.columns) if self.columns else len(data.catalogue)
        self.answers_ = self.scale * run.rng("answers").random(size)
        if self.columns:
            self.answers_ = self.answers_ / self.answers_.sum(axis=1, keepdims=True)

    def _predict(self, queries, items):
        return self.answers_[items.values]


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    events = pl.DataFrame(
        {
            "user_id": [f"u{code}" for code in rng.integers(30, size=900)],
            "item_id": [f"i{code}" for code in rng.integers(40, size=900)],
            "time_ms": np.arange(900) * 1000,
            "value": rng.integers(3, size=900).astype(float),
        }
    )
    return by_time(Dataset({"events": events}, "values", {"high": "value >= 1"}))


def fitted(split, columns=0, seed=0, scale=1.0):
    return Table(columns, scale).fit(split.train, Run(seed=seed, workers=1), split)


def test_numbers_have_the_errors_of_an_independent_program(split):
    methods = {"one": fitted(split), "other": fitted(split, seed=1)}
    judged = evaluate_predictions(methods, split, outcome=VALUE)
    for name, predicted in judged.probabilities.items():
        wanted = root_mean_squared_error(judged.labels, predicted)
        assert judged.overall(name, "RMSE") == pytest.approx(wanted)
        wanted = mean_absolute_error(judged.labels, predicted)
        assert judged.overall(name, "MAE") == pytest.approx(wanted)
        rows = judged.users == 2
        per_user = judged.report.results[name, GIVEN].per_user
        wanted = root_mean_squared_error(judged.labels[rows], predicted[rows])
        assert per_user["RMSE"][2] == pytest.approx(wanted)
    low, high = judged.interval("one")
    assert low < judged.overall("one", "RMSE") < high
    difference = judged.differences("one")[0]
    assert difference.low <= difference.difference <= difference.high
    with pytest.raises(DataError, match="have no AUC"):
        judged.auc_differences("one")


def test_several_outcomes_have_the_scores_of_an_independent_program(split):
    methods = {"one": fitted(split, 3), "other": fitted(split, 3, seed=1)}
    judged = evaluate_predictions(methods, split, outcome=VALUE)
    for name, predicted in judged.probabilities.items():
        wanted = f1_score(judged.labels, predicted.argmax(axis=1), average="macro")
        assert judged.overall(name, "macro_F1") == pytest.approx(wanted)
        wanted = log_loss(judged.labels, predicted, labels=[0, 1, 2])
        assert judged.overall(name, "log_loss") == pytest.approx(wanted)
    low, high = judged.interval("one")
    assert low < judged.overall("one", "macro_F1") < high
    assert set(judged.to_dict("one")) >= {"macro_F1_differences"}


@pytest.mark.parametrize(
    ("figures", "score"),
    [
        (NumberFigures(), root_mean_squared_error),
        (ClassFigures(3), lambda labels, p: f1_score(labels, p.argmax(axis=1), average="macro")),
    ],
)
def test_drawn_figures_are_those_of_the_rows_drawn(figures, score):
    rng = np.random.default_rng(0)
    labels, users = rng.integers(0, 3, 60).astype(float), rng.integers(0, 12, 60)
    shape = (60, 3) if isinstance(figures, ClassFigures) else 60
    predictions = [rng.random(shape), rng.random(shape)]
    drawn = figures.drawn(labels, users, predictions, draws=20, seed=3)
    counts = np.concatenate(list(draw_counts(12, 20, 3, None)))
    for draw in range(20):
        times = counts[draw][users].astype(int)
        for method in range(2):
            wanted = score(np.repeat(labels, times), np.repeat(predictions[method], times, axis=0))
            assert drawn[draw, method] == pytest.approx(wanted)


def test_predictions_that_do_not_fit_are_refused(split):
    with pytest.raises(DataError, match="judge them apart"):
        evaluate_predictions({"1": fitted(split), "3": fitted(split, 3)}, split, outcome=VALUE)
    with pytest.raises(DataError, match="number the outcomes from 0"):
        evaluate_predictions(fitted(split, 2), split, outcome=VALUE)
    with pytest.raises(DataError, match="ask for probabilities"):
        evaluate_predictions(
            fitted(split, scale=9.0), split, outcome=Outcome("label", "value >= 1")
        )
    with pytest.raises(DataError, match="no probabilities"):
        ClassFigures(2).check("odd", np.array([0.0]), np.array([[0.5, 0.1]]))
    broken = fitted(split)
    broken.answers_ = broken.answers_ * np.nan
    with pytest.raises(DataError, match="no number"):
        evaluate_predictions(broken, split, outcome=VALUE)


def test_labels_are_a_case_of_two_outcomes():
    labels, p = np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.6, 0.3])
    users = np.zeros(3, dtype=int)
    two = ClassFigures(2).overall(labels, np.stack([1 - p, p], axis=1), users)
    assert two["log_loss"] == pytest.approx(LabelFigures().overall(labels, p, users)["log_loss"])


class Dots(HTMLParser):
    """Collects headings and counts the dots below each."""

    def __init__(self):
        super().__init__()
        self.dots: dict[str, int] = {}
        self.is_heading = False

    def handle_starttag(self, tag, attrs):
        self.is_heading = tag == "h2"

    def handle_startendtag(self, tag, attrs):
        if tag == "circle":
            self.dots[list(self.dots)[-1]] += 1

    def handle_data(self, text):
        if self.is_heading:
            self.dots[text] = 0
            self.is_heading = False


def test_the_page_plots_reliability_of_each_outcome_and_none_of_numbers(split):
    labels = evaluate_predictions(fitted(split), split, outcome=Outcome("label", "value >= 1"))
    dots = Dots()
    dots.feed(predictions_page(labels, title="<page>"))
    assert dots.dots["Reliability of Table"] == 15
    several = Dots()
    judged = evaluate_predictions(
        {"a": fitted(split, 3), "b": fitted(split, 3, seed=1)}, split, outcome=VALUE
    )
    several.feed(predictions_page(judged, "a"))
    assert sum(text.startswith("Reliability of a, outcome") for text in several.dots) == 3
    numbers = evaluate_predictions(fitted(split), split, outcome=VALUE)
    assert "Reliability" not in predictions_page(numbers)

"""A stream is predicted before it is learned from."""

from dataclasses import dataclass

import numpy as np
import pytest

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.errors import DataError
from tailor.evaluation.prequential import prequential, stream_order
from tailor.testing.data import tiny_data


@dataclass(eq=False)
class Counting(Predictor):
    """Predicts how many outcomes it has learned, and remembers the times it learned from."""

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue
        self.seen_ = np.zeros(0, np.int64)

    def _predict(self, queries, items):
        assert (queries.now_ms[:, None] >= self.seen_).all(), "learned from the future"
        return np.full(len(items.values), float(len(self.seen_)))

    def _update(self, queries, items, labels, run):
        self.seen_ = np.r_[self.seen_, queries.now_ms]


class Fixed(Counting):
    """Has no update."""

    _update = Predictor._update


@pytest.fixture
def examples():
    data = tiny_data(users=10)
    return Outcome("label", "value >= 4").learn(data, np.random.default_rng(0))


@pytest.mark.parametrize("late", [0, 2])
def test_an_outcome_is_learned_after_its_step_and_no_sooner(examples, late):
    method = Counting().fit(tiny_data(users=10), Run(workers=1))
    predicted = prequential(method, examples, step=7, late=late)
    order = stream_order(examples)
    assert (np.diff(examples.queries.now_ms[order]) >= 0).all()
    wanted = 7 * np.maximum(np.arange(len(examples)) // 7 - late, 0)
    assert predicted[order].tolist() == wanted.tolist()
    assert not len(method.seen_), "the method itself was changed"


def test_a_method_without_update_only_predicts(examples):
    method = Fixed().fit(tiny_data(users=10), Run(workers=1))
    assert (prequential(method, examples, step=7) == 0).all()


def test_requests_without_a_time_are_refused(examples):
    method = Counting().fit(tiny_data(users=10), Run(workers=1))
    examples.queries.now_ms[3] = np.iinfo(np.int64).min
    with pytest.raises(DataError, match="time of every request"):
        prequential(method, examples)

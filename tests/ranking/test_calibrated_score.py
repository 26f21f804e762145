"""A recommender's scores as probabilities: of pairs with a known answer, and never of what is
judged.
"""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.splits import last_out
from tailor.errors import DataError, ModelError
from tailor.evaluation.predictions import evaluate_predictions
from tailor.metrics.recalibration import logistic
from tailor.ranking.calibrated_score import CalibratedScore
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity

RING = 30


def ring(users=300, length=6, seed=0):
    """Everybody walks round a ring of items: what comes next is certain."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{(start + at) % RING}", 1_000_000 * (at + 1))
        for user, start in enumerate(rng.integers(RING, size=users))
        for at in range(length)
    ]
    return Dataset(
        {"events": pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")}
    )


@pytest.fixture(scope="module")
def split():
    return last_out(ring())


def test_who_knows_what_comes_next_is_right_and_says_how_sure(split):
    found = evaluate_predictions(
        {
            name: CalibratedScore(one).fit(split.train, Run(), split)
            for name, one in {"knows": CoVisitation(reverse=0.0), "guesses": Popularity()}.items()
        },
        split,
    )
    assert found.overall("knows", "AUC") > 0.95
    assert 0.4 < found.overall("guesses", "AUC") < 0.65
    assert found.overall("knows", "ECE") < 0.06
    assert found.overall("knows", "log_loss") < 0.3  # ln 2 is .69
    assert found.overall("guesses", "log_loss") == pytest.approx(np.log(2), abs=0.03)


def test_of_a_fitted_recommender_it_is_the_same(split):
    whole = CalibratedScore(CoVisitation()).fit(split.train, Run(seed=3), split)
    given = CalibratedScore.of(
        CoVisitation().fit(split.train, Run(seed=3), split), split, Run(seed=3)
    )
    query = [Query(history=History.of("i1", "i2"))]
    assert given.predict(query, [["i3", "i9"]])[0] == pytest.approx(
        whole.predict(query, [["i3", "i9"]])[0]
    )


def test_what_a_query_excludes_is_still_predicted_and_twice_is_twice(split):
    method = CalibratedScore(CoVisitation()).fit(split.train, Run(), split)
    open_, shut = (
        Query(history=History.of("i1", "i2")),
        Query(history=History.of("i1", "i2"), exclude=("i3",)),
    )
    assert method.predict([open_], [["i3"]])[0] == pytest.approx(
        method.predict([shut], [["i3"]])[0]
    )
    three, four = method.predict([open_], [["i3", "i9", "i3", "nobody's"]])[0][[0, 2]]
    assert three == four


def test_an_unscored_item_stands_below_every_scored_one(split):
    method = CalibratedScore(CoVisitation(reverse=0.0)).fit(split.train, Run(), split)
    scored, unscored, unknown = method.predict(
        [Query(history=History.of("i1", "i2"))], [["i3", "i20", "nobody's"]]
    )[0]
    assert scored > 0.9
    assert unscored < 0.2
    assert 0 < unknown < scored


def test_without_validation_its_own_part_calibrates():
    method = CalibratedScore(CoVisitation()).fit(ring())
    assert method.weights_[0] > 0
    lone = Dataset({"events": pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "time_ms": [1]})})
    # nothing to go by
    assert CalibratedScore(CoVisitation()).fit(lone).predict([Query()], [["i"]])[0].tolist() == [
        0.5
    ]


def test_logistic_by_hand():
    """Of one input that is 1 throughout, the weight is the log-odds of the labels, each drawn in:
    (3 x 4/5 + 1/3) / 4 = .6833.
    """
    assert logistic(np.array([1, 1, 1, 0]), np.ones((4, 1))) == pytest.approx(
        [np.log(0.683333 / 0.316667)], abs=1e-4
    )
    with pytest.raises(ValueError, match="both must occur"):
        logistic(np.ones(3), np.ones((3, 1)))


def test_bad_settings_are_refused():
    with pytest.raises(ModelError, match="must be a recommender"):
        CalibratedScore("SASRec")
    with pytest.raises(DataError, match="negatives is 0"):
        CalibratedScore(Popularity(), negatives=0)

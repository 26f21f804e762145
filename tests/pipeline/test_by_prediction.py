"""Lists in the order of a predictor's probabilities."""

import numpy as np
import pytest

from tailor.core.methods import Query
from tailor.core.run import Run
from tailor.data.nouns import History
from tailor.errors import ModelError
from tailor.pipeline.by_prediction import ByPrediction
from tailor.pipeline.cascade import Cascade
from tailor.ranking.factorization_machine import FactorizationMachine
from tailor.retrieval.covisitation import CoVisitation
from tailor.testing.data import tiny_data

ASKED = Query(history=History.of("thing-001"), exclude=("thing-005",))


def test_the_order_is_that_of_the_probabilities():
    method = ByPrediction(FactorizationMachine.tiny()).fit(tiny_data(), Run(workers=1))
    ranking = method.recommend([ASKED], 39)[0]
    assert (
        len(ranking) == 39
        and "thing-005" not in ranking.ids
        and ranking.score_kind == "probability"
    )
    said = method.predictor_.predict([ASKED], [ranking.ids])[0]
    assert np.allclose(ranking.scores, said, atol=1e-6) and (np.diff(said) <= 1e-7).all()


def test_in_a_cascade_it_orders_what_the_first_stage_found():
    method = Cascade(CoVisitation(), ByPrediction(FactorizationMachine.tiny()), depth=8).fit(
        tiny_data(), Run(workers=1)
    )
    found = method.retrieve_.recommend([ASKED], 8)[0]
    ordered = method.recommend([ASKED], 8)[0]
    assert set(ordered.ids) == set(found.ids) and "CoVisitation" in ordered.columns
    assert (np.diff(ordered.scores) <= 1e-7).all()


def test_what_is_no_predictor_is_refused():
    with pytest.raises(ModelError, match="must be a predictor"):
        ByPrediction(CoVisitation())

"""Lists in the order of a predictor's probabilities."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import spearmanr

from tailor.core.methods import Predictor, Query
from tailor.core.run import Run
from tailor.data.nouns import History
from tailor.data.splits import last_out
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


@dataclass(eq=False)
class Noise(Predictor):
    """Predicts a number that says nothing, and notes which lists it was fitted on."""

    source: str = "listed"

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue
        self.seen_ = set(data.lists.queries.user_ids.tolist())

    def _predict(self, queries, items):
        return (items.values * 7919 % 101 + 1) / 103


def test_a_useless_prediction_leaves_the_first_stages_order():
    data = tiny_data(users=600)
    method = Cascade(CoVisitation(), ByPrediction(Noise()), depth=20).fit(data, Run(workers=1))
    queries = last_out(data).queries("test")[0]
    first = method.retrieve_.recommend(queries, 20)
    second = method.recommend(queries, 20)
    agreement = np.mean(
        [spearmanr(*places(a, b)).statistic for a, b in zip(first, second, strict=True)]
    )
    assert agreement > 0.9, method.rank_.fit_report_
    alone = ByPrediction(Noise(), keep_first=False)
    spoilt = Cascade(CoVisitation(), alone, depth=20).fit(data, Run(workers=1))
    order = spoilt.recommend(queries, 20)
    assert (
        abs(
            np.mean([spearmanr(*places(a, b)).statistic for a, b in zip(first, order, strict=True)])
        )
        < 0.3
    )


def places(one, other):
    return np.arange(len(one)), [other.ids.index(item_id) for item_id in one.ids]


def test_weights_are_fitted_on_lists_that_the_predictor_has_not_seen():
    data = tiny_data(users=600)
    method = Cascade(CoVisitation(), ByPrediction(Noise()), depth=20).fit(data, Run(workers=1))
    seen = method.rank_.predictor_.seen_
    assert len(method.rank_.weights_) == 3 and 0.7 < len(seen) / 600 < 0.8


def test_a_predictor_learns_from_the_lists_that_it_will_order():
    data = tiny_data(users=600)
    predictor = FactorizationMachine(source="listed", negatives=3, epochs=2)
    method = Cascade(CoVisitation(), ByPrediction(predictor), depth=20).fit(data, Run(workers=1))
    report = method.rank_.fit_report_["FactorizationMachine"]
    assert 0.2 < report["share of ones"] <= 0.25 + 0.01
    assert method.explain([ASKED], [method.recommend([ASKED], 3)[0]])[0][0].item_id


def test_with_few_lists_the_prediction_alone_counts_and_the_report_says_so():
    cascade = Cascade(CoVisitation(), ByPrediction(FactorizationMachine.tiny()), depth=8)
    method = cascade.fit(tiny_data(), Run(workers=1))
    assert "the prediction alone" in method.rank_.fit_report_["weights"]


def test_the_fit_is_saved_with_its_weights(tmp_path):
    data = tiny_data(users=600)
    rank = ByPrediction(FactorizationMachine(source="listed", epochs=1))
    method = Cascade(CoVisitation(), rank, depth=20).fit(data, Run(workers=1))
    again = Cascade.load(method.save(tmp_path / "model"))
    assert again.recommend([ASKED], 5)[0].ids == method.recommend([ASKED], 5)[0].ids
    assert np.allclose(again.rank_.weights_, method.rank_.weights_)

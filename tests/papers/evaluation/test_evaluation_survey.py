"""The survey of metrics: closed forms where there are any, planted trade-offs on the front, advice
by what the tables hold.
"""

import json

import numpy as np
import polars as pl
import pytest

from tailor.bench.claims import built_papers
from tailor.core.specs import discover_studies
from tailor.data.dataset import Dataset
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.evaluation.runs import ExternalRun
from tailor.papers.evaluation.evaluation_survey import EvaluationSurvey, advise
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

DATA = tiny_data(users=80, items=30, events=9)


@pytest.fixture(scope="module")
def survey():
    return EvaluationSurvey().run(
        DATA, {"popular": Popularity(), "visits": CoVisitation(), "again": CoVisitation()}
    )


def test_metrics_that_say_the_same_are_found_alike(survey):
    """One target a user: hit rate, recall and capped recall are one number, and precision is a
    tenth of it.
    """
    for other in ("recall@10", "precision@10", "hits@10", "recall-capped@10"):
        assert survey.alike["HR@10", other] == pytest.approx(1)
    assert (
        survey.alike["MRR@10", "MAP@10"] == pytest.approx(1)
        and 0.5 < survey.alike["HR@10", "NDCG@10"] < 1
    )
    assert json.loads(json.dumps(survey.to_dict(), allow_nan=False))["front"]


def test_the_users_needed_are_those_of_the_normal_formula(survey):
    values = [
        survey.report.results[name, "removed"].per_user["NDCG@10"] for name in ("popular", "visits")
    ]
    difference = values[0] - values[1]
    needed = (1.959964 + 0.841621) ** 2 * difference.var() / difference.mean() ** 2
    # two pairs alike, the third pair of equals is infinite
    assert survey.users_needed["NDCG@10"] == pytest.approx(needed, rel=1e-5)
    two = EvaluationSurvey(metrics=("NDCG",)).run(
        DATA, {"visits": CoVisitation(), "again": CoVisitation()}
    )
    assert (
        two.users_needed["NDCG@10"] == float("inf")
        and two.to_dict()["users_needed"]["NDCG@10"] is None
    )


def test_who_is_beaten_in_everything_is_not_on_the_front():
    queries, targets = last_out(DATA).queries("test")
    best = {
        user: [DATA.catalogue.ids[target]]
        for user, target in zip(queries.user_ids, targets.values, strict=True)
    }
    counts = np.bincount(last_out(DATA).train.sequences.rows.values)
    # one item, known to most, for everybody
    worst = {user: [DATA.catalogue.ids[counts.argmax()]] for user in queries.user_ids}
    survey = EvaluationSurvey(seen="kept").run(
        DATA,
        {"oracle": ExternalRun.of(best), "worst": ExternalRun.of(worst), "visits": CoVisitation()},
    )
    assert "oracle" in survey.front and "worst" not in survey.front


def test_undefined_values_are_counted(survey):
    assert set(survey.undefined.values()) == {0} and set(survey.undefined) == set(
        survey.report.metrics
    )


def test_advice_follows_the_columns():
    plain = Dataset({**DATA.tables, "events": DATA.events.select("user_id", "item_id", "time_ms")})
    groups = {one.group: one for one in advise(plain)}
    assert {"ranking", "candidates", "discovery"} <= set(groups) and "prediction" not in groups
    events = DATA.events.with_columns(value=pl.lit(3.0), session_id=pl.col("user_id"))
    rated = {one.group: one for one in advise(Dataset({**DATA.tables, "events": events}))}
    assert (
        rated["prediction"].metrics == ("RMSE", "MAE")
        and "items a session" in rated["business"].metrics
    )
    assert "average order value" not in rated["business"].metrics
    shown = Dataset(
        {
            "impressions": pl.DataFrame(
                {"request_id": ["r"], "position": [1], "item_id": ["a"], "shown": [True]}
            )
        }
    )
    assert [one.group for one in advise(shown)] == ["prediction"]


@pytest.mark.parametrize(
    ("study", "methods", "says"),
    [
        (EvaluationSurvey(), {"popular": Popularity()}, "got 1: give two or more"),
        (EvaluationSurvey(accuracy="AUC"), {"a": Popularity(), "b": Popularity()}, '"AUC"'),
    ],
)
def test_a_survey_of_one_or_by_an_unknown_accuracy_is_refused(study, methods, says):
    with pytest.raises(DataError, match=says):
        study.run(DATA, methods)


def test_the_study_is_found_with_its_paper():
    assert "papers.evaluation.evaluation_survey.EvaluationSurvey" in [
        one.path for one in discover_studies()
    ]
    assert (
        built_papers()["evaluation-survey"].path
        == "papers.evaluation.evaluation_survey.EvaluationSurvey"
    )

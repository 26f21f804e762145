"""The sentence holds the reasons that the recommender states, and nothing else."""

import pytest

from tailor.core.specs import build
from tailor.data.nouns import History, Query, same
from tailor.errors import ModelError
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.reranking.as_given import AsGiven
from tailor.retrieval.covisitation import CoVisitation
from tailor.testing.data import tiny_data
from tailor.writing.recommendation_text import RecommendationText

DATA = tiny_data()
METHOD = RecommendationText(CoVisitation()).fit(DATA)
QUERY = Query("u", History.of("thing-000", "thing-004"), exclude=("thing-000", "thing-004"))


def test_the_best_item_is_named_with_its_reasons():
    output = METHOD.generate([QUERY])[0]
    best = METHOD.recommender_.recommend([QUERY], 1)
    reason = METHOD.recommender_.explain([QUERY], best)[0][0]
    assert output.item_ids == best[0].ids and same(output.evidence, reason.evidence)
    assert output.text.startswith('"kettle copper stove no') and "Because you chose" in output.text
    named = {one.id for one in output.evidence}
    assert named <= {"thing-000", "thing-004"} and output.details["status"] == "ranked"


def test_the_item_of_the_context_is_written_about_unless_it_is_excluded():
    asked = Query("u", QUERY.history, context={"item_id": "thing-008"})
    barred = Query("u", QUERY.history, exclude=("thing-008",), context={"item_id": "thing-008"})
    free, named, none = METHOD.generate([QUERY, asked, barred])
    assert named.item_ids == ("thing-008",) and free.item_ids != ()
    assert none.is_empty and none.notes and none.details["status"] == "empty"


def test_settings_change_the_words():
    few = RecommendationText(CoVisitation(), max_reasons=1, verb="bought").fit(DATA)
    text = few.generate([QUERY])[0].text
    assert "you bought" in text and text.count('"') == 4


def test_a_recommender_without_reasons_is_named_without():
    about = {
        "class": "Filter",
        "inner": {
            "class": "ByPrediction",
            "predictor": {"class": "CalibratedScore", "recommender": {"class": "Popularity"}},
        },
    }
    method = RecommendationText(build(about)).fit(DATA)
    output = method.generate([QUERY])[0]
    assert output.item_ids and "states no reasons" in output.notes[0] and not output.evidence
    assert output.text.startswith('"') and "Because" not in output.text


def test_a_cold_user_gets_a_note_or_a_popular_item():
    assert METHOD.generate([Query()])[0].notes
    both = {"class": "Fallback", "parts": [{"class": "CoVisitation"}, {"class": "Popularity"}]}
    output = RecommendationText(build(both)).fit(DATA).generate([Query()])[0]
    assert "many people choose it" in output.text


@pytest.mark.parametrize("wrong", [AsGiven(), LogisticRegression(), "CoVisitation"])
def test_what_finds_no_items_is_refused(wrong):
    with pytest.raises(ModelError, match="finds items by itself"):
        RecommendationText(wrong)

"""ProfileMatch: facts of a profile score the items that have their attributes."""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Fact, Profile, Query, Ranking
from tailor.errors import DataError
from tailor.retrieval.profile_match import ProfileMatch, fact_weight


def fact(value, share=0.5, usual=0.1, confidence=0.9, slot="categories", **more):
    details = {"slot": slot, "object": value, "share": share, "usual_share": usual, **more}
    return Fact(f"likes {value}", confidence=confidence, details=details)


def fitted(**settings):
    items = pl.DataFrame(
        {"item_id": ["t1", "t2", "lamp"], "categories": [["tent"], ["tent", "big"], ["lamp"]]}
    )
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["lamp"]})
    return ProfileMatch(**settings).fit(Dataset({"events": events, "items": items}), Run())


def scores(method, *facts):
    (ranking,) = method.recommend([Query(profile=Profile("u", facts=facts))], 3)
    return dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))


def test_a_fact_counts_log_over_representation_times_confidence():
    assert fact_weight(fact("tent")) == pytest.approx(0.9 * np.log(5))
    assert fact_weight(fact("tent", confidence=None)) == pytest.approx(0.5 * np.log(5))
    assert fact_weight(fact("tent", polarity=-1)) == pytest.approx(-0.9 * np.log(5))


def test_items_are_scored_by_the_facts_that_they_meet():
    worths = scores(fitted(), fact("tent"), fact("big", share=0.2))
    assert worths["t1"] == pytest.approx(0.9 * np.log(5), rel=1e-5)
    assert worths["t2"] == pytest.approx(0.9 * (np.log(5) + np.log(2)), rel=1e-5)
    assert worths["lamp"] == 0
    disliked = scores(fitted(), fact("lamp", polarity=-1))
    assert min(disliked, key=disliked.get) == "lamp"


def test_facts_of_other_columns_or_too_little_confidence_do_not_count():
    assert scores(fitted(), fact("tent", slot="part of the day")) == {}
    assert scores(fitted(least_confidence=0.95), fact("tent")) == {}


def test_without_a_profile_nothing_is_recommended_and_a_note_says_so():
    (ranking,) = fitted().recommend([Query("u")], 2)
    assert not ranking.ids and ranking.notes


def test_items_are_explained_by_the_values_that_speak_for_them():
    query = Query(profile=Profile("u", facts=(fact("tent"), fact("big", share=0.2))))
    ranking = Ranking(("t2", "lamp", "unknown"), np.zeros(3))
    (explanations,) = fitted().explain([query], [ranking])
    assert [part.id for part in explanations[0].evidence] == ["tent", "big"]
    assert sum(part.share for part in explanations[0].evidence) == pytest.approx(1)
    assert explanations[1].evidence == () == explanations[2].evidence


def test_wrong_settings_are_named():
    with pytest.raises(DataError, match="least_confidence"):
        ProfileMatch(least_confidence=2)

"""A profile from counts names what is above the usual share, with the events that show it."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.profiles.interaction_profile import REPEATS, InteractionProfile

HOUR = 3_600_000
ITEMS = pl.DataFrame(
    {
        "item_id": list("abcdefgh"),
        "categories": [["tea"], ["tea", "green"], ["pot"], ["pot"], [], ["cup"], ["cup"], ["cup"]],
        "price": [1.0, 2.0, 30.0, 40.0, None, 5.0, 6.0, 7.0],
        "brand": ["x", "x", "y", None, "y", "y", "y", "y"],
    }
)
EVENTS = pl.DataFrame(
    {
        "user_id": list("uuuuvvvv"),
        "item_id": list("abcdefgh"),
        "time_ms": [hour * HOUR for hour in (1, 2, 3, 4, 13, 14, 15, 23)],
    }
)
DATA = Dataset({"events": EVENTS, "items": ITEMS})
METHOD = InteractionProfile().fit(DATA)


def usual(label: str) -> float:
    return METHOD.usual_[METHOD.labels_.rows([label])[0]]


def test_usual_shares_are_those_of_items_and_of_events():
    assert usual("categories: tea") == 2 / 8 and usual("categories: cup") == 3 / 8
    assert usual("part of the day: night (0-6 h)") == 4 / 8
    assert usual("price: cheaper half") == 3 / 8  # 1, 2 and 5 of a median of 6; one has no price
    assert usual(REPEATS) == 0


def test_usual_may_be_what_all_users_choose():
    events = pl.concat([EVENTS, EVENTS.head(1)])
    method = InteractionProfile(usual="events").fit(Dataset({"events": events, "items": ITEMS}))
    shares = dict(zip(method.labels_.ids.tolist(), method.usual_.tolist(), strict=True))
    assert shares["categories: tea"] == 3 / 9 and shares["categories: cup"] == 3 / 9
    unseen = Dataset({"events": EVENTS.head(4), "items": ITEMS})
    method = InteractionProfile(usual="events").fit(unseen)
    assert method.usual_[method.labels_.rows(["categories: cup"])[0]] == 3 / 8


def test_a_fact_has_its_confidence_and_its_evidence():
    history = History(("a", "b", "a", "f", "a"), tuple(hour * HOUR for hour in range(6, 11)))
    profile = METHOD.profile([Query("w", history)])[0]
    facts = {fact.details["object"]: fact for fact in profile.facts}
    tea = facts["tea"]
    expected = beta.sf(2 / 8, 4 + 4 * 2 / 8, 1 + 4 * 6 / 8)  # 4 of 5 events, 4 assumed
    assert tea.confidence == pytest.approx(expected, abs=1e-4)
    assert [(one.id, one.share) for one in tea.evidence] == [("a", 0.75), ("b", 0.25)]
    assert "80% of the events, usually 25%" in tea.text and tea.text in profile.text
    assert set(facts) >= {"tea", "items had before", "cheaper half", "morning (6-12 h)"}
    assert [fact.confidence for fact in profile.facts] == sorted(
        (fact.confidence for fact in profile.facts), reverse=True
    )
    assert profile.attributes["repeat_share"] == 0.4
    assert profile.attributes["price_band"] == np.quantile([1, 2, 1, 5, 1], [0.25, 0.75]).tolist()
    assert profile.as_of_ms == 10 * HOUR and profile.user_id == "w"


def test_another_column_another_threshold_and_another_time_zone():
    method = InteractionProfile(("brand", "colour"), min_confidence=0.6, utc_offset_hours=-2)
    method.fit(DATA)
    history = History(("a", "b", "a"), (HOUR, HOUR, HOUR))
    facts = [fact.details["object"] for fact in method.profile([Query(history=history)])[0].facts]
    assert "x" in facts and "evening (18-24 h)" in facts and "tea" not in facts


def test_little_is_known_and_said_of_short_or_usual_histories():
    short, none, usual_user = METHOD.profile(
        [
            Query("s", History.of("a", "unknown", "b")),
            Query("n"),
            Query("u", History.of("a", "c", "e", "f", "g")),
        ]
    )
    assert "2 events of known items" in short.notes[0] and not short.facts
    assert "0 events" in none.notes[0] and none.as_of_ms is None
    assert "nothing is chosen more often" in usual_user.notes[0] and usual_user.attributes


def test_a_longer_record_of_the_same_shares_is_surer():
    confidences = []
    for n in (2, 4, 8):
        history = History.of(*["a", "f"] * n)
        profile = InteractionProfile(min_confidence=0.5).fit(DATA).profile([Query("u", history)])[0]
        confidences.append({f.details["object"]: f.confidence for f in profile.facts}["tea"])
    assert confidences == sorted(confidences) and confidences[0] < confidences[-1]


@pytest.mark.parametrize(
    "settings", [{"min_confidence": 0.4}, {"min_events": 0}, {"prior_events": 0.0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(DataError, match=str(next(iter(settings.values())))):
        InteractionProfile(**settings)


def test_events_without_times_items_or_prices():
    bare = Dataset({"events": EVENTS.drop("time_ms")})
    profile = InteractionProfile().fit(bare).profile([Query("u", History.of("a", "a", "a"))])[0]
    assert [fact.details["object"] for fact in profile.facts] == ["items had before"]
    assert "price_band" not in profile.attributes

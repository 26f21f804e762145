"""Summaries rolled forward: what is liked now stands first, what faded is told as earlier."""

import pytest

from tailor.text.taste import Taste


def things(*words):
    return [(f"i{number}", of_item.split()) for number, of_item in enumerate(words)]


def test_weights_by_hand():
    taste = Taste.of(things("red mug", "red", "blue", "blue mug"), block=2, decay=0.5)
    # red: 2 of 2 items, then halved; mug: 1 of 2, halved, and 1 of 2 again; blue: 2 of 2
    assert taste.weights == {"red": 0.5, "mug": 0.75, "blue": 1.0}
    assert taste.peaks == {"red": 1.0, "mug": 0.75, "blue": 1.0}
    assert taste.evidence["mug"] == ("i0", "i3")


def test_order_counts_and_changes_are_told():
    early_red = things(*["red"] * 6, *["blue"] * 6)
    early_blue = things(*["blue"] * 6, *["red"] * 6)
    summary = Taste.of(early_red, 3, 0.5).profile("u", 4)
    assert summary.text == "likes blue; earlier red" and summary.user_id == "u"
    assert Taste.of(early_blue, 3, 0.5).profile("u", 4).text == "likes red; earlier blue"
    at_once = [Taste.of(items, 12, 0.5).profile("u", 4).text for items in (early_red, early_blue)]
    assert at_once[0] == at_once[1] == "likes blue, red"


def test_facts_name_the_latest_items_behind_a_phrase():
    summary = Taste.of(things(*["red"] * 6, *["blue"] * 6), 3, 0.5).profile(None, 4)
    now, earlier = summary.facts
    assert now.text == "likes blue" and earlier.text == "liked red"
    assert [e.id for e in now.evidence] == ["i11", "i10", "i9"]
    assert [e.id for e in earlier.evidence] == ["i5", "i4", "i3"]
    assert sum(e.share for e in now.evidence) == pytest.approx(1)
    assert (now.details["period"], earlier.details["period"]) == ("now", "earlier")


def test_a_summary_keeps_to_its_length_and_leaves_out_what_is_seldom():
    items = things(*["a b c d e"] * 3, "z a b c d e")
    summary = Taste.of(items, 4, 0.5).profile(None, 3)
    assert summary.text == "likes a, b, c"
    assert "z" not in Taste.of(items, 4, 0.5).likes(9)
    nothing = Taste.of([], 3, 0.5).profile("u", 3)
    assert nothing.text == "" and nothing.facts == ()


def test_a_phrase_that_came_back_is_liked_now_only():
    taste = Taste.of(things(*["red"] * 3, *["blue"] * 3, *["red"] * 3), 3, 0.5)
    assert taste.likes(4) == ["red"] and "red" not in taste.earlier_likes(4)

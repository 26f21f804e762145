"""The planted world of garments: outcomes follow body, size and offset, and reviews tell them."""

import numpy as np
import polars as pl
import pytest

from tailor.errors import DataError
from tailor.worlds.garments import SIZE_SENTENCES, garments


def test_outcomes_are_those_of_the_probabilities():
    world = garments(events=12_000, outcome_share=1.0)
    values = world.data.events["value"].to_numpy().astype(int)
    for outcome in range(3):
        predicted = world.probabilities[:, outcome]
        assert abs((values == outcome).mean() - predicted.mean()) < 0.02
        assert np.corrcoef(values == outcome, predicted)[0, 1] > 0.5
    assert 0.3 < (values == 1).mean() < 0.7


def test_a_product_that_runs_small_is_too_small_more_often():
    world = garments(events=12_000, outcome_share=1.0)
    frame = world.data.events.join(world.data.tables["items"], on="item_id")
    frame = frame.with_columns(offset=pl.col("product").replace_strict(world.offsets))
    assert np.corrcoef(frame["offset"], frame["value"])[0, 1] < -0.3


def test_knobs_leave_out_outcomes_reviews_and_measurements():
    world = garments(
        people=2_000, events=6_000, outcome_share=0.25, review_share=0.5, measured_share=0.4
    )
    assert abs(world.data.events["value"].is_not_null().mean() - 0.25) < 0.03
    assert abs(len(world.data.tables["texts"]) / 6_000 - 0.5) < 0.03
    assert abs(world.data.tables["users"]["chest_cm"].is_not_null().mean() - 0.4) < 0.05


def test_a_review_comes_later_and_no_word_names_an_outcome():
    world = garments(people=300, events=1_000)
    reviews = world.data.tables["texts"]
    both = reviews.join(world.data.events, on=["user_id", "item_id"], suffix="_bought")
    later = both.filter(pl.col("time_ms") > pl.col("time_ms_bought"))
    assert later["text"].n_unique() <= reviews["text"].n_unique() and len(later) >= len(reviews)
    for language in SIZE_SENTENCES:
        words = [set(" ".join(sentences).lower().split()) for sentences in language]
        shared = (words[0] & words[1]) | (words[0] & words[2]) | (words[1] & words[2])
        assert len(shared) > 0.4 * len(words[0] | words[1] | words[2])


def test_the_same_arguments_give_the_same_log():
    again = [garments(people=50, products=20, events=200, seed=3) for _ in range(2)]
    assert again[0].data.events.equals(again[1].data.events)
    with pytest.raises(DataError, match="at least 1"):
        garments(sizes=0)

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.text.percentiles import Percentiles


def test_ranks_by_hand():
    ranks = Percentiles.of(np.arange(1, 101)).ranks([1, 2, 50, 99, 100, 0, 1000, np.nan])
    assert ranks.tolist() == [1, 2, 50, 99, 100, 1, 100, 0]


def test_every_percentile_holds_a_hundredth_and_order_is_kept():
    values = np.random.default_rng(0).lognormal(size=20_000)
    ranks = Percentiles.of(values).ranks(values)
    assert np.abs(np.bincount(ranks, minlength=101)[1:] / len(values) - 0.01).max() < 0.001
    assert (np.diff(ranks[np.argsort(values)]) >= 0).all()


def test_many_equal_values_stand_in_the_middle_of_their_span():
    values = [0] * 80 + list(range(1, 21))
    ranks = Percentiles.of(values).ranks([0, 1, 20])
    assert ranks[0] == 40 and 80 <= ranks[1] <= 82 and ranks[2] == 100


def test_words_and_what_is_no_number():
    made = Percentiles.of([1, 2, np.nan, np.inf])
    assert made.words([2, np.nan], "views")[1] == "" and made.words([2], "views")[0].startswith(
        "views: "
    )
    for nothing in ([], [np.nan]):
        with pytest.raises(DataError, match="no numbers"):
            Percentiles.of(nothing)


def test_every_tenth_has_its_word():
    made = Percentiles.of(np.arange(1, 101))
    said = made.words(np.arange(1, 101), "views")
    assert (
        said[0] == "views: lowest, percentile 1 of 100"
        and said[70] == "views: high, percentile 71 of 100"
        and said[99] == "views: highest, percentile 100 of 100"
    )
    assert len({one.split(",")[0] for one in said}) == 10

"""Words of titles: rare ones, and how likely a text goes on as titles do."""

import numpy as np
import pytest

from tailor.text.title_words import TitleWords, telling_words

COUNTS = TitleWords.of(
    ["a red tent", "a blue tent", "a red kettle"], ["red tent", "tent", "red once"]
)


def test_words_of_two_texts_are_known():
    assert COUNTS.vocabulary.ids.tolist() == ["a", "red", "tent"]
    assert COUNTS.rarity == pytest.approx(np.log([4 / 4, 4 / 3, 4 / 3, 4]))


def test_rarity_is_the_mean_over_telling_words():
    assert COUNTS.rarity_of("a red whale") == pytest.approx(np.log([4 / 3, 4]).mean())
    assert COUNTS.rarity_of("of the") == 0
    assert telling_words("A tent of the best") == ["tent", "best"]


def test_fluency_is_the_mean_log_probability_of_word_after_word():
    # titles: edge red tent edge, edge tent edge, edge red unknown edge; "once" shares the edge's row
    follows = COUNTS.follows.toarray()
    assert follows[3].tolist() == [0, 2, 1, 1] and follows[1].tolist() == [0, 0, 1, 1]
    assert follows[2].tolist() == [0, 0, 0, 2]
    shares = (np.array([0, 2, 2, 4]) + 0.1) / (8 + 0.4)
    probabilities = [(2 + shares[1]) / 5, (1 + shares[2]) / 3, (2 + shares[3]) / 3]
    (value,) = COUNTS.fluency(["red tent"])
    assert value == pytest.approx(np.log(probabilities).mean())
    fluent, broken = COUNTS.fluency(["red tent", "tent red"])
    assert fluent > broken


def test_nothing_to_count_leaves_all_words_unknown():
    empty = TitleWords.of([], [])
    assert len(empty.vocabulary) == 0 and empty.rarity_of("tent") == 0
    assert np.isfinite(empty.fluency(["tent", ""])).all()

"""ROUGE by hand: shared words, shared runs, the longest common subsequence."""

import pytest

from tailor.metrics.rouge import rouge_l, rouge_n

TEXT = ["the", "cat", "sat", "on", "the", "mat"]
REFERENCE = ["the", "cat", "lay", "on", "a", "mat", "the", "the"]


def test_words_count_as_often_as_both_texts_have_them():
    # shared: the twice, cat, on, mat
    assert rouge_n(TEXT, REFERENCE) == pytest.approx(2 * 5 / (6 + 8))
    assert rouge_n(REFERENCE, TEXT) == rouge_n(TEXT, REFERENCE)
    assert rouge_n(TEXT, TEXT) == 1


def test_runs_of_two_words_keep_their_order():
    assert rouge_n(TEXT, REFERENCE, 2) == pytest.approx(2 * 1 / (5 + 7))  # the cat
    assert rouge_n(["on", "the"], ["the", "on"], 2) == 0


def test_the_longest_common_subsequence_may_have_gaps():
    # the cat on mat
    assert rouge_l(TEXT, REFERENCE) == pytest.approx(2 * 4 / (6 + 8))
    assert rouge_l(["a", "b", "c", "d"], ["d", "c", "b", "a"]) == pytest.approx(2 * 1 / 8)


@pytest.mark.parametrize(
    ("words", "reference"), [([], []), ([], ["a"]), (["a"], []), (["a"], ["b"])]
)
def test_texts_that_share_nothing_have_zero(words, reference):
    assert rouge_n(words, reference) == rouge_l(words, reference) == 0
    assert rouge_n(words, reference, 2) == 0

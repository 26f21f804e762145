"""Text metrics against values worked out by hand."""

import math

import pytest

from tailor.metrics.texts import bleu, chrf, distinct, jensen_shannon


def test_bleu_is_the_mean_precision_of_runs():
    text, reference = (
        ["the", "cat", "sat", "on", "the", "mat"],
        ["the", "cat", "is", "on", "the", "mat"],
    )
    # 5 of 6 words, 3 of 5 pairs
    assert bleu([text], [reference], 2) == pytest.approx(math.sqrt(5 / 6 * 3 / 5))
    assert bleu([reference], [reference]) == pytest.approx(1.0)


def test_bleu_sums_over_texts_before_it_divides():
    texts, references = [["a"], ["b", "c", "d"]], [["x"], ["b", "c", "d"]]
    assert bleu(texts, references, 1) == pytest.approx(3 / 4)


def test_bleu_punishes_short_texts():
    assert bleu([["a", "b"]], [["a", "b", "c"]], 1) == pytest.approx(math.exp(1 - 3 / 2))
    assert bleu([["a", "b", "c"]], [["a", "b"]], 1) == pytest.approx(2 / 3)
    assert bleu([["a"]], [["b"]], 1) == 0


def test_chrf_weighs_recall_twice():
    # precision 1; recall 2/3 of the letters, 1/2 of the pairs; no run of three in the text
    assert chrf("ab", "abc") == pytest.approx(5 * (7 / 12) / (4 + 7 / 12))
    assert chrf("a b", "ab") == pytest.approx(1.0)
    assert chrf("", "ab") == 0 and chrf("xy", "ab") == 0


def test_distinct_counts_different_runs():
    assert distinct([["a", "b"], ["a"]]) == pytest.approx(2 / 3)
    assert distinct([["a", "b"], ["a"]], 2) == 1
    assert math.isnan(distinct([["a"]], 2))


def test_jensen_shannon_goes_from_0_to_1():
    assert jensen_shannon({"a": 2, "b": 2}, {"a": 1, "b": 1}) == pytest.approx(0)
    assert jensen_shannon({"a": 1}, {"b": 1}) == pytest.approx(1)
    half = 0.5 * (0.5 * math.log2(2 / 3) + 0.5) + 0.5 * math.log2(4 / 3)
    assert jensen_shannon({"a": 1, "b": 1}, {"a": 1}) == pytest.approx(half)
    assert math.isnan(jensen_shannon({}, {"a": 1}))

"""Texts as conditions, and phrases of titles' words."""

import numpy as np
import scipy.sparse as sp

from tailor.data.vocabulary import Vocabulary
from tailor.generative.wishes import TextVectors, drawn_words, phrased
from tailor.text.hashing import HashingEncoder


def test_each_text_is_a_scaled_vector_and_a_blank_one_is_zero():
    texts = np.array([["red rug", ""], ["  ", "red rug"], ["blue", "red"]], dtype=object)
    vectors = TextVectors.of(HashingEncoder(16), texts)
    assert vectors.vectors.shape == (4, 16)
    wanted = HashingEncoder(16).encode(["red rug", "blue", "red"]) * 4
    assert np.allclose(vectors.take()[[0, 2, 2], [0, 0, 1]], wanted)
    assert not vectors.take()[[0, 1], [1, 0]].any()
    assert np.allclose(vectors.take(np.array([2]), np.array([1])), wanted[2:])


def test_no_text_at_all_is_no_crash():
    vectors = TextVectors.of(HashingEncoder(16), np.array(["", ""], dtype=object))
    assert not vectors.take().any()


def test_drawn_words_are_the_items_own_without_repeats():
    matrix = sp.csr_matrix(np.array([[1, 0, 1], [0, 0, 0]], dtype=np.float32))
    rng = np.random.default_rng(0)
    drawn = drawn_words(matrix, Vocabulary(["a", "b", "c"]), 40, 3, rng)
    assert {frozenset(words) for words in drawn[0]} == {
        frozenset("a"),
        frozenset("c"),
        frozenset("ac"),
    }
    assert all(len(set(words)) == len(words) for words in drawn[0])
    assert drawn[1] == [[]] * 40


def test_phrases_hold_the_words_and_blank_ones_none():
    texts = phrased([[["a", "b"], []]], ("I want {}", "{} please"), np.random.default_rng(0))
    assert texts.shape == (1, 2)
    assert texts[0, 0] in ("I want a b", "a b please")
    assert texts[0, 1] == ""

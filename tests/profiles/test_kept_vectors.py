"""Kept vectors: encoded once, read again, and none where nothing is remembered."""

import numpy as np

from tailor.profiles.kept_vectors import packed_by_line, unpacked
from tailor.profiles.recall import Recall, Remembered
from tailor.text.hashing import HashingEncoder

ENCODER = HashingEncoder(32)
RECALL = Recall(ENCODER)
TEA = Remembered("t", "observation", "green tea", speaker="ann")
TRAM = Remembered("s", "observation", "a late tram", speaker="ann")


def test_vectors_are_read_as_they_were_encoded():
    packed = packed_by_line(RECALL, [TEA])
    vectors = unpacked(RECALL, [TEA, TRAM], {"t": packed[TEA.turn.line()]})
    expected = ENCODER.encode([TEA.turn.line(), TRAM.turn.line()])
    assert np.allclose(vectors, expected, atol=1e-3)
    other = {"t": {**packed[TEA.turn.line()], "space": "other"}}
    assert np.allclose(unpacked(RECALL, [TEA], other), expected[:1], atol=1e-6)


def test_an_empty_memory_has_no_vectors_and_recalls_nothing():
    vectors = unpacked(RECALL, [], {})
    assert vectors.shape[0] == 0
    assert RECALL.opened([], vectors).search("tea").items == ()
    assert unpacked(Recall(), [TEA], {}) is None and packed_by_line(Recall(), [TEA]) == {}

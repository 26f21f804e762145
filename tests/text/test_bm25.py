import numpy as np
import pytest

from tailor.text.bm25 import BM25
from tailor.text.words import words


def collection(n: int = 200, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in rng.zipf(1.4, rng.integers(0, 30)) % 80) for _ in range(n)]


QUERIES = ["w1 w2 w3", "w7", "w79 w40", "w1 w1 w1", "nothing here", ""]


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2.0, 0.0), (1.5, 1.0)])
def test_scores_are_those_of_the_package_bm25s(k1, b):
    bm25s = pytest.importorskip("bm25s")
    texts = collection()
    index = BM25(k1, b)
    index.add(texts)
    peer = bm25s.BM25(method="lucene", k1=k1, b=b)
    peer.index([words(text) for text in texts], show_progress=False)
    ours = index.scores(QUERIES).toarray()
    for query, scores in zip(QUERIES[:3], ours, strict=False):
        np.testing.assert_allclose(scores, peer.get_scores(words(query)), atol=1e-5)


def test_one_score_by_hand():
    index = BM25(k1=1.2, b=0.75)
    index.add(["red tent red", "blue tent", "pole"])
    idf = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    assert index.scores(["red"]).toarray()[0, 0] == pytest.approx(idf * 2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2)), rel=1e-6)


def test_a_word_asked_twice_counts_twice_and_unknown_words_count_nothing():
    index = BM25()
    index.add(collection())
    scores = index.scores(QUERIES).toarray()
    np.testing.assert_allclose(scores[3], 3 * index.scores(["w1"]).toarray()[0], rtol=1e-6)
    assert not scores[4].any() and not scores[5].any()


def test_adding_bit_by_bit_equals_adding_at_once():
    texts = collection()
    whole, grown = BM25(), BM25()
    whole.add(texts)
    for start in range(0, len(texts), 37):
        grown.add(texts[start : start + 37])
        grown.scores(QUERIES)  # searching in between must not disturb what follows
    grown.add([])
    assert len(grown) == len(whole) == len(texts) and grown.vocabulary == whole.vocabulary
    np.testing.assert_array_equal(grown.scores(QUERIES).toarray(), whole.scores(QUERIES).toarray())


def test_an_empty_index_and_empty_texts_answer():
    index = BM25()
    assert index.scores(["a"]).shape == (1, 0)
    index.add(["", ""])
    assert index.scores(["a"]).shape == (1, 2) and index.scores(["a"]).nnz == 0
    index.add(["a"])
    assert index.scores(["a"]).toarray()[0, 2] > 0

import numpy as np
import pytest
import scipy.sparse as sp

from tailor.text.tfidf import count_words, svd_vectors, tfidf, unit_rows

TEXTS = ["red tent, red pole", "blue tent", "kettle of copper", "", "copper copper copper"]


def test_counts_by_hand_and_with_a_given_vocabulary():
    counts, columns = count_words(TEXTS)
    assert list(columns) == ["red", "tent", "pole", "blue", "kettle", "of", "copper"]
    assert counts.toarray()[0].tolist() == [2, 1, 1, 0, 0, 0, 0] and counts.toarray()[
        4
    ].tolist() == [0] * 6 + [3]
    again, same = count_words(["red unknown RED", "pole"], columns)
    assert same is columns and len(columns) == 7, "a given vocabulary grew"
    assert again.toarray().tolist() == [[2, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]]


def test_tfidf_by_hand():
    texts = ["a a b", "b c"]
    got = tfidf(texts).toarray()
    idf_a = idf_c = np.log(3 / 2) + 1
    first, second = np.array([(1 + np.log(2)) * idf_a, 1, 0]), np.array([0, 1, idf_c])
    expected = [first / np.linalg.norm(first), second / np.linalg.norm(second)]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_tfidf_equals_scikit_learn():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    expected = text.TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(TEXTS)
    got = tfidf(TEXTS)
    np.testing.assert_allclose(
        (got @ got.T).toarray(), (expected @ expected.T).toarray(), atol=1e-6
    )


def test_frequent_words_are_left_out_but_never_a_word_of_one_text():
    texts = [f"thing item{i}" for i in range(10)]
    got = tfidf(texts, max_share=0.1)
    assert got.nnz == 10, "every text shares one word with all, and has one of its own"
    np.testing.assert_allclose((got @ got.T).toarray(), np.eye(10), atol=1e-6)


def test_a_text_without_words_is_a_zero_row():
    assert tfidf(TEXTS)[3].nnz == 0 and tfidf(["", ""]).nnz == 0 and tfidf([]).shape == (0, 0)
    assert np.isfinite(unit_rows(sp.csr_matrix((3, 4), dtype=np.float32)).toarray()).all()


def test_singular_vectors_keep_the_inner_products_and_come_the_same_each_time():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.zipf(1.5, 12) % 30) for _ in range(40)]
    matrix = tfidf(texts)
    vectors = svd_vectors(matrix, 12, seed=3)
    assert vectors.shape == (40, 12) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    left, values, _ = np.linalg.svd(matrix.toarray().astype(float), full_matrices=False)
    expected = left[:, :12] * values[:12]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-4)
    assert np.array_equal(vectors, svd_vectors(matrix, 12, seed=3))


@pytest.mark.parametrize(
    "texts", [["tent"], ["tent", "tent"], ["a b", "a b", "a b"], ["a", ""], ["a b c"]]
)
def test_singular_vectors_of_tiny_collections(texts):
    vectors = svd_vectors(tfidf(texts), 8)
    assert len(vectors) == len(texts) and np.isfinite(vectors).all()
    same = [i for i, text in enumerate(texts) if text == texts[0]]
    np.testing.assert_allclose(vectors[same] @ vectors[0], 1, atol=1e-5)

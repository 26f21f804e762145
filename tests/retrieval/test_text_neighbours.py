import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.retrieval.text_neighbours import TextNeighbours, nearest_by_cosine
from tailor.testing.data import tiny_data
from tailor.text.tfidf import tfidf


def described(*titles: str | None) -> Dataset:
    ids = [f"i{n}" for n in range(len(titles))]
    return Dataset(
        {
            "events": pl.DataFrame({"user_id": ["u"], "item_id": ["i0"]}),
            "items": pl.DataFrame({"item_id": ids, "title": list(titles)}),
        }
    )


def brute(vectors: np.ndarray, top_n: int) -> np.ndarray:
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, 0)
    cosines[cosines < 0] = 0
    for row in cosines:
        row[np.lexsort((np.arange(len(row)), -row))[top_n:]] = 0
    return cosines


@pytest.mark.parametrize("top_n", [3, 50, None])
def test_neighbours_are_those_of_a_brute_force_search(top_n):
    rng = np.random.default_rng(0)
    data = described(
        *(
            " ".join(f"w{word}" for word in rng.zipf(1.6, rng.integers(0, 9)) % 60)
            for _ in range(700)
        )
    )
    method = TextNeighbours(top_n=top_n, max_share=1.0).fit(data)
    expected = brute(tfidf(data.item_texts).toarray(), top_n or 700)
    got = method.weights_.toarray()
    np.testing.assert_allclose(np.sort(got, axis=1), np.sort(expected, axis=1), atol=1e-5)
    if top_n is None:
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_dense_vectors_give_the_same_neighbours_as_sparse_ones():
    matrix = tfidf(tiny_data().item_texts)
    a, b = (nearest_by_cosine(one, 5, Run()).toarray() for one in (matrix, matrix.toarray()))
    np.testing.assert_allclose(np.sort(a), np.sort(b), atol=1e-6)


@pytest.mark.parametrize("dims", [0, 3, 64])
def test_an_item_that_nobody_chose_is_found_by_its_words_and_one_without_words_never(dims):
    data = described(
        "red tent", "tent pole red", "copper kettle", None, "", "kettle of copper", "&amp; !"
    )
    method = TextNeighbours(dims=dims, max_share=1.0).fit(data)
    ranking = method.recommend([Query(history=History.of("i2"))], 5)[0]
    assert ranking.ids[0] == "i5"
    for wordless in ("i3", "i4", "i6"):
        assert not len(method.recommend([Query(history=History.of(wordless))], 5)[0]), (
            f"{wordless} has neighbours without a word"
        )
        assert wordless not in ranking.ids


@pytest.mark.parametrize("items", [1, 2, 3])
@pytest.mark.parametrize("dims", [0, 2])
def test_tiny_catalogues_can_be_fitted(items, dims):
    method = TextNeighbours(dims=dims).fit(described(*["red tent"] * items))
    assert method.is_fitted and method.weights_.shape == (items, items)


def test_a_small_catalogue_does_not_silently_lose_all_its_neighbours():
    """Twenty things of four kinds: every telling word stands in more than a tenth of them."""
    kinds = ("copper kettle", "canvas tent", "paper novel", "brass lamp")
    method = TextNeighbours().fit(described(*(kinds[n % 4] for n in range(20))))
    assert method.weights_.nnz, "max_share left no word"
    for one in method.recommend([Query(history=History.of("i0"))], 4)[0].ids:
        assert int(one[1:]) % 4 == 0


def test_taking_the_evidence_out_lowers_the_score_by_its_share():
    method = TextNeighbours(history_decay=1.0, max_share=1.0).fit(tiny_data())
    ids = [str(one) for one in method.items_.ids[:5]]
    query = Query(history=History.of(*ids))
    rankings = method.recommend([query], 5)
    for reason, score in zip(method.explain([query], rankings)[0], rankings[0].scores, strict=True):
        for one in reason.evidence:
            left = method.recommend(
                [Query(history=History.of(*(item for item in ids if item != one.id)))], 40
            )[0]
            assert score - dict(zip(left.ids, left.scores, strict=True)).get(
                reason.item_id, 0
            ) == pytest.approx(one.share * score, abs=1e-5)


def test_items_without_words_are_counted():
    assert (
        TextNeighbours().fit(described("a", None, "  ", "b")).fit_report_["items_without_words"]
        == 2
    )

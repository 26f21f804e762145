"""ItemKNN against values worked out by hand, scikit-learn's cosine, and dense forms of its weights."""

import math

import numpy as np
import polars as pl
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.retrieval import neighbours
from tailor.retrieval.item_knn import ItemKNN
from tailor.testing.data import tiny_data


def logged(*histories: str) -> Dataset:
    events = [(f"u{user}", item) for user, items in enumerate(histories) for item in items]
    return Dataset({"events": pl.DataFrame(events, schema=["user_id", "item_id"], orient="row")})


def counts_of(data: Dataset) -> np.ndarray:
    """(N, U) by a double loop."""
    out = np.zeros((len(data.catalogue), len(data.users)))
    for user in range(len(data.users)):
        for item in data.sequences.rows[user]:
            out[item, user] += 1
    return out


def similarity(method: ItemKNN, a: str, b: str) -> float:
    i, j = method.items_.rows([a, b])
    return float(method.weights_[i, j])


def test_cosine_with_shrink_by_hand():
    data = logged("ab", "abc", "a")  # a: 3 users, b: 2, c: 1; a and b share two
    method = ItemKNN(shrink=1.0).fit(data)
    assert similarity(method, "a", "b") == pytest.approx(2 / (math.sqrt(3 * 2) + 1))
    assert (
        similarity(method, "b", "c")
        == similarity(method, "c", "b")
        == pytest.approx(1 / (math.sqrt(2) + 1))
    )
    assert similarity(method, "a", "a") == 0
    ranking = method.recommend([Query(history=History.of("b", "c"))], 3)[0]
    expected = similarity(method, "c", "a") + 0.5 * similarity(method, "b", "a")
    assert dict(zip(ranking.ids, ranking.scores, strict=True))["a"] == pytest.approx(expected)


def test_tfidf_and_bm25_by_hand():
    """Four items; u0 has two of them (once each), u1 three, one of them four times."""
    data = logged("ab", "aabaac", "d")
    first, second = math.log(5 / 3), math.log(5 / 4)
    tfidf = ItemKNN(similarity="tfidf", shrink=0.0).fit(data)
    a, b = np.array([first, 2 * second]), np.array([first, second])
    assert similarity(tfidf, "a", "b") == pytest.approx(
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    )
    bm25 = ItemKNN(similarity="bm25", k1=2.0, b=0.5).fit(data)
    mean = 9 / 4  # events an item: a has 5, b 2, c 1, d 1
    long_a, long_b = 0.5 + 0.5 * 5 / mean, 0.5 + 0.5 * 2 / mean
    a = np.array([1 * 3 / (2 * long_a + 1) * first, 4 * 3 / (2 * long_a + 4) * second])
    b = np.array([1 * 3 / (2 * long_b + 1) * first, 1 * 3 / (2 * long_b + 1) * second])
    assert similarity(bm25, "a", "b") == pytest.approx(a @ b, rel=1e-5)


@pytest.mark.parametrize("block", [1, 200, 10**7])
def test_cosines_are_scikit_learns_whatever_the_blocks(block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_PRODUCTS", block)
    data = tiny_data(users=80, items=30, events=12)
    expected = cosine_similarity(counts_of(data))
    np.fill_diagonal(expected, 0)
    got = ItemKNN(shrink=0.0, top_n=None).fit(data).weights_
    np.testing.assert_allclose(got.toarray(), expected, atol=1e-6)
    pruned = ItemKNN(shrink=0.0, top_n=4).fit(data).weights_
    assert np.diff(pruned.indptr).max() == 4
    for i in range(30):
        np.testing.assert_allclose(
            pruned[i].data, np.sort(expected[i])[::-1][: pruned[i].nnz], atol=1e-6
        )


@pytest.mark.parametrize("kind", ["cosine", "tfidf", "bm25"])
def test_one_user_one_item_and_items_without_events_are_survived(kind):
    lone = Dataset(
        {
            "events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}),
            "items": pl.DataFrame({"item_id": ["a", "b"]}),
        }
    )
    assert ItemKNN(similarity=kind).fit(lone).weights_.nnz == 0
    assert not len(
        ItemKNN(similarity=kind).fit(logged("a")).recommend([Query(history=History.of("a"))], 3)[0]
    )


def test_without_shrink_items_of_users_who_choose_everything_divide_by_no_zero():
    # log(3 / 3) = 0: nobody tells anything
    method = ItemKNN(similarity="tfidf", shrink=0.0).fit(logged("ab"))
    assert method.weights_.nnz == 0


def test_fitting_holds_no_dense_matrix_of_pairs():
    """20,000 items of which two are in every history: the largest block stays far from 20,000
    squared.
    """
    import tracemalloc

    rng = np.random.default_rng(0)
    rows = rng.integers(0, 20_000, (20_000, 4))
    events = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(20_000), 5),
            "item_id": np.c_[rows, rng.integers(0, 2, 20_000)].ravel(),
        }
    )
    data = Dataset({"events": events.cast(pl.String)})
    _ = data.sequences
    tracemalloc.start()
    ItemKNN(top_n=20).fit(data, Run())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6, f"{peak / 1e6:.0f} MB"  # a dense one of float32 takes 1,600 MB


def test_only_the_latest_events_of_a_user_are_learned_from():
    long, short = (
        ItemKNN(user_length=3).fit(logged("abcde", "cd")),
        ItemKNN().fit(logged("cde", "cd")),
    )
    for pair in ("ab", "ac", "cd", "de"):
        expected = similarity(short, *pair) if pair in ("cd", "de") else 0
        assert similarity(long, *pair) == expected


@pytest.mark.slow
def test_figures_on_beauty(real):
    from tailor.data.splits import last_out
    from tailor.evaluation.protocol import evaluate

    split = last_out(real("beauty"))
    report = evaluate(ItemKNN(top_n=None).fit(split.train), split, seen=("removed",))
    assert report.mean("ItemKNN", "HR@10") == pytest.approx(0.0712, abs=0.001)
    assert report.mean("ItemKNN", "NDCG@10") == pytest.approx(0.0434, abs=0.001)


@pytest.mark.parametrize(
    "wrong",
    [
        {"similarity": "jaccard"},
        {"shrink": -1.0},
        {"shrink": float("nan")},
        {"k1": 0.0},
        {"b": 1.5},
        {"user_length": 0},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        ItemKNN(**wrong)

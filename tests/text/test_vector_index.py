import numpy as np
import pytest

from tailor.data.arrays import Ragged
from tailor.errors import DataError, ModelError
from tailor.text.vector_index import VectorIndex


def cloud(n=3000, dims=32, seed=0, centres=40):
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((centres, dims))
    vectors = middle[rng.integers(0, centres, n)] + 0.4 * rng.standard_normal((n, dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_hand(vectors, queries, k, banned=()):
    scores = queries @ vectors.T
    scores[:, list(banned)] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.fixture(params=["exact", "hnsw", "ivfpq"])
def index(request):
    if request.param != "exact":
        pytest.importorskip("faiss")
    return VectorIndex(request.param).build(cloud())


def test_the_best_are_found_and_scored_by_the_whole_vectors(index):
    queries = cloud(50, seed=0) + 0.01
    rows, scores = index.search(queries, 10)
    true = by_hand(index.vectors, queries, 10)
    found = np.mean(
        [len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), true.tolist(), strict=True)]
    )
    assert found == 1 if index.kind == "exact" else found > 0.9
    np.testing.assert_allclose(
        scores, np.take_along_axis(queries @ index.vectors.T, rows.astype(np.int64), 1), atol=1e-6
    )
    assert (np.diff(scores, axis=1) <= 0).all()
    assert index.kind == "exact" or index.report["recall@10"] > 0.9, index.report


def test_what_is_excluded_is_never_found_and_the_list_stays_full(index):
    queries = cloud(20, seed=3)
    best = by_hand(index.vectors, queries, 200)
    exclude = Ragged.of([row[:150] for row in best])
    blocked = np.unique(best[:, 150:160])
    rows, _ = index.search(queries, 10, exclude, blocked)
    for i, row in enumerate(rows):
        assert (row >= 0).all() and not set(row) & (
            set(exclude[i].tolist()) | set(blocked.tolist())
        )
    everything = np.arange(len(index.vectors))
    assert (index.search(queries[:2], 5, None, everything)[0] == -1).all()
    almost = index.search(queries[:2], 5, None, everything[2:])[0]
    assert (np.sort(almost, axis=1) == [[-1, -1, -1, 0, 1]] * 2).all()


def test_a_restored_index_answers_the_same(index):
    again = VectorIndex(index.kind).restore(index.vectors, index.to_bytes())
    for mine, theirs in zip(
        index.search(cloud(9, seed=1), 5), again.search(cloud(9, seed=1), 5), strict=True
    ):
        assert np.array_equal(mine, theirs)


def test_the_kind_follows_the_number_of_vectors():
    index = VectorIndex(exact_upto=10, hnsw_upto=100)
    assert [index.chosen(n) for n in (0, 10, 11, 100, 101)] == [
        "exact",
        "exact",
        "hnsw",
        "hnsw",
        "ivfpq",
    ]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_vectors(n):
    for kind in ("exact", "hnsw"):
        if kind == "hnsw":
            pytest.importorskip("faiss")
        rows, _ = (
            VectorIndex(kind)
            .build(cloud(n) if n else np.zeros((0, 32), np.float32))
            .search(cloud(2), 5)
        )
        assert (np.sort(rows, axis=1)[:, 5 - n :] == np.arange(n)).all() and (
            np.sort(rows, axis=1)[:, : 5 - n] == -1
        ).all()


def test_bad_vectors_queries_and_settings_are_refused():
    with pytest.raises(DataError, match="finite"):
        VectorIndex().build(np.full((3, 4), np.nan))
    with pytest.raises(DataError, match="widths"):
        VectorIndex().build(np.ones((3, 4))).search(np.ones((1, 5)))
    with pytest.raises(ModelError, match="annoy"):
        VectorIndex("annoy")

import numpy as np
import pytest
from titles import OTHERS, TYPED

from tailor.errors import DataError
from tailor.text.bm25 import BM25
from tailor.text.words import words


def collection(n: int = 200, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        " ".join(f"w{word}" for word in rng.zipf(1.4, rng.integers(0, 30)) % 80) for _ in range(n)
    ]


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
    assert index.scores(["red"]).toarray()[0, 0] == pytest.approx(
        idf * 2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2)), rel=1e-6
    )


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


@pytest.mark.parametrize("k", [1, 3, 10, 500])
def test_search_finds_exactly_the_best_scores_in_row_order(k):
    """MaxScore leaves out texts; none of them may have belonged to the best k."""
    index = BM25()
    texts = collection(400, seed=5)
    index.add(texts + texts[:50])  # twins: equal scores
    rng = np.random.default_rng(1)
    queries = [
        *QUERIES,
        *(" ".join(f"w{word}" for word in rng.zipf(1.3, 5) % 80) for _ in range(60)),
        "w1 w1 w1 w1 w60",
    ]
    rows, values = index.search(queries, k)
    for found, got, expected in zip(rows, values, index.scores(queries).toarray(), strict=True):
        order = [
            row for row in np.lexsort((np.arange(len(expected)), -expected)) if expected[row] > 0
        ][:k]
        found, got = found[found >= 0], got[found >= 0]
        assert len(found) == len(order)
        np.testing.assert_allclose(got, expected[order], rtol=1e-5)
        assert all(
            a == b or expected[a] == pytest.approx(expected[b], rel=1e-5)
            for a, b in zip(found, order, strict=True)
        )
        ties = got[1:] == got[:-1]
        assert (np.diff(found)[ties] > 0).all(), "equal scores out of row order"


def test_one_text_added_to_many_is_found_at_once_and_costs_no_reindexing(monkeypatch):
    index = BM25()
    index.add(collection(10_000, seed=2))
    columns, touched = index._column, []
    monkeypatch.setattr(index, "_column", lambda word: touched.append(word) or columns(word))
    monkeypatch.setattr(index, "_add_at_once", lambda terms: pytest.fail("all texts are counted"))
    for n in range(30):
        index.add([f"arrival number{n} w3 w4 w5"])
        assert touched[-5:] == ["arrival", f"number{n}", "w3", "w4", "w5"]
        assert index.search([f"number{n}"], 3)[0][0].tolist() == [10_000 + n, -1, -1]
    assert len(touched) == 5 * 30, "more than the words of the new texts"


@pytest.mark.parametrize(("k1", "b"), [(-1, 0.5), (1, 1.5), (1, -0.1), (float("nan"), 0.5)])
def test_settings_that_are_no_bm25_are_refused(k1, b):
    with pytest.raises(DataError, match=f"k1 is {k1}"):
        BM25(k1, b)


@pytest.mark.parametrize(
    "text", ["", "\ud800 lone", "word " * 200_000, "日本語のテキスト", "\x00\x01"]
)
def test_odd_texts_are_indexed_and_searched(text):
    index = BM25()
    index.add([text, "plain"])
    rows, _ = index.search([text, "plain"], 2)
    assert 1 in rows[1] and len(index) == 2


def test_what_cannot_be_asked_is_refused_in_words():
    index = BM25()
    index.add(["a b", "b"])
    for k in (0, -1):
        with pytest.raises(DataError, match=f"k is {k}"):
            index.search(["b"], k)
    with pytest.raises(DataError, match="one string"):
        index.add("a b")


@pytest.mark.parametrize("few", [True, False])
def test_what_is_kept_is_searched_as_if_nothing_else_had_ever_been_there(few):
    random = np.random.default_rng(0)
    texts = [" ".join(f"word{i}" for i in random.zipf(1.5, 12) % 300) for _ in range(400)] + [
        "quince",
        "",
    ]
    kept = np.flatnonzero(random.random(len(texts)) < 0.4)
    index, never = BM25(), BM25()
    index.add(texts)
    index.keep(kept)
    never.add([texts[i] for i in kept])
    for one in (index, never):
        one.add(texts[: 3 if few else 100])
    assert sorted(index.vocabulary) == sorted(never.vocabulary)
    for mine, theirs in zip(
        index.search(texts[::7], 20), never.search(texts[::7], 20), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_nothing_can_be_kept():
    index = BM25()
    index.add(["one", "two"])
    index.keep(np.zeros(0, dtype=np.int64))
    assert len(index) == 0 and not index.vocabulary
    index.add(["two"])
    assert index.search(["two"], 1)[0].tolist() == [[0]]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("language", [None, "english"])
def test_every_title_is_found_first_by_its_words_typed_plainly(language, at_once):
    index = BM25(language=language)
    # a title of stop words alone stands before a description, which has other words
    texts = [*(f"{title} made in the valley by hand" for title in TYPED), *OTHERS * 30]
    titles = [*TYPED, *[""] * (len(texts) - len(TYPED))]
    for start in range(0, len(texts), len(texts) if at_once else 7):
        step = slice(start, start + (len(texts) if at_once else 7))
        index.add(texts[step], titles[step])
    for row, (title, queries) in enumerate(TYPED.items()):
        for query in queries:
            assert row in index.search([query], 3)[0][0], (title, query)


def test_a_title_alone_is_found_by_whatever_it_consists_of():
    index = BM25(language="english")
    index.add([*TYPED, *OTHERS])
    for row, (title, queries) in enumerate(TYPED.items()):
        for query in queries:
            assert row in index.search([query], 3)[0][0], (title, query)


def test_stop_words_of_a_query_count_only_where_nothing_else_is_left():
    index = BM25(language="english")
    index.add(["It", "kettle"], ["It", "kettle"])
    assert index.search(["is it a kettle"], 2)[0].tolist() == [[1, -1]]
    assert index.search(["is it"], 2)[0].tolist() == [[0, -1]]


def test_titles_go_with_their_texts():
    with pytest.raises(DataError, match="1 titles for 2 texts"):
        BM25().add(["a b", "b"], ["a"])


def test_forgotten_words_are_no_longer_stood_for():
    index = BM25()
    index.add(["o'neill", "黒猫", "白猫", "wi-fi", "r2-d2"])
    index.keep(np.array([2, 4]))
    assert index.search(["oneill", "猫", "wifi", "r2d2"], 1)[0].tolist() == [[-1], [0], [-1], [1]]
    assert not index._variants._longer.keys() - {"白", "猫"} and list(index._variants._parts) == [
        "r2d2"
    ]

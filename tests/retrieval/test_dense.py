import numpy as np
import polars as pl
import pytest

from tailor.data.arrays import in_deviations
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.retrieval.dense import DenseRetriever
from tailor.retrieval.hybrid import Hybrid
from tailor.retrieval.text_match import TextMatch
from tailor.text.bm25 import BM25
from tailor.text.cached import CachedEncoder
from tailor.text.hashing import HashingEncoder

TITLES = ["red tent", "blue tent with pole", "copper kettle", "red copper pot", None, "red tent"]


@pytest.fixture
def data():
    ids = [f"i{n}" for n in range(len(TITLES))]
    return Dataset(
        {
            "events": pl.DataFrame({"user_id": ["u"], "item_id": ["i2"]}),
            "items": pl.DataFrame({"item_id": ids, "title": TITLES}),
        }
    )


def test_scores_are_cosines_and_equal_texts_tie(data):
    encoder = HashingEncoder(64)
    method = DenseRetriever(encoder).fit(data)
    ranking = method.recommend([Query(text="a red tent")], 10)[0]
    asked = encoder.encode(["a red tent"])[0]
    for item, score in zip(ranking.ids, ranking.scores, strict=True):
        assert score == pytest.approx(encoder.encode([TITLES[int(item[1])]])[0] @ asked, abs=1e-5)
    assert set(ranking.ids[:2]) == {"i0", "i5"} and ranking.scores[0] == ranking.scores[1]
    assert "i4" not in ranking.ids and ranking.notes, "an item without text was found by its text"


def test_without_words_the_fading_history_asks(data):
    method = DenseRetriever(HashingEncoder(64), history_decay=0.5).fit(data)
    vectors = HashingEncoder(64).encode(["copper kettle", "red tent"])
    mean = vectors[0] * 0.5 + vectors[1]
    got = method.recommend([Query(history=History.of("i2", "i0"))], 10)[0]
    expected = {
        "i3": HashingEncoder(64).encode(["red copper pot"])[0] @ mean / np.linalg.norm(mean)
    }
    assert got.scores[got.ids.index("i3")] == pytest.approx(expected["i3"], abs=1e-5)
    assert not len(method.recommend([Query()], 5)[0]) and not len(
        method.recommend([Query(history=History.of("i4"))], 5)[0]
    )


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_an_index_answers_as_comparing_with_all_does_and_is_saved(kind, tmp_path):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    titles = [" ".join(f"word{w}" for w in rng.integers(0, 60, 6)) for _ in range(400)]
    ids = [f"i{n}" for n in range(400)]
    data = Dataset(
        {
            "events": pl.DataFrame({"user_id": ["u"], "item_id": ["i2"]}),
            "items": pl.DataFrame({"item_id": ids, "title": titles}),
        }
    )
    all_ = DenseRetriever(HashingEncoder(64), index="exact").fit(data)
    some = DenseRetriever(HashingEncoder(64), index=kind).fit(data)
    assert some.fit_report_["recall@10"] > 0.7
    queries = [Query(text=title, exclude=(f"i{n}",)) for n, title in enumerate(titles[:20])] + [
        Query()
    ]
    true, found = all_.recommend(queries, 10), some.recommend(queries, 10)
    shared = [len(set(a.ids) & set(b.ids)) / 10 for a, b in zip(true, found, strict=True)][:20]
    assert (
        np.mean(shared) > 0.85
        and not any(f"i{n}" in one.ids for n, one in enumerate(found[:20]))
        and not len(found[20])
    )
    some.save(tmp_path / "m")
    again = DenseRetriever.load(tmp_path / "m").recommend(queries, 10)
    assert [one.ids for one in again] == [one.ids for one in found]


def test_another_encoder_is_refused_when_words_are_asked(data, monkeypatch, tmp_path):
    (tmp_path / "a.toml").write_text('class = "text.hashing.HashingEncoder"\ndims = 64\n')
    (tmp_path / "b.toml").write_text('class = "text.hashing.HashingEncoder"\ndims = 32\n')
    monkeypatch.setenv("TAILOR_ENCODER", str(tmp_path / "a.toml"))
    method = DenseRetriever().fit(data)
    assert method.recommend([Query(text="tent")], 1)[0].ids
    monkeypatch.setenv("TAILOR_ENCODER", str(tmp_path / "b.toml"))
    with pytest.raises(ModelError, match=r"hashing 64.*hashing 32"):
        method.recommend([Query(text="tent")], 1)


def test_items_are_encoded_once_and_what_people_type_is_kept_nowhere(data, monkeypatch, tmp_path):
    monkeypatch.setenv("TAILOR_CACHE", str(tmp_path))
    cache = CachedEncoder(HashingEncoder(64)).cache
    method = DenseRetriever(HashingEncoder(64)).fit(data)
    assert len(cache) == len({title or "" for title in TITLES})
    method.recommend([Query(text="my secret wish")], 3)
    assert len(cache) == 5 and CachedEncoder(HashingEncoder(64)).forget(["my secret wish"]) == 0


def test_the_blend_by_hand(data):
    method = Hybrid(TextMatch(), DenseRetriever(HashingEncoder(64)), weight=0.25).fit(data)
    index = BM25()
    index.add([title or "" for title in TITLES])
    words = index.scores(["red tent"]).toarray()[0]
    encoder = HashingEncoder(64)
    cosines = encoder.encode([title or "" for title in TITLES]) @ encoder.encode(["red tent"])[0]
    known = np.array([0, 1, 2, 3, 5])
    z = (cosines[known] - cosines[known].mean()) / cosines[known].std()
    expected = 0.75 * ((words - words.mean()) / words.std())[known] + 0.25 * z
    got = method.recommend([Query(text="red tent")], 10)[0]
    assert [got.scores[got.ids.index(f"i{n}")] for n in known] == pytest.approx(
        expected, abs=1e-4
    ) and "i4" not in got.ids


def test_standard_scores_survive_nothing_and_no_spread():
    made = in_deviations(np.array([[1.0, 1.0], [-np.inf, -np.inf], [0.0, 2.0], [-np.inf, 3.0]]))
    assert made.tolist() == [[0, 0], [0, 0], [-1, 1], [0, 0]]


def test_settings_that_make_no_sense_are_refused():
    for bad in (
        lambda: DenseRetriever(history_decay=0),
        lambda: DenseRetriever(history_length=0),
        lambda: Hybrid(weight=1.5),
    ):
        with pytest.raises(DataError):
            bad()
    with pytest.raises(DataError, match="english"):
        TextMatch(language="englisch")


def test_stems_find_other_forms_and_leave_common_words_out(data):
    method = TextMatch(language="english").fit(data)
    assert set(method.recommend([Query(text="the tents with it")], 10)[0].ids) == {"i0", "i1", "i5"}
    assert (
        method.explain([Query(text="the tents")], method.recommend([Query(text="the tents")], 1))[
            0
        ][0]
        .evidence[0]
        .id
        == "tent"
    )

import numpy as np
import polars as pl
import pytest
from titles import TYPED

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.vocabulary import Vocabulary
from tailor.retrieval.text_match import TextMatch
from tailor.testing.data import tiny_data
from tailor.text.bm25 import BM25

TITLES = ["red tent", "blue tent with pole", "copper kettle", "red copper pot", None]


@pytest.fixture
def method() -> TextMatch:
    ids = [f"i{n}" for n in range(len(TITLES))]
    return TextMatch().fit(
        Dataset(
            {
                "events": pl.DataFrame({"user_id": ["u"], "item_id": ["i2"]}),
                "items": pl.DataFrame({"item_id": ids, "title": TITLES}),
            }
        )
    )


def test_scores_are_those_of_bm25(method):
    index = BM25()
    index.add([title or "" for title in TITLES])
    for text in ("red", "red tent", "tent tent", "Copper &amp; RED"):
        expected = index.scores([text]).toarray()[0]
        ranking = method.recommend([Query(text=text)], 5)[0]
        assert {one: pytest.approx(expected[int(one[1])], rel=1e-5) for one in ranking.ids} == dict(
            zip(ranking.ids, ranking.scores, strict=True)
        )
        assert len(ranking) == (expected > 0).sum()


def test_without_a_query_the_latest_items_speak(method):
    by_history = method.recommend([Query(history=History.of("i0"))], 5)[0]
    by_text = method.recommend([Query(text="red tent")], 5)[0]
    assert by_history.ids == by_text.ids and np.array_equal(by_history.scores, by_text.scores)
    assert method.recommend([Query(text="  \n", history=History.of("i0"))], 5)[0].ids == by_text.ids


def test_text_goes_before_history_and_survives_every_way_of_batching(method):
    queries = [
        Query(text="kettle", history=History.of("i0")),
        Query(history=History.of("i1")),
        Query(text="nothing known"),
        Query(),
    ]
    alone = [method.recommend([query], 5)[0].ids for query in queries]
    assert [one.ids for one in method.recommend(queries, 5)] == alone and alone[0] == ("i2",)
    assert alone[2] == alone[3] == ()


def test_nothing_found_says_that_no_word_matched_and_blames_no_history(method):
    note = method.recommend([Query(text="zebra")], 5)[0].notes[0]
    assert "history" not in note, note


def test_shares_of_words_add_up_and_are_exact(method):
    query = Query(text="red tent red pole")
    ranking = method.recommend([query], 5)
    for reason, score in zip(method.explain([query], ranking)[0], ranking[0].scores, strict=True):
        assert sum(one.share for one in reason.evidence) == pytest.approx(1, abs=1e-5)
        for one in reason.evidence:
            rest = " ".join(word for word in query.text.split() if word != one.id)
            left = method.recommend([Query(text=rest)], 5)[0] if rest else None
            got = dict(zip(left.ids, left.scores, strict=True)).get(reason.item_id, 0.0)
            assert score - got == pytest.approx(one.share * score, abs=1e-5)


def test_explaining_where_there_is_nothing_to_say(method):
    ranking = Ranking(("i0", "unknown", "i4"), np.array([3, 2, 1], np.float32))
    for query in (Query(text="zebra"), Query(), Query(text="red")):
        reasons = method.explain([query], [ranking])[0]
        assert [one.item_id for one in reasons] == list(ranking.ids)
        assert not reasons[1].evidence and not reasons[2].evidence
    assert method.explain([Query()], [Ranking((), np.zeros(0, np.float32))]) == [[]]


def test_a_catalogue_without_any_words_can_be_fitted():
    data = tiny_data()
    bare = TextMatch().fit(Dataset({"events": data.events}))
    assert not len(bare.recommend([Query(text="red")], 3)[0])


def catalogue(titles) -> Dataset:
    ids = [f"i{n}" for n in range(len(titles))]
    return Dataset(
        {
            "events": pl.DataFrame({"user_id": ["u"], "item_id": ["i0"]}),
            "items": pl.DataFrame(
                {"item_id": ids, "title": titles, "text": ["from the valley"] * len(ids)}
            ),
        }
    )


@pytest.mark.parametrize("language", [None, "english"])
def test_every_title_is_found_by_its_words_typed_plainly(language, tmp_path):
    TextMatch(language=language).fit(catalogue(list(TYPED))).save(tmp_path / "model")
    method = TextMatch.load(tmp_path / "model")
    for row, (title, queries) in enumerate(TYPED.items()):
        lists = method.recommend([Query(text=text) for text in queries], 3)
        assert all(f"i{row}" in found.ids for found in lists), (title, lists)


def test_a_model_that_was_saved_under_older_rules_is_indexed_again(tmp_path):
    fresh = TextMatch().fit(catalogue(["Café crème", "ร้านอาหาร", "kettle"]))
    old = TextMatch().fit(catalogue(["Café crème", "ร้านอาหาร", "kettle"]))
    old.words_ = Vocabulary([f"{word}\u0301" for word in old.words_.ids])
    del old.rules_
    old.save(tmp_path / "old")
    opened = TextMatch.load(tmp_path / "old")
    queries = [Query(text="cafe"), Query(text="อาหาร"), Query(text="kettle")]
    for mine, theirs in zip(opened.recommend(queries, 3), fresh.recommend(queries, 3), strict=True):
        assert mine.ids == theirs.ids and np.array_equal(mine.scores, theirs.scores)

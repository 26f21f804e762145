"""Documents are reranked by their own texts, known to the catalogue or not."""

import dataclasses

import numpy as np
import pytest

from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.reranking.bm25_reranker import BM25Reranker
from tailor.testing.data import tiny_data
from tailor.text.bm25 import BM25

DOCUMENTS = ["coffee", "a green tea", "tea", "coffee"]


def order(method: BM25Reranker, query: Query, *texts: str) -> list[str]:
    return list(method.recommend([query], 10, [Ranking.of_texts(texts)])[0].ids)


def test_documents_without_a_catalogue_are_ordered_by_their_words():
    method = BM25Reranker.without_catalogue("english")
    ranking = method.recommend([Query(text="green tea")], 9, [Ranking.of_texts(DOCUMENTS)])[0]
    assert ranking.ids == ("1", "2", "0", "3")  # equal texts keep their order
    index = BM25(language="english")
    index.add(DOCUMENTS)
    expected = index.scores(["green tea"]).toarray()[0][[1, 2, 0, 3]]
    assert np.allclose(ranking.scores, expected) and ranking.score_kind == "bm25"
    assert ranking.details["1"] == {"text": "a green tea"}


def test_each_list_is_weighed_by_itself_whatever_the_batch():
    method = BM25Reranker.without_catalogue()
    lists = [Ranking.of_texts(DOCUMENTS), Ranking.of_texts(["tea", "green"])]
    queries = [Query(text="tea green"), Query(text="green")]
    batch = method.recommend(queries, 3, lists)
    for i in range(2):
        alone = method.recommend(queries[i : i + 1], 3, lists[i : i + 1])[0]
        assert alone.ids == batch[i].ids and np.array_equal(alone.scores, batch[i].scores)


def test_a_text_of_the_list_goes_before_that_of_the_catalogue():
    method = BM25Reranker().fit(tiny_data())
    ids = ("thing-001", "thing-000", "elsewhere")
    query = Query(text="kettle")  # in the title of thing-000
    assert method.recommend([query], 3, [Ranking(ids, np.ones(3))])[0].ids[0] == "thing-000"
    own = {"elsewhere": {"text": "kettle kettle"}, "thing-000": {"text": "a boat"}}
    ranking = method.recommend([query], 3, [Ranking(ids, np.ones(3), details=own)])[0]
    assert ranking.ids == ("elsewhere", "thing-001", "thing-000")


def test_an_excluded_document_is_not_answered_be_it_unknown_to_the_catalogue():
    method = BM25Reranker.without_catalogue()
    assert order(method, Query(text="tea", exclude=("1",)), *DOCUMENTS) == ["2", "0", "3"]
    blocked = Queries.of([Query(text="tea")]).without(["2", "never"])
    lists = method.recommend(blocked, 10, [Ranking.of_texts(DOCUMENTS)])
    assert lists[0].ids == ("1", "0", "3")


def test_without_a_text_the_history_is_the_query_and_without_both_the_order_stays():
    method = BM25Reranker().fit(tiny_data())
    query = Query(history=History.of("thing-000"))  # a kettle
    assert order(method, query, "a tent", "a copper kettle")[0] == "1"
    lists = method.recommend([Query()], 10, [Ranking.of_texts(DOCUMENTS)])
    assert lists[0].ids == ("0", "1", "2", "3")
    assert "neither a query text" in lists[0].notes[0]


def test_lists_of_ids_alone_and_bad_input():
    method = BM25Reranker.without_catalogue()
    assert len(method.recommend([Query(text="tea")], 2, [Ranking((), np.zeros(0))])[0]) == 0
    ranking = method.recommend([Query(text="tea")], 2, [Ranking(("x", "y"), np.ones(2))])[0]
    assert ranking.ids == ("x", "y") and dataclasses.asdict(ranking)["details"] == {}
    with pytest.raises(DataError, match="2 candidate lists for 1 queries"):
        method.recommend([Query()], 2, [Ranking.of_texts(DOCUMENTS)] * 2)
    with pytest.raises(DataError):
        BM25Reranker("klingon")

"""The audit of wordings: shares in common, the vote, and the requests that differ most."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Rankings
from tailor.errors import DataError
from tailor.evaluation.consistency import Consistency, consensus, wording_groups
from tailor.reranking.bm25_reranker import BM25Reranker

RUN = Run(workers=1)
ITEMS = list("abcdef")
REQUESTS = [
    ("r1", "tents", "tent"),
    ("r2", "tents", "a tent, please"),
    ("r3", "tents", "any tent?"),
    ("r4", "stoves", "stove"),
    ("r5", "stoves", "a stove, please"),
    ("r6", "alone", "kettle"),
]
JUDGED = [("r1", "a", 1.0), ("r1", "b", 2.0), ("r2", "b", 1.0), ("r2", "f", 0.0), ("r4", "e", 1.0)]


def data(with_intents=True):
    requests = pl.DataFrame(REQUESTS, schema=["request_id", "intent_id", "text"], orient="row")
    return Dataset(
        {
            "items": pl.DataFrame({"item_id": ITEMS, "title": [f"item {id}" for id in ITEMS]}),
            "requests": requests if with_intents else requests.drop("intent_id"),
            "judgements": pl.DataFrame(
                JUDGED, schema=["query_id", "item_id", "grade"], orient="row"
            ),
        }
    )


@dataclass(eq=False)
class Told(Recommender):
    """Answers each text with the items that it is told."""

    lists: dict

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _recommend(self, queries, k, candidates):
        ids = [self.lists.get(queries.text(i), "")[:k] for i in range(len(queries))]
        answer = Rankings.empty(self.items_, len(queries), k)
        for i, of_query in enumerate(ids):
            answer.rows[i, : len(of_query)] = self.items_.rows(list(of_query))
            answer.scores[i, : len(of_query)] = -np.arange(len(of_query))
        return answer


LISTS = {
    "tent": "ab",
    "a tent, please": "bc",
    "any tent?": "ab",
    "stove": "ef",
    "a stove, please": "ef",
}


def audit(lists=LISTS, **settings):
    method = Told(lists).fit(data(), RUN)
    return Consistency(**{"k": 2} | settings).run(data(), {"told": method}, RUN)


def test_wordings_of_a_request_share_its_intent_and_its_good_items():
    groups = wording_groups(data())
    assert [group.intent for group in groups] == ["tents", "stoves"]
    assert groups[0].texts == ("tent", "a tent, please", "any tent?")
    assert groups[0].item_ids == ("a", "b") and groups[1].item_ids == ("e",)
    alone = wording_groups(data(with_intents=False), least=1)
    assert [group.intent for group in alone] == [f"r{number}" for number in range(1, 7)]
    assert wording_groups(data(with_intents=False)) == []
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})
    assert wording_groups(Dataset({"events": events})) == []


def test_shares_in_common_by_hand():
    row = audit().to_dict()["tables"]["consistency"][0]
    # ab with bc: 1 of 3; ab with ab: 1; the stoves agree; tents and stoves have nothing in common
    tents = (1 / 3 + 1 + 1 / 3) / 3
    assert row["requests"] == 2 and row["wordings"] == 5
    assert row["in common"] == pytest.approx((tents + 1) / 2, abs=1e-4)
    assert row["in common of different requests"] == 0
    assert row["requests below 0.5"] == 0
    # NDCG of ab is 1, of bc 1 / (1 + 1 / log2(3)), of ef 1; the vote is ab and ef
    half = 1 / (1 + 1 / np.log2(3))
    assert row["NDCG"] == pytest.approx((1 + half + 1 + 1 + 1) / 5, abs=1e-4)
    assert row["NDCG of the vote"] == 1


def test_a_method_of_one_list_is_consistent_and_shown_to_be_constant():
    row = audit(dict.fromkeys(LISTS, "ab")).to_dict()["tables"]["consistency"][0]
    assert row["in common"] == row["in common of different requests"] == 1
    assert row["NDCG"] < 0.7


def test_the_least_consistent_request_is_shown_with_what_differs():
    rows = audit(worst=1).to_dict()["tables"]["least consistent requests"]
    assert len(rows) == 1 and rows[0]["request"] == "tents"
    assert {rows[0]["wording"], rows[0]["other wording"]} == {"tent", "a tent, please"}
    assert set(rows[0]["only one has"].split("; ")) == {"item a", "item c"}


def test_the_vote_counts_lists_then_heights():
    lists = np.array([[1, 2, 3], [2, 1, 4], [5, 2, -1]])
    # 2 is in three lists, 1 in two; of those in one list 5 stands first
    assert consensus(lists, 3).tolist() == [2, 1, 5]
    assert consensus(lists, 6).tolist()[5] == -1
    assert consensus(np.full((2, 2), -1), 2).tolist() == [-1, -1]


def test_a_method_that_is_not_fitted_is_fitted_and_named():
    report = Consistency(k=2).run(data(), {"told": Told(LISTS)}, RUN)
    assert any("told" in note for note in report.notes())
    assert not any("told" in note for note in audit().notes())


def test_what_cannot_be_audited_is_refused():
    method = Told(LISTS).fit(data(), RUN)
    with pytest.raises(DataError, match="intent_id"):
        Consistency().run(data(with_intents=False), {"told": method}, RUN)
    with pytest.raises(DataError, match="Cascade"):
        Consistency().run(data(), {"bm25": BM25Reranker()}, RUN)
    with pytest.raises(DataError, match="k is 0"):
        Consistency(k=0).run(data(), {"told": method}, RUN)

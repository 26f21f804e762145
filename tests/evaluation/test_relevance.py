"""Judged collections: figures by hand, what a query may be answered with, what the collection
lacks.
"""

import math

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Query
from tailor.data.dataset import Dataset
from tailor.data.nouns import Ranking
from tailor.errors import DataError
from tailor.evaluation.relevance import JudgedCollection, evaluate_judged
from tailor.evaluation.report import GIVEN
from tailor.reranking.as_given import AsGiven
from tailor.retrieval.text_match import TextMatch


@pytest.fixture
def data():
    items = pl.DataFrame(
        {
            "item_id": ["d1", "d2", "d3", "d4"],
            "text": ["red tent", "blue tent", "copper kettle", "red kettle"],
            "shelf": ["a", "a", "b", "b"],
        }
    )
    requests = pl.DataFrame(
        {
            "request_id": ["q1", "q2", "q3"],
            "text": ["red tent", "kettle", "nothing judged"],
            "context": ["a", "b", "a"],
            "kind": ["easy", "hard", "easy"],
        }
    )
    judgements = pl.DataFrame(
        {
            "query_id": ["q1", "q1", "q2", "q2", "q1"],
            "item_id": ["d1", "d2", "d3", "not here", "d4"],
            "grade": [2, 1, 1, 3, 0],
        }
    )
    candidates = pl.DataFrame(
        {
            "query_id": ["q1", "q1", "q1", "q2"],
            "item_id": ["d4", "d1", "d2", "d3"],
            "rank": [1, 2, 3, 1],
        }
    )
    return Dataset(
        {"items": items, "requests": requests, "judgements": judgements, "candidates": candidates},
        "shelves",
    )


def values(report, method, metric):
    return report.results[method, GIVEN].per_user[metric].tolist()


def test_figures_are_those_worked_out_by_hand(data):
    judged = JudgedCollection(data, "candidates")
    report = evaluate_judged(
        {"given": AsGiven().fit(data)}, judged, (3,), ("NDCG", "MRR", "recall")
    )
    assert report.user_ids == ["q1", "q2"], "a query without a judgement above 0 measures nothing"
    dcg, ideal = 2 / math.log2(3) + 1 / math.log2(4), 2 + 1 / math.log2(3)
    # q2's best document, of grade 3, is not in the collection, but a perfect list would hold it
    lost = 1 / (3 + 1 / math.log2(3))
    assert values(report, "given", "NDCG@3") == pytest.approx([dcg / ideal, lost])
    assert values(report, "given", "MRR@3") == [0.5, 1.0] and values(
        report, "given", "recall@3"
    ) == [1.0, 0.5]
    assert (
        report.ranked == "the candidates given"
        and judged.facts()["share of fitting items among them"] == 0.75
    )


def test_only_items_of_the_own_group_are_answered(data):
    method = TextMatch().fit(data)
    both = (
        evaluate_judged({"all": method}, JudgedCollection(data), (4,), ("recall",)),
        evaluate_judged({"own": method}, JudgedCollection(data, "shelf"), (4,), ("recall",)),
    )
    assert values(both[0], "all", "recall@4") == [1.0, 0.5] and values(
        both[1], "own", "recall@4"
    ) == [1.0, 0.5]
    lists = method.recommend(
        [Query(text="red tent")], 4, [JudgedCollection(data, "shelf").candidates[0]]
    )[0]
    assert set(lists.ids) == {"d1", "d2"}, "d4 is red too, and on another shelf"


def test_grades_may_count_as_one_and_queries_may_be_chosen(data):
    report = evaluate_judged(
        {"given": AsGiven().fit(data)},
        JudgedCollection(data, "candidates", "kind = 'easy'", binary=True),
        (3,),
        ("NDCG",),
    )
    assert report.user_ids == ["q1"]
    assert values(report, "given", "NDCG@3") == pytest.approx(
        [(1 / math.log2(3) + 0.5) / (1 + 1 / math.log2(3))]
    )
    with pytest.raises(DataError, match="no query with a judgement above 0 where"):
        _ = JudgedCollection(data, only="kind = 'odd'").queries


def test_every_setting_and_grade_has_its_own_hash(data):
    other = Dataset(
        {
            **dict(data.tables),
            "judgements": data.tables["judgements"].with_columns(grade=pl.col("grade") + 1),
        },
        "shelves",
    )
    hashes = {
        one.hash
        for one in (
            JudgedCollection(data),
            JudgedCollection(data, "candidates"),
            JudgedCollection(data, only="kind = 'easy'"),
            JudgedCollection(data, binary=True),
            JudgedCollection(other),
        )
    }
    assert len(hashes) == 5


def test_what_is_not_there_is_named(data):
    with pytest.raises(DataError, match="no table candidates"):
        JudgedCollection(
            Dataset(
                {name: frame for name, frame in data.tables.items() if name != "candidates"}, "x"
            ),
            "candidates",
        )
    with pytest.raises(DataError, match='among is "floor"'):
        JudgedCollection(data, "floor")
    with pytest.raises(DataError, match="k is"):
        evaluate_judged({"given": AsGiven().fit(data)}, JudgedCollection(data, "candidates"), ())
    with pytest.raises(DataError, match="Did you mean"):
        evaluate_judged(
            {"given": AsGiven().fit(data)}, JudgedCollection(data, "candidates"), (3,), ("NDGC",)
        )


def test_the_given_order_stays_and_what_is_excluded_goes(data):
    method = AsGiven().fit(data)
    listed = Ranking(("d4", "d1", "unknown", "d2"), np.array([0.1, 0.9, 0.5, 0.7], np.float32))
    ranking = method.recommend([Query(exclude=("d1",))], 3, [listed])[0]
    assert ranking.ids == ("d4", "d2") and ranking.notes
    with pytest.raises(DataError, match="finds nothing by itself"):
        method.recommend([Query()], 3)

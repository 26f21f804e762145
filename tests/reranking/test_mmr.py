"""Lists that do not say the same thing twice."""

import itertools
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Recommender, ScoringRecommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Rankings
from tailor.data.splits import split_by
from tailor.errors import DataError, ModelError
from tailor.evaluation.protocol import evaluate
from tailor.metrics.lists import intra_list_diversity
from tailor.pipeline.cascade import Cascade
from tailor.pipeline.default import counting_pipeline
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.filter import Filter
from tailor.reranking.mmr import Diversify
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.text_match import TextMatch
from tailor.testing.data import tiny_data
from tailor.text.tfidf import tfidf
from tailor.worlds.shop import shop

ITEMS = pl.DataFrame(
    {
        "item_id": list("abcdef"),
        "categories": [["x"], ["x"], ["x", "y"], ["y"], None, ["z", "z", None]],
        "title": ["tent", "tent", "tent lamp", "lamp", None, "kettle"],
    }
)
DATA = Dataset(
    {"events": pl.DataFrame({"user_id": ["u"] * 6, "item_id": list("abcdef")}), "items": ITEMS}
)


@dataclass(eq=False)
class Scored(ScoringRecommender):
    """The same scores for everybody: a 1.0, b .9, ... less `shift`."""

    shift: float = 0.0

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _scores(self, queries):
        row = np.array(
            [1.0 - 0.1 * "abcdef".index(one) - self.shift for one in self.items_.ids], np.float32
        )
        return np.tile(row, (len(queries), 1))


def listed(method: Recommender, k: int = 6, query: Query = Query()) -> str:  # noqa: B008
    return "".join(method.recommend([query], k)[0].ids)


def test_by_hand():
    """a: 1; then b .45 - .5, c .4 - .5 / sqrt 2, d .35, e .3, f .25: d; then f before e only where
    e is closer: e, f; c (.046) and b (-.05) last.
    """
    method = Diversify(Scored(), strength=0.5, similarity="categories").fit(DATA)
    ranking = method.recommend([Query()], 6)[0]
    assert "".join(ranking.ids) == "adefcb"
    expected = [0.5, 0.35, 0.3, 0.25, 0.4 - 0.5 / np.sqrt(2), 0.45 - 0.5]
    assert np.allclose(ranking.scores, expected, atol=1e-6)
    assert np.allclose(ranking.columns["Scored"], [1, 0.7, 0.6, 0.5, 0.8, 0.9])
    assert listed(Diversify(Scored(), strength=0.0).fit(DATA)) == "abcdef"
    assert listed(Diversify(Scored(), strength=1.0, similarity="categories").fit(DATA), 4) == "adef"


def naive(scores, vectors, k, strength):
    """The definition, item by item."""
    scores, left, taken, values = scores / scores.max(), list(range(len(scores))), [], []
    while left and len(taken) < k:
        gain = [
            (1 - strength) * scores[i]
            - strength * max((float(vectors[i] @ vectors[j]) for j in taken), default=0.0)
            for i in left
        ]
        values.append(max(gain))
        taken.append(left.pop(int(np.argmax(gain))))
    return taken, values


@pytest.mark.parametrize(("strength", "depth"), [(0.1, 50), (0.3, 20), (0.7, 50), (1.0, 10)])
def test_equals_the_definition_item_by_item(strength, depth):
    data = tiny_data()
    method = Diversify(CoVisitation(), strength, depth).fit(data)
    vectors = tfidf(data.item_texts).toarray()
    queries = data.queries()
    asked = [
        Query(history=queries[i].history, exclude=queries[i].history.item_ids[:2])
        for i in range(20)
    ]
    for before, after in zip(
        method.inner_.recommend(asked, depth), method.recommend(asked, 8), strict=True
    ):
        taken, values = naive(
            before.scores.astype(float), vectors[data.catalogue.rows(before.ids)], 8, strength
        )
        assert np.allclose(after.scores, values, atol=1e-5)
        assert [before.ids[at] for at in taken] == list(after.ids) or len(
            set(np.round(values, 5))
        ) < len(values)


def test_scores_below_zero_keep_their_order_and_never_rise():
    method = Diversify(Scored(shift=3.0), strength=0.2).fit(DATA)
    scores = method.recommend([Query()], 6)[0].scores
    assert np.isfinite(scores).all() and (np.diff(scores) <= 0).all()
    assert listed(Diversify(Scored(shift=3.0), strength=0.0).fit(DATA)) == "abcdef"


def test_items_without_words_are_like_nothing():
    bare = Dataset({"events": DATA.events})
    method = Diversify(Scored(), strength=0.9).fit(bare)
    assert listed(method) == "abcdef" and method.fit_report_["items_without_texts"] == 6
    with pytest.raises(DataError, match='no column "categories"'):
        Diversify(Scored(), similarity="categories").fit(bare)
    no_categories = Dataset(
        {
            "events": DATA.events,
            "items": ITEMS.with_columns(pl.lit(None, pl.List(pl.String)).alias("categories")),
        }
    )
    assert listed(Diversify(Scored(), similarity="categories").fit(no_categories)) == "abcdef"


def test_only_candidates_are_reordered_and_only_the_first_of_many():
    method = Diversify(Scored(), strength=0.9, depth=2, similarity="categories").fit(DATA)
    assert listed(method, 2) == "ab", "nothing beyond the depth comes up"
    assert listed(method, 3) == "a" + listed(method, 3)[1:] and set(listed(method, 3)) == set(
        "abc"
    ), "unless k is larger"
    only = [Ranking(tuple("fbca"), np.ones(4, np.float32))]
    assert set(
        Diversify(Scored()).fit(DATA).recommend([Query(exclude=("b",))], 9, only)[0].ids
    ) == set("fca")


def test_filters_inside_and_outside_bind_and_it_nests():
    inside = Diversify(Filter(Scored(), blocked=["a"]), similarity="categories")
    for method in (
        inside,
        Filter(Diversify(Scored()), blocked=["a"]),
        Fallback([inside, Scored()]),
        Cascade(Scored(), inside),
    ):
        assert set(listed(method.fit(DATA), 6)) == set("bcdef")


def test_strangers_and_nobody():
    method = Diversify(TextMatch()).fit(DATA)
    lists = method.recommend([Query(), Query(text="tent"), Query(history=History.of("no such"))], 3)
    assert len(lists[0]) == 0 and lists[0].notes and len(lists[1]) == 3 and not len(lists[2])
    assert len(method.recommend([], 3)) == 0


@dataclass(eq=False)
class Narrow(Recommender):
    """Answers with arrays as wide as its longest list, not as k."""

    order: str = ""

    def _fit(self, data, run, valid): ...

    def _recommend(self, queries, k, candidates):
        return Rankings.of(
            [Ranking(tuple(self.order[:k]), np.ones(len(self.order[:k]))) for _ in queries]
        )


@pytest.mark.parametrize("order", ["", "a", "ab"])
def test_lists_narrower_than_asked_for(order):
    method = Diversify(Narrow(order), similarity="categories").fit(DATA)
    assert [set(one.ids) for one in method.recommend([Query(), Query()], 4)] == [set(order)] * 2


@pytest.mark.parametrize(
    "bad", [{"strength": 1.1}, {"strength": -0.1}, {"depth": 0}, {"similarity": "colour"}]
)
def test_bad_settings_are_quoted(bad):
    with pytest.raises(DataError, match=str(next(iter(bad.values())))):
        Diversify(Popularity(), **bad)
    with pytest.raises(ModelError, match="must be a recommender"):
        Diversify("Popularity")


def test_in_a_planted_shop_lists_grow_more_diverse_and_lose_little():
    data = shop(users=400, items=200, seed=1).data
    split = split_by(data, "last", "action = 'view'")
    run, vectors = Run(), tfidf(data.item_texts)
    methods = {
        str(strength): Diversify(counting_pipeline(), strength).fit(split.train, run, split)
        for strength in (0.0, 0.2, 0.5)
    }
    report = evaluate(methods, split, run=run)
    asked = split.queries("test")[0].without_history()
    diversity = [
        np.nanmean(
            intra_list_diversity(one.recommend(asked, 10).reindexed(data.catalogue).rows, vectors)
        )
        for one in methods.values()
    ]
    quality = [report.mean(name, "NDCG@10") for name in methods]
    assert all(later > before + 0.01 for before, later in itertools.pairwise(diversity))
    assert quality[1] > 0.9 * quality[0]

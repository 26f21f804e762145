"""Steering: axes by hand, with a recommender that obeys and one that does not listen."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Rankings
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.evaluation.steering import Steering
from tailor.text.title_words import telling_words
from tailor.worlds.facets import facets

WORLD = facets(80, 5, seed=4, values=(3, 3, 4), noise=0.0)


@dataclass(eq=False)
class Listener(Recommender):
    """Ranks items by the words that they share with the request, less so what is to be avoided."""

    listens: bool = True
    understands: bool = True

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue
        self.bags = [set(telling_words(text)) for text in data.item_texts]

    def _recommend(self, queries, k, candidates):
        queries = queries.reindexed(self.items_)
        scores = np.tile(-np.arange(len(self.items_)) / 1e3, (len(queries), 1))
        for i in range(len(queries)):
            text = queries.text(i) if self.listens else ""
            words = set(telling_words(text))
            sign = -1 if self.understands and text.startswith("avoid") else 1
            scores[i] += [sign * len(words & bag) for bag in self.bags]
        scores[~queries.allowed()] = -np.inf
        order = np.argsort(-scores, axis=1)[:, :k]
        values = np.take_along_axis(scores, order, axis=1)
        order = np.where(np.isfinite(values), order, -1)
        return Rankings(self.items_, order.astype(np.int32), values.astype(np.float32))


@pytest.fixture(scope="module")
def split():
    return last_out(WORLD.data)


def test_who_listens_obeys_and_who_does_not_stays(split):
    study = Steering(k=5)
    axes = study.axes(split, Run())
    report = {
        name: study.measure(Listener(**settings).fit(split.train), axes)
        for name, settings in {
            "obeys": {},
            "deaf": {"listens": False},
            "hears words": {"understands": False},
        }.items()
    }
    deaf = report["deaf"]
    assert deaf["own wish"] == deaf["a stranger's wish"] == deaf["nothing asked"]
    assert deaf["order"] == 0.5
    assert report["obeys"]["distinct item"] > 0.9
    assert report["obeys"]["own wish"] > deaf["own wish"] + 0.2
    assert report["obeys"]["order"] > 0.9
    assert report["hears words"]["order"] == 0.5
    assert report["obeys"]["a stranger's wish"] < report["obeys"]["own wish"]


def test_wishes_are_typed_ones_or_words_of_the_target(split):
    axes = Steering().axes(split, Run())
    asked = axes.queries["own wish"]
    typed = WORLD.asking(split.queries("test")[0])
    assert [asked.text(i) for i in range(80)] == [typed.text(i) for i in range(80)]
    untyped = last_out(facets(40, 5, seed=4, wished=()).data)
    axes = Steering(words=2).axes(untyped, Run())
    targets = axes.targets["own wish"]
    for i in range(40):
        words = axes.queries["own wish"].text(i).removeprefix("I want ").split()
        assert len(words) == 2
        assert set(words) <= set(telling_words(untyped.data.item_texts[targets[i]]))


def test_similar_items_share_most_words_and_distinct_ones_none(split):
    axes = Steering().axes(split, Run())
    codes = WORLD.truth.items.codes
    target = codes[axes.targets["own wish"]]
    assert ((codes[axes.targets["similar item"]] == target).sum(axis=1) == 2).all()
    assert ((codes[axes.targets["distinct item"]] == target).sum(axis=1) == 0).all()
    texts = WORLD.data.item_texts
    for i in range(0, 80, 7):
        words = axes.queries["similar item"].text(i).removeprefix("I want ").split()
        assert set(words) <= set(telling_words(texts[axes.targets["similar item"][i]]))
        assert not set(words) & set(telling_words(texts[axes.targets["own wish"][i]]))


def test_five_wishes_hold_the_users_own(split):
    axes = Steering().axes(split, Run())
    for i in range(80):
        wishes = axes.queries["5 wishes"].text(i).split(" or ")
        assert len(wishes) == 5
        assert axes.queries["own wish"].text(i) in wishes


def test_a_stranger_is_never_the_user(split):
    data = Dataset(
        {
            "events": pl.DataFrame(
                [(f"u{u}", f"i{u}-{e}", e) for u in range(9) for e in range(3)],
                schema=["user_id", "item_id", "time_ms"],
                orient="row",
            ),
            "items": pl.DataFrame(
                [(f"i{u}-{e}", f"word{u} word{u}{e}") for u in range(9) for e in range(3)],
                schema=["item_id", "title"],
                orient="row",
            ),
        }
    )
    axes = Steering(words=1).axes(last_out(data), Run())
    own = axes.queries["own wish"]
    other = axes.queries["a stranger's wish"]
    assert all(own.text(i) != other.text(i) for i in range(9))


def test_the_report_has_a_row_a_method():
    report = Steering(k=5).run(WORLD.data, {"obeys": Listener(), "deaf": Listener(listens=False)})
    table = report.tables()[0]
    assert table.columns[:3] == ("method", "nothing asked", "own wish")
    assert [row[0] for row in table.rows] == ["obeys", "deaf"]
    assert report.to_dict()["figures"] == {"users": 80, "items": 36}


def test_titles_without_shared_words_are_refused():
    bare = last_out(facets(20, 5, wished=(), named=()).data)
    with pytest.raises(DataError, match="no two titles share a word"):
        Steering().axes(bare, Run())

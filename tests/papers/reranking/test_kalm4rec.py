"""KALM4Rec: typed keywords find items by the words of their reviews; a model orders them."""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.errors import DataError
from tailor.llm.scripted import MALFORMED, ScriptedModel
from tailor.papers.reranking.kalm4rec import KALM4Rec
from tailor.ports.base import Encoder
from tailor.testing.data import tiny_data

RUN = Run(workers=1)
PLACES = {
    "noodle bar": ["ramen, late night"] * 3 + ["quiet, ramen"],
    "tea house": ["quiet, green tea"] * 4,
    "club": ["late night, loud music"] * 4,
    "Smith, Jones and Co": ["loud music"] * 2,
}
FAMOUS = ["quiet, ramen", "loud music", "green tea", "late night"] * 10


class Meaning(Encoder):
    """Puts "silent" beside "quiet", and everything else apart."""

    columns: dict = {}

    @property
    def space(self):
        return "meaning"

    @property
    def fingerprint(self):
        return "meaning"

    def encode(self, texts):
        rows = np.zeros((len(texts), 64), np.float32)
        for i, text in enumerate(texts):
            meaning = "quiet" if text == "silent" else text
            rows[i, self.columns.setdefault(meaning, len(self.columns))] = 1
        return rows


def places(famous=False):
    reviews = [(name, text) for name, texts in PLACES.items() for text in texts]
    reviews += [("hall", text) for text in FAMOUS] if famous else []
    names = [*PLACES, *(["hall"] if famous else [])]
    texts = {
        "user_id": [f"u{i % 5}" for i in range(len(reviews))],
        "item_id": [f"id of {name}" for name, _ in reviews],
        "text": [text for _, text in reviews],
        "rating": [5.0] * len(reviews),
    }
    items = pl.DataFrame({"item_id": [f"id of {name}" for name in names], "title": names})
    events = pl.DataFrame(texts).select("user_id", "item_id")
    return Dataset({"events": events, "items": items, "texts": pl.DataFrame(texts)})


def fitted(famous=False, **settings):
    settings = {"encoder": Meaning(), "least": 2, "most_share": 1.0} | settings
    return KALM4Rec(**settings).fit(places(famous), RUN)


def names(method, text, k=4):
    lists = method.recommend([Query(text=text)], k)
    return [item.removeprefix("id of ") for item in lists[0].ids]


def test_keywords_find_items_by_their_reviews_weighed_by_rarity():
    method = fitted()
    assert names(method, "ramen, late night")[0] == "noodle bar"
    assert names(method, "loud music, late night")[0] == "club"
    table = method.weights_[:, method.keywords_.index("ramen")].toarray()[:, 0]
    assert (table > 0).sum() == 1


def test_an_unknown_keyword_counts_as_the_nearest_known_one():
    method = fitted()
    assert method.keywords("silent, ramen") == {"silent": "quiet", "ramen": "ramen"}
    assert names(method, "silent")[0] == "tea house"
    assert names(fitted(encoder=None), "silent") == []
    assert names(fitted(nearest=1.0), "velvet") == []


def test_items_with_many_reviews_do_not_own_all_keywords():
    text = "quiet, green tea"
    assert names(fitted(famous=True, evenness=0.0), text)[0] == "hall"
    assert names(fitted(famous=True, evenness=1.0), text)[0] == "tea house"


def test_only_so_many_keywords_count():
    assert len(fitted(most_keywords=2).keywords("ramen, late night, quiet")) == 2


@pytest.mark.parametrize("malformed", ["", *MALFORMED])
def test_a_model_orders_the_best_and_never_invents_or_loses_a_name(malformed):
    knows = {"Smith, Jones and Co": 1.0}  # a name with a comma
    llm = ScriptedModel(knows=knows, malformed=malformed)
    found = names(fitted(llm=llm), "loud music, late night, ramen")
    assert sorted(found) == sorted(names(fitted(), "loud music, late night, ramen"))
    if not malformed:
        assert found[0] == "Smith, Jones and Co"


class Reading(ScriptedModel):
    """Keeps its prompts."""

    prompts: list = []

    def complete(self, prompts, **settings):
        Reading.prompts.extend(prompts)
        return super().complete(prompts, **settings)


def test_the_prompt_has_keywords_of_items_and_examples_of_similar_users():
    Reading.prompts.clear()
    names(fitted(llm=Reading(), shots=2), "ramen")
    (prompt,) = Reading.prompts
    assert "keywords: ramen" in prompt and "noodle bar (ramen" in prompt
    assert prompt.count("liked") == 2 and "Smith, Jones and Co" in prompt.partition("liked")[2]
    assert "u0" not in prompt
    assert KALM4Rec(shots=2).keeps_people() and not KALM4Rec().keeps_people()


def test_a_history_stands_for_the_keywords_of_its_items():
    query = Query(history=History.of("id of club"), exclude=("id of club",))
    other = "id of Smith, Jones and Co"  # with loud music, too
    assert fitted().recommend([query], 2)[0].ids[0] == other
    candidates = [Ranking(("id of tea house", other), np.ones(2))]
    assert fitted().recommend([query], 2, candidates)[0].ids[0] == other


def test_items_are_explained_by_the_keywords_that_they_share():
    method = fitted()
    query = Query(text="ramen, late night")
    lists = method.recommend([query], 2)
    (explanations,) = method.explain([query], [lists[0]])
    evidence = explanations[0].evidence
    assert {"ramen", "late night"} <= {part.id for part in evidence}
    assert sum(part.share for part in evidence) == pytest.approx(1, abs=1e-5)


def test_data_without_reviews_have_the_items_own_words():
    data = tiny_data()
    bare = Dataset({name: data.tables[name] for name in ("events", "items")})
    method = KALM4Rec.tiny().fit(bare, RUN)
    assert method.fit_report_["reviews"] == 0 and "kettle" in method.keywords_


def test_wrong_settings_are_named():
    for settings in ({"least": 0}, {"shots": -1}, {"most_share": 0}, {"nearest": 2}):
        with pytest.raises(DataError, match=next(iter(settings))):
            KALM4Rec(**settings)

"""K-LaMP: suggestions from the page and a store of entities, without raw texts of the user."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Profile, Query
from tailor.errors import DataError
from tailor.llm.scripted import ScriptedModel
from tailor.papers.profiles.k_lamp import KLamp
from tailor.worlds.search_log import search_log

RUN = Run(workers=1)
DAY_MS = 86_400_000
DATA = search_log(60, seed=1).data
METHOD = KLamp(least_users=1).fit(DATA, RUN)
PAGES = {title: item for item, title in DATA.tables["items"].select("item_id", "title").iter_rows()}
PAGE = {"page": PAGES["museum history"]}


def history(*events, day=0):
    """Return what a user read, with searches: (title of a page, search or "")."""
    ids = [PAGES[title] for title, _ in events]
    times = [(day + number) * DAY_MS for number in range(len(ids))]
    return History(ids, times, texts=[text for _, text in events])


CYCLIST = history(("canal history", "canal cycling"), ("harbour parking", "harbour cycling"))


def suggestions(method, query):
    (output,) = method.generate([query])
    return output.details["suggestions"]


def test_the_next_question_joins_the_page_and_the_store():
    query = Query("u", CYCLIST, time_ms=9 * DAY_MS, context=PAGE)
    best = suggestions(METHOD, query)[0]
    assert best["text"] == "museum cycling"
    assert best["entities"] == ["cycling", "museum"]
    assert best["reason"] == "because you searched for cycling"
    scores = {}
    questions = ["museum cycling", "museum budget", "canal cycling"]
    for name, weights in {"both": {}, "page": {"store_weight": 0.0}}.items():
        part = METHOD._with_state()
        for setting, value in weights.items():
            setattr(part, setting, value)
        scores[name] = part.score([query], [questions])[0]
    assert scores["both"].argmax() == 0 and scores["both"].argmin() != 0
    assert scores["both"][0] - scores["both"][1] > scores["page"][0] - scores["page"][1] + 0.5


def test_interest_of_late_counts_more():
    events = [("canal history", "canal wildlife")] * 2 + [("canal history", "canal cycling")] * 2
    old_first = history(*events)
    times = (0, 1, 200 * DAY_MS, 201 * DAY_MS)
    for items, best in ((old_first, "museum cycling"), (old_first, "museum wildlife")):
        texts = items.texts if best == "museum cycling" else items.texts[::-1]
        query = Query("u", History(items.item_ids, times, texts=texts), context=PAGE)
        assert suggestions(METHOD, query)[0]["text"] == best


def test_only_entities_and_counts_are_kept_of_a_user():
    events = [("canal history", "how do I hide canal money from my wife")]
    (store,) = METHOD.stores([Query("u", history(*events))])
    text = json.dumps(store.plain())
    assert "hide" not in text and "wife" not in text and "canal" in text
    profile = METHOD.profile_of(store, "u", 0)
    assert {fact.text for fact in profile.facts} >= {"is curious about canal"}
    assert METHOD.profile_of(METHOD.stores([Query("u")])[0], "u", 0).notes


def test_a_page_makes_entities_familiar_and_a_search_makes_them_interesting():
    read = [(f"canal {aspect}", "") for aspect in ("history", "budget", "parking", "geology")]
    (store,) = METHOD.stores([Query("u", history(*read))])
    assert store.uses["canal"].interest == 0 and store.uses["canal"].familiarity > 0.7
    facts = {fact.text for fact in METHOD.profile_of(store, "u", 0).facts}
    assert "knows well canal" in facts and "is curious about budget" in facts


def test_a_store_that_comes_along_takes_the_place_of_the_history():
    (store,) = METHOD.stores([Query("u", CYCLIST)])
    moment = 9 * DAY_MS
    own = Query("u", CYCLIST, time_ms=moment, context=PAGE)
    brought = Query(
        "u", profile=METHOD.profile_of(store, "u", moment), time_ms=moment, context=PAGE
    )
    assert [s["text"] for s in suggestions(METHOD, own)] == [
        s["text"] for s in suggestions(METHOD, brought)
    ]
    with pytest.raises(DataError, match="cannot be read"):
        suggestions(METHOD, replace(own, profile=Profile("u", attributes={"entities": {}})))


def test_a_deleted_entity_is_never_suggested():
    (store,) = METHOD.stores([Query("u", CYCLIST)])
    smaller = store.without("cycling").after_search(["cycling"], 5 * DAY_MS)
    for title, page in PAGES.items():
        profile = METHOD.profile_of(smaller, "u", 9 * DAY_MS)
        query = Query("u", profile=profile, time_ms=9 * DAY_MS, context={"page": page})
        texts = [suggestion["text"] for suggestion in suggestions(METHOD, query)]
        assert texts or "cycling" in title
        assert not any("cycling" in text for text in texts)


def test_what_was_just_asked_is_not_suggested_again():
    asked = history(("museum history", "museum cycling"))
    soon = Query("u", asked, time_ms=DAY_MS // 2, context=PAGE)
    later = replace(soon, time_ms=3 * DAY_MS)
    assert "museum cycling" not in [s["text"] for s in suggestions(METHOD, soon)]
    assert "museum cycling" in [s["text"] for s in suggestions(METHOD, later)]


def test_sensitive_entities_are_in_no_store_and_no_suggestion():
    method = KLamp(least_users=1, sensitive=("budget",)).fit(DATA, RUN)
    query = Query("u", history(("canal budget", "canal budget")), context=PAGE, time_ms=9 * DAY_MS)
    (store,) = method.stores([query])
    assert "canal" in store.uses and "budget" not in store.uses
    assert not any("budget" in s["text"] for s in suggestions(method, query))


def test_a_question_of_too_few_users_reveals_nobody():
    texts = DATA.tables["texts"].select("user_id", "text").unique()
    counts = dict(texts.group_by("text").len().iter_rows())
    method = KLamp(least_users=3).fit(DATA, RUN)
    assert set(method.questions_) == {text for text, count in counts.items() if count >= 3}
    assert not method.keeps_people() and METHOD.keeps_people()


def test_what_one_user_alone_searches_for_is_no_entity():
    texts = DATA.tables["texts"]
    own = texts.head(4).with_columns(
        pl.lit("u-own").alias("user_id"), pl.lit("secret zeppelin").alias("text")
    )
    often = Dataset({**DATA.tables, "texts": pl.concat([texts, own])})
    assert "zeppelin" not in KLamp().fit(often, RUN).entities_
    shared = own.with_columns(pl.lit("u-other").alias("user_id"))
    twice = Dataset({**DATA.tables, "texts": pl.concat([texts, own, shared])})
    assert "zeppelin" in KLamp().fit(twice, RUN).entities_
    assert KLamp(least=1).fit(often, RUN).keeps_people()


def test_the_page_may_be_words_or_the_last_item_read():
    by_words = Query("u", CYCLIST, text="A history of the museum", time_ms=9 * DAY_MS)
    assert suggestions(METHOD, by_words)[0]["text"] == "museum cycling"
    events = [("canal history", "canal cycling"), ("museum history", "")]
    last = Query("u", history(*events), time_ms=9 * DAY_MS)
    assert suggestions(METHOD, last)[0]["text"] == "museum cycling"
    (output,) = METHOD.generate([Query(text="nothing of this")])
    assert output.is_empty and "neither the page nor" in output.notes[0]


def test_without_a_crowd_suggestions_are_made_of_entities():
    bare = Dataset({name: DATA.tables[name] for name in ("events", "items")})
    method = KLamp().fit(bare, RUN)
    assert method.questions_ == []
    query = Query("u", CYCLIST, context=PAGE, time_ms=9 * DAY_MS)
    texts = [suggestion["text"] for suggestion in suggestions(method, query)]
    assert "museum cycling" in texts


@pytest.mark.parametrize(
    ("reply", "first"),
    [
        ('{"suggestions": ["night rides to the museum by cycling", "lottery"]}', "night rides"),
        ('```json\n["museum at night", "canal cycling"]\n```', "museum at night"),
        ("I cannot help with that.", "museum cycling"),
        ('{"suggestions": 3}', "museum cycling"),
        ("", "museum cycling"),
    ],
)
def test_suggestions_of_a_model_must_name_an_entity_of_page_or_store(reply, first):
    method = METHOD._with_state()
    method.llm = ScriptedModel(reply=reply)
    texts = [
        suggestion["text"]
        for suggestion in suggestions(method, Query("u", CYCLIST, context=PAGE, time_ms=9 * DAY_MS))
    ]
    assert texts[0].startswith(first) and "lottery" not in texts
    assert len(texts) == method.n == len(set(texts))


def test_wrong_settings_and_lists_are_named():
    for settings in ({"n": 0}, {"store_weight": -1}, {"half_life_days": 0}, {"chosen": 0}):
        with pytest.raises(DataError, match=next(iter(settings))):
            KLamp(**settings)
    with pytest.raises(DataError, match="2 lists of questions for 1"):
        METHOD.score([Query()], [["a"], ["b"]])
    assert np.isfinite(METHOD.score([Query()], [["nothing", "museum"]])[0]).all()

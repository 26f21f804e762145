"""Entities: linking texts to them, and a store of counts that forgets what it is told to."""

import json

import pytest

from tailor.errors import DataError
from tailor.profiles.entities import (
    DAY_MS,
    MAX_ENTITIES,
    EntityLinker,
    EntityStore,
)


def test_the_longest_name_is_linked_whatever_its_form():
    linker = EntityLinker.named(["fiction", "science fiction", "tram"])
    assert linker.link("The Trams of SCIENCE-fiction") == [2, 1]
    assert linker.link("fictions, fiction") == [0]
    assert linker.link("") == [] and linker.link("harbour") == []
    assert linker.matrix(["tram", "", "fiction tram"]).toarray().tolist() == [
        [0, 0, 1],
        [0, 0, 0],
        [1, 0, 1],
    ]


def test_attribute_values_and_phrases_of_several_texts_are_entities():
    texts = ["green tea pot", "green tea cup", "blue vase", *["tin"] * 5]
    linker = EntityLinker.of([["Tea Ware"], ["Tea Ware", "Glass"]], texts, most_share=0.4)
    assert {"Tea Ware", "Glass", "green"} <= set(linker.names)
    assert not {"blue", "vase", "tin"} & set(linker.names)
    again = EntityLinker.named(linker.names)
    assert again.row_of == linker.row_of


def test_texts_of_one_owner_count_once():
    texts = ["night tram", "night tram", "harbour fog", "harbour fog", "harbour"]
    owners = ["ann", "ann", "ann", "bob", None]
    linker = EntityLinker.of([], texts, most_share=1.0, owners=owners)
    assert {"harbour", "harbour fog", "fog"} == set(linker.names)
    assert "tram" in EntityLinker.of([], texts, most_share=1.0).names


def test_interest_halves_by_time_and_familiarity_saturates():
    store = EntityStore(half_life_days=30).after_search(["tram"], 0)
    store = store.after_search(["tram"], 30 * DAY_MS)
    assert store.interests(30 * DAY_MS) == {"tram": pytest.approx(1.5)}
    assert store.interests(60 * DAY_MS) == {"tram": pytest.approx(0.75)}
    late = store.after_search(["tram"], 0)  # a late event counts as it would have
    assert late.interests(60 * DAY_MS) == {"tram": pytest.approx(1.0)}
    for page in ("a", "a", "b", "a"):
        store = store.after_page(["tram"], page, 61 * DAY_MS)
    assert store.uses["tram"].pages == 2
    assert store.uses["tram"].familiarity == pytest.approx(1 - 2.718281828 ** (-2 / 3))


def test_a_deleted_entity_never_comes_back_and_is_not_named():
    store = EntityStore().after_search(["Tram", "harbour"], 0).without("tram")
    store = store.after_search(["Tram"], 1).after_page(["tram", "canal"], "p", 2)
    assert set(store.uses) == {"harbour", "canal"} and store.is_deleted("TRAM")
    assert "tram" not in json.dumps(store.plain()).casefold()
    assert EntityStore.of(store.plain()) == store
    assert EntityStore.of(store.plain()).after_search(["tram"], 3).uses.keys() == store.uses.keys()


def test_a_store_is_bounded_and_keeps_what_interests_most():
    store = EntityStore()
    for number in range(3 * MAX_ENTITIES):
        store = store.after_search([f"thing {number}"], number * DAY_MS)
        store = store.after_search(["tram"], number * DAY_MS)
    assert len(store.uses) == MAX_ENTITIES and "tram" in store.uses
    assert "thing 0" not in store.uses
    assert len(json.dumps(store.plain()).encode()) <= 4_096


def test_what_is_no_store_is_refused():
    with pytest.raises(DataError, match="cannot be read"):
        EntityStore.of({"entities": {"tram": 3}})
    with pytest.raises(DataError, match="half_life_days"):
        EntityStore(half_life_days=0)

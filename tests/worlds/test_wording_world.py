"""The planted wordings: all mean the same, and unseen ones are unseen."""

import pytest

from tailor.errors import DataError
from tailor.evaluation.consistency import wording_groups
from tailor.worlds.wordings import (
    CONSTRAINTS,
    ERAS,
    GENRES,
    LEARNED,
    WORDINGS,
    worded,
    wording_world,
)

WORLD = wording_world(films=4, seed=1)


def test_the_same_arguments_give_the_same_world_and_others_do_not():
    hashes = [wording_world(2, seed).data.content_hash for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    with pytest.raises(DataError):
        wording_world(films=0)


def test_every_request_is_worded_in_ways_that_are_not_learned_from():
    learned, unseen = wording_groups(WORLD.data), wording_groups(WORLD.unseen)
    assert [group.intent for group in learned] == [group.intent for group in unseen]
    assert len(learned) == len(GENRES) * len(ERAS) * len(CONSTRAINTS)
    for group, other in zip(learned, unseen, strict=True):
        assert len(group.texts) == LEARNED and len(other.texts) == len(WORDINGS) - LEARNED
        assert not set(group.texts) & set(other.texts)
        assert set(group.item_ids) == set(other.item_ids) and 3 <= len(group.item_ids) <= 5


def test_good_films_say_all_three_parts_and_others_do_not():
    texts = dict(zip(WORLD.data.catalogue.ids.tolist(), WORLD.data.item_texts, strict=True))
    for group in wording_groups(WORLD.data)[:20]:
        genre, era, constraint = group.intent.split("-")
        ways = (GENRES[genre], ERAS[era], CONSTRAINTS[constraint])
        fits = {
            item
            for item, text in texts.items()
            if all(any(way in text for way in of_part) for of_part in ways)
        }
        assert set(group.item_ids) == fits


def test_a_wording_holds_one_way_of_each_part():
    kind = ("comedy", "1970s", "silent")
    for number in range(len(WORDINGS)):
        text = worded(kind, number)
        for ways in (GENRES["comedy"], ERAS["1970s"], CONSTRAINTS["silent"]):
            assert any(way in text for way in ways)
    assert len({worded(kind, number) for number in range(len(WORDINGS))}) == len(WORDINGS)

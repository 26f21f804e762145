"""The planted shop of two look-ups: what was ordered follows from the history alone."""

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.hops import hops


def title_words(world):
    table = world.data.item_table
    titles = zip(table["item_id"].to_list(), table["title"].to_list(), strict=True)
    return {item_id: tuple(title.split()) for item_id, title in titles}


def expected_order(words, history, genre):
    """Follow the two look-ups over titles, event by event."""
    maker = next(words[item][1] for item in reversed(history) if words[item][0] == genre)
    first = next(item for item in reversed(history) if words[item][0] == genre)
    other = next(i for i in reversed(history) if words[i][1] == maker and words[i] != words[first])
    return (genre, maker, words[other][2])


def test_orders_hang_on_two_look_ups():
    world = hops(people=40, asked=60, seed=3)
    words = title_words(world)
    for query, order, carts in zip(world.queries, world.orders, world.carts, strict=True):
        expected = expected_order(words, query.history.item_ids, query.text)
        assert words[order] == expected
        assert {words[item][:2] for item in carts} == {expected[:2]} and len(carts) == 6


def test_the_log_follows_the_same_rule():
    world = hops(people=60, asked=5, seed=1)
    words = title_words(world)
    events = world.data.events
    texts = dict(world.data.tables["requests"].select("user_id", "text").iter_rows())
    for user, text in texts.items():
        own = events.filter(events["user_id"] == user)
        by_action = own.partition_by("action", as_dict=True, maintain_order=True)
        items = {action: frame["item_id"].to_list() for (action,), frame in by_action.items()}
        expected = expected_order(words, items["view"], text)
        assert [words[item] for item in items["order"]] == [expected]
        assert words[items["cart"][0]][:2] == expected[:2]
        assert [words[item][0] for item in items["click"]] == [text, text]
        assert own["action"].to_list()[-4:] == ["click", "click", "cart", "order"]


def test_what_was_not_reached_is_missing():
    world = hops(people=400, asked=5, deeper=0.5)
    counts = dict(world.data.events["action"].value_counts().iter_rows())
    assert counts["click"] == 800
    assert counts["cart"] == pytest.approx(200, abs=40)
    assert counts["order"] == pytest.approx(100, abs=35)


def test_rare_words_stand_in_no_title():
    world = hops(people=200, asked=100, rare=0.4, rare_words=5)
    known = {word for words in title_words(world).values() for word in words}
    is_unknown = [query.text not in known for query in world.queries]
    assert is_unknown == world.is_rare.tolist()
    assert np.mean(is_unknown) == pytest.approx(0.4, abs=0.15)
    rare = {text for text in world.data.tables["requests"]["text"] if text not in known}
    assert len(rare) <= 30


def test_the_same_arguments_give_the_same_log():
    one, other = hops(50, 5, seed=3), hops(50, 5, seed=3)
    assert one.data.content_hash == other.data.content_hash and one.orders == other.orders
    assert one.data.content_hash != hops(50, 5, seed=4).data.content_hash


def test_sizes_that_cannot_be_are_named():
    with pytest.raises(DataError, match="people 0"):
        hops(people=0)

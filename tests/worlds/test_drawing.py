"""Drawn pictures: attributes are to be seen, and worlds of pages and looks hold what they say."""

import itertools

import numpy as np
import polars as pl
import pytest

from tailor.data.pictures import item_pictures, read_png
from tailor.errors import DataError
from tailor.text.words import words
from tailor.worlds.looks import KINDS, looks
from tailor.worlds.pages import NAMES, pages
from tailor.worlds.pictures import (
    BACKGROUNDS,
    CHARTS,
    COLOURS,
    SHAPES,
    SIZES,
    STAMPS,
    TABLES,
    TEXTURES,
    Page,
    Thing,
    draw_page,
    draw_thing,
)


def share_of(pixels, colour, tolerance=60):
    """Share of the pixels near a colour, in the light that a picture may have."""
    distance = np.abs(pixels.astype(int) - 255 * np.array(colour) * 0.95).max(axis=2)
    return (distance < tolerance).mean()


@pytest.mark.parametrize(("shape", "colour"), list(itertools.product(SHAPES, ("red", "blue"))))
def test_a_thing_has_its_colour_and_a_small_one_less_of_it(shape, colour):
    areas = {
        size: share_of(
            draw_thing(Thing(shape, colour, size=size), np.random.default_rng(1)), COLOURS[colour]
        )
        for size in SIZES
    }
    assert 0.02 < areas["small"] < areas["medium"] < areas["large"]
    other = COLOURS["green"]
    assert share_of(draw_thing(Thing(shape, colour), np.random.default_rng(1)), other) < 0.01


def test_shapes_textures_and_backgrounds_differ():
    def drawn(**attributes):
        thing = {"shape": "circle", "colour": "red", "size": "large"} | attributes
        return draw_thing(Thing(**thing), np.random.default_rng(2)).astype(int)

    for name, values in (("shape", SHAPES), ("texture", TEXTURES), ("background", BACKGROUNDS)):
        pictures = [drawn(**{name: value}) for value in values]
        for one, other in itertools.combinations(pictures, 2):
            assert np.abs(one - other).mean() > 3
    again = draw_thing(Thing("star", "blue"), np.random.default_rng(3))
    assert np.array_equal(again, draw_thing(Thing("star", "blue"), np.random.default_rng(3)))


def test_a_page_shows_its_chart_its_table_and_its_stamp():
    def drawn(**attributes):
        return draw_page(Page(**attributes), np.random.default_rng(4)).astype(int)

    for chart in CHARTS[1:]:
        assert share_of(drawn(chart=chart, colour="green"), COLOURS["green"]) > 0.02
    assert share_of(drawn(), COLOURS["green"]) == 0
    ink = {table: (drawn(table=table).max(axis=2) < 90).mean() for table in TABLES}
    assert ink["none"] < ink["short"] < ink["long"]
    stamps = {stamp: (drawn(stamp=stamp).max(axis=2) < 90).mean() for stamp in STAMPS}
    assert stamps["none"] < min(stamps["round"], stamps["square"])


def test_pages_to_learn_from_and_to_judge_by_share_nothing():
    world = pages(60, 40, seed=3)
    learned, judged = world.learned, world.judged
    assert set(learned.catalogue.ids).isdisjoint(judged.catalogue.ids)
    texts = [set(words(" ".join(part.item_texts))) for part in (learned, judged)]
    assert texts[0].isdisjoint(texts[1])
    looks_words = {word for name in NAMES for word in (name, *itertools.chain(*NAMES[name]))}
    assert looks_words.isdisjoint(texts[0] | texts[1])  # texts tell nothing about pictures
    frames = [set(part.tables["requests"]["text"]) for part in (learned, judged)]
    assert all(
        any(new in text for new in itertools.chain(*[n[1] for n in NAMES.values()]))
        for text in frames[1]
    )
    same = pages(60, 40, seed=3)
    assert same.learned.content_hash == learned.content_hash
    assert pages(60, 40, seed=4).learned.content_hash != learned.content_hash


def test_a_request_names_words_and_looks_of_its_page():
    learned = pages(60, 40).learned
    items = {row["item_id"]: row for row in learned.item_table.iter_rows(named=True)}
    requests = dict(learned.tables["requests"].iter_rows())
    pairs = learned.tables["judgements"].select("query_id", "item_id").rows()
    assert len(pairs) > 20
    for request, item in pairs:
        text, page = requests[request], items[item]
        assert len(set(words(text)) & set(page["text"].split())) == 2
        shown = [page[name] for name in ("chart", "table", "stamp") if page[name] != "none"]
        named = [name for name in NAMES if any(n in text for n in NAMES[name][0])]
        assert set(named) - {"pie"} <= set(shown) and len(shown) >= 2
        if page["chart"] in named and page["chart"] != "pie":
            assert page["colour"] in text


def test_pictures_of_a_world_can_be_read():
    data = pages(20, 20).learned
    pictures = item_pictures(data)
    assert all(read_png(picture).shape == (64, 64, 3) for picture in pictures)
    assert len(set(pictures)) == len(pictures)


def test_tastes_in_looks_drift_or_stay():
    def share_that_fits(data, part):
        """Share of a part of each user's events that have the user's last colour."""
        colour = dict(data.item_table.select("item_id", "colour").iter_rows())
        shares = []
        for _, of_user in data.events.group_by("user_id"):
            colours = [colour[item] for item in of_user.sort("time_ms")["item_id"]]
            last = pl.Series(colours[-5:]).mode().sort()[0]
            shares.append(np.mean([c == last for c in colours[part]]))
        return np.mean(shares)

    drifting, steady = looks(80, 200, seed=1), looks(80, 200, seed=1, drift=False)
    late, early = slice(-4, None), slice(0, 4)
    assert share_that_fits(drifting, late) > 0.7 and share_that_fits(steady, late) > 0.7
    assert share_that_fits(steady, early) > 0.7
    assert share_that_fits(drifting, early) < 0.45
    assert set(drifting.item_table["title"]) <= set(KINDS)
    assert looks(9, 30, seed=2).content_hash == looks(9, 30, seed=2).content_hash


def test_too_little_is_refused():
    for make in (lambda: pages(19, 40), lambda: looks(0), lambda: looks(events=2)):
        with pytest.raises(DataError):
            make()

"""The planted log of facets: its rules, its words, and what its tables must not tell."""

import re

import numpy as np
import polars as pl
import pytest

from tailor.data.pictures import read_png
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.worlds.facets import facets, wish_text

SMALL = {"people": 60, "length": 6}


def event_codes(world):
    """Return (U, L, F) the values of each event's item, oldest first."""
    rows = world.data.sequences.rows
    return world.truth.items.codes[rows.values].reshape(len(rows), -1, world.truth.ways.shape[2])


def test_the_same_arguments_give_the_same_log():
    one, other = facets(**SMALL, seed=3), facets(**SMALL, seed=3)
    assert one.data.content_hash == other.data.content_hash
    assert one.data.content_hash != facets(**SMALL, seed=4).data.content_hash


def test_there_is_an_item_of_every_combination():
    items = facets(**SMALL, values=(3, 2, 4), copies=2).truth.items
    combinations, counts = np.unique(items.codes, axis=0, return_counts=True)
    assert len(combinations) == 3 * 2 * 4
    assert (counts == 2).all()
    assert (items.matching(np.array([[1, -1, 3]])).sum(axis=1) == 2 * 2).all()


def test_histories_keep_walk_and_follow_wishes():
    world = facets(**SMALL, noise=0.0)
    kind, maker, colour, shape = np.moveaxis(event_codes(world), 2, 0)
    assert (kind == kind[:, :1]).all()
    assert (np.diff(maker, axis=1) % 5 == 1).all()
    assert (colour == world.truth.wishes[:, :, 2]).all()
    assert 0.1 < (shape[:, 1:] == shape[:, :-1]).mean() < 0.4  # by chance, one in four
    assert len(np.unique(kind[:, 0])) == 6


def test_without_wishes_nothing_is_asked_for():
    world = facets(**SMALL, wished=())
    assert "texts" not in world.data.tables
    assert (world.truth.wishes == -1).all()


def test_noise_is_any_item_and_is_rated_low():
    world = facets(people=400, length=6, noise=0.3)
    truth = world.truth
    assert truth.is_noise.mean() == pytest.approx(0.3, abs=0.03)
    kinds = event_codes(world)[:, :, 0]
    follows = kinds == truth.ways[:, :, 0]
    assert follows[~truth.is_noise].all()
    assert follows[truth.is_noise].mean() == pytest.approx(1 / 6, abs=0.04)
    values = world.data.queries(columns=["values"]).columns["values"].values
    assert (values == np.where(truth.is_noise, 2.0, 5.0).ravel()).all()


def test_tables_tell_only_the_facets_named():
    hidden = facets(**SMALL, named=("kind", "shape"))
    items = hidden.data.tables["items"]
    assert items.columns == ["item_id", "title", "kind", "shape"]
    words = {word for title in items["title"].to_list() for word in title.split()}
    assert words == set(hidden.truth.items.words[0] + hidden.truth.items.words[3])
    assert set(facets(**SMALL, named=()).data.tables["items"]["title"].to_list()) == {""}


def test_titles_name_the_values_of_the_item():
    world = facets(**SMALL)
    truth = world.truth.items
    for row in range(0, len(truth.codes), 97):
        words = [truth.words[column][value] for column, value in enumerate(truth.codes[row])]
        assert world.data.item_texts[row] == " ".join(words)


def test_pictures_show_the_facets_drawn():
    world = facets(**SMALL, drawn=("colour",), named=("kind",), side=24)
    contents = dict(world.data.tables["assets"].select("asset_id", "content").iter_rows())
    truth = world.truth.items
    means = []
    for item_id in truth.catalogue.ids.tolist():
        pixels = np.asarray(read_png(contents[item_id]), dtype=float)
        assert pixels.shape == (24, 24, 3)
        saturation = pixels.max(axis=2) - pixels.min(axis=2)
        means.append(pixels[saturation > 60].mean(axis=0))
    means = np.array(means)
    values = truth.codes[:, truth.facets.index("colour")]
    centres = np.array([means[values == value].mean(axis=0) for value in range(6)])
    nearest = ((means[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == values).mean() > 0.9


def test_reviews_tell_wishes_and_whether_they_were_met():
    world = facets(people=200, length=6, noise=0.5)
    texts = world.data.tables["texts"].filter(pl.col("kind") == "review")
    reviews = dict(zip(zip(*texts.select("user_id", "time_ms"), strict=True), texts["text"]))
    queries = world.data.queries()
    colours = world.truth.items.words[2]
    codes = event_codes(world)
    for user in range(0, 200, 17):
        for event, time_ms in enumerate(queries[user].history.times_ms):
            review = reviews[queries.user_ids[user], time_ms]
            wish = colours[world.truth.wishes[user, event, 2]]
            value = colours[codes[user, event, 2]]
            named = set(re.findall(r"\w+", review)) & set(colours)
            assert wish in named
            assert named <= {wish, value}


def test_a_query_asks_for_the_wish_of_its_event():
    world = facets(**SMALL)
    split = last_out(world.data)
    colours = world.truth.items.words[2]
    for part, event in (("test", -1), ("valid", -2)):
        queries, _ = split.queries(part)
        rows = world.data.users.rows(queries.user_ids.tolist())
        wishes = world.truth.wishes[rows, event, 2]
        asked = world.asking(queries)
        assert [colours[wish] in asked.text(i) for i, wish in enumerate(wishes)] == [True] * 60
        assert len({asked.text(i) for i in range(60)}) > 10
    assert not queries.text(0)


def test_no_text_of_a_hidden_event_is_in_the_training_part():
    split = last_out(facets(**SMALL).data)
    last = split.train.events.group_by("user_id").agg(pl.col("time_ms").max().alias("last"))
    texts = split.train.tables["texts"].join(last, on="user_id")
    assert (texts["time_ms"] <= texts["last"]).all()
    # texts about an item that is hidden too are missing
    assert 0.95 * 2 * 240 < len(texts) <= 2 * 240


def test_a_lasting_taste_is_asked_for_again():
    truth = facets(**SMALL, lasting=1.0).truth
    assert (truth.wishes == truth.tastes[:, None]).all()
    some = facets(people=300, length=6, lasting=0.5).truth
    is_taste = (some.wishes == some.tastes[:, None])[:, :, 2]
    assert is_taste.mean() == pytest.approx(0.5 + 0.5 / 6, abs=0.04)


def test_late_histories_say_nothing_of_the_taste_but_reviews_do():
    world = facets(people=600, length=6, late=1, lasting=1.0, noise=0.0)
    colours = event_codes(world)[:, :, 2]
    is_taste = colours == world.truth.tastes[:, 2:3]
    assert is_taste[:, -1].all()
    assert is_taste[:, :-1].mean() == pytest.approx(1 / 6, abs=0.02)
    texts = world.data.tables["texts"]
    last = texts.group_by("user_id").agg(pl.col("time_ms").max().alias("last"))
    early = texts.join(last, on="user_id").filter(pl.col("time_ms") < pl.col("last"))
    assert set(early["kind"]) == {"review"}
    words = world.truth.items.words[2]
    tastes = [words[taste] for taste in world.truth.tastes[:, 2]]
    named = dict(zip(world.data.users.ids.tolist(), tastes, strict=True))
    for user_id, text in early.select("user_id", "text").head(200).iter_rows():
        assert set(re.findall(r"\w+", text)) & set(words) == {named[user_id]}


def test_chances_by_hand():
    world = facets(**SMALL, values=(2, 2, 3), noise=0.25)
    truth = world.truth
    person = np.array([7])
    kind, maker, wish = truth.ways[7, -1, 0], truth.ways[7, -1, 1], truth.wishes[7, -1, 2]
    fits = (truth.items.codes == [kind, maker, wish]).all(axis=1)
    assert truth.chances(person)[0, fits] == pytest.approx(0.75 + 0.25 / 12)
    assert truth.chances(person)[0, ~fits] == pytest.approx(0.25 / 12)
    nothing = truth.chances(person, wishes=np.full((1, 3), -1))[0]
    fits = (truth.items.codes[:, :2] == [kind, maker]).all(axis=1)
    assert nothing[fits] == pytest.approx(0.75 / 3 + 0.25 / 12)
    assert nothing.sum() == pytest.approx(1.0)


def test_wishes_in_words():
    assert wish_text(["red", "star"], 1) == "red star please"
    assert wish_text(["red", "star"], 4, avoid=True) == "nothing red or star"
    assert wish_text([]) == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"people": 0}, "people 0"),
        ({"values": (7, 5, 7)}, "colour 6"),
        ({"values": ()}, "values"),
        ({"kept": ("color",)}, 'kept "color" is no facet'),
        ({"kept": "kind"}, r'write \("kind",\)'),
        ({"kept": ("kind",), "walked": ("kind",)}, '"kind" is in two of'),
        ({"drawn": ("maker",)}, 'drawn "maker" cannot be drawn'),
        ({"late": 7}, "late is 7"),
        ({"noise": 1.5}, "noise 1.5"),
    ],
)
def test_what_cannot_be_is_named(settings, message):
    with pytest.raises(DataError, match=message):
        facets(**(SMALL | settings))

"""Critiques and narratives by templates: what they say, and what they must not know."""

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.generative.regen import (
    Titles,
    critique,
    drawn_words,
    narrate,
    narrative_words,
    praise,
    regen_records,
    wanted_words,
    with_critiques,
)
from tailor.worlds.facets import facets

RED, BLUE = ["rug", "red", "star"], ["rug", "blue", "star"]


def test_a_critique_names_one_word_to_add_and_one_to_drop():
    rng = np.random.default_rng(0)
    pairs = {drawn_words(["rug", "red", "star"], ["rug", "blue", "ring"], rng) for _ in range(50)}
    assert pairs == {("blue", "red"), ("blue", "star"), ("ring", "red"), ("ring", "star")}
    assert drawn_words(RED, [*RED, "large"], rng) == ("large", "")
    assert drawn_words(RED, RED, rng) == ("", "")


def test_critiques_read_back_as_they_were_meant():
    rng = np.random.default_rng(0)
    texts = {critique("blue", "red", "Rug Red Star", rng) for _ in range(60)}
    assert len(texts) == 4
    assert all(wanted_words(text) == (["blue"], ["red"]) for text in texts)
    assert all(
        wanted_words(critique("blue", "", "Rug Red", rng)) == (["blue"], []) for _ in range(30)
    )
    assert all(
        wanted_words(critique("", "red", "Rug Red", rng)) == ([], ["red"]) for _ in range(30)
    )
    assert critique("", "", "Rug", rng) == ""


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("cheaper and unscented", ["cheaper", "unscented"], []),
        ("like this mug but larger, without a handle", ["larger"], ["handle"]),
        ("blue rather than red", ["blue", "rather"], ["red"]),
        ("not red but blue", ["blue"], ["red"]),
        ("", [], []),
    ],
)
def test_requests_are_read(text, wanted, unwanted):
    assert wanted_words(text) == (wanted, unwanted)


def test_a_narrative_says_what_is_so_and_what_is_not():
    history = [["rug", "red"], ["rug", "green"]]
    story = narrate(BLUE, history, "blue, not red", ["I love a star. Bad glue."])
    assert story.purchase_reason == ("You asked for blue, and it is. As you wished, it is not red.")
    assert story.explanation == "It is rug, blue and star; rug like what you chose before."
    assert story.endorsement == "I love a star."
    assert story.user_summary == "You often choose rug."
    assert 'You wrote: "I love a star."' in story.text
    missed = narrate(RED, history, "green, not red").purchase_reason
    assert missed == (
        "It is not green, though you asked for that. It is red, though you asked for something"
        " else."
    )
    assert narrate([], []).text == ""


def test_only_praise_is_quoted():
    assert praise(["good", "bad", ""], [5.0, 2.0, 5.0]) == ["good"]
    assert praise(["one", None], [None, None]) == ["one"]


def test_records_know_nothing_of_their_own_review_or_later():
    world = facets(30, 5, seed=1)
    records = list(regen_records(world.data))
    assert [record["user_id"] for record in records] == world.data.users.ids.tolist()
    for record in records:
        earlier = []
        for step in record["steps"]:
            quote = step["narrative"]["endorsement"]
            assert not quote or any(quote in review for review in earlier)
            earlier.append(step["review"])
            assert step["origin"] == "template"
        assert record["steps"][0]["critique"] == ""
    assert sum(bool(step["critique"]) for record in records for step in record["steps"]) > 60


def test_critiques_stay_within_a_category():
    events = [("u", item, time) for time, item in enumerate(("a", "b", "c"))]
    items = [
        ("a", "red rug", ["rugs"]),
        ("b", "blue rug", ["rugs"]),
        ("c", "blue red mug", ["mugs"]),
        ("d", "mug", ["mugs"]),
    ]
    data = Dataset(
        {
            "events": pl.DataFrame(events, ["user_id", "item_id", "time_ms"], orient="row"),
            "items": pl.DataFrame(items, ["item_id", "title", "categories"], orient="row"),
        }
    )
    (record,) = regen_records(data)
    remarks = [step["critique"] for step in record["steps"]]
    assert remarks[0] == remarks[2] == ""
    assert wanted_words(remarks[1]) == (["blue"], ["red"])


def test_queries_get_the_critique_that_leads_to_their_target():
    world = facets(60, 6, seed=2)
    split = last_out(world.data)
    queries, targets = split.queries("test")
    asked = with_critiques(queries, targets, world.data, np.random.default_rng(0))
    titles = Titles.of(world.data)
    count = 0
    for i in range(len(asked)):
        wanted, unwanted = wanted_words(asked.text(i))
        before = titles.words[int(queries.histories[i][-1])]
        after = titles.words[int(targets[i][0])]
        assert set(wanted) <= set(after) - set(before)
        assert set(unwanted) <= set(before) - set(after)
        count += bool(asked.text(i))
    assert count > 40


def test_titles_without_shared_words_are_refused():
    data = facets(5, 3, wished=(), named=()).data
    with pytest.raises(DataError, match="no two titles share a word"):
        next(regen_records(data))


def test_the_words_of_templates_are_all_but_those_of_titles():
    said = {"you", "asked", "for", "and", "it", "is", "as", "wished", "not"}
    assert set(narrative_words()) == said | {"like", "what", "chose", "before"}

"""The assistant folds a dialogue into wishes, and answers with the most popular that meets them."""

import polars as pl
import pytest

from tailor.conversation.popular_assistant import PopularAssistant
from tailor.data.dataset import Dataset
from tailor.data.nouns import Act, Query, Turn
from tailor.errors import DataError

ITEMS = pl.DataFrame(
    {
        "item_id": ["kettle", "pot", "lamp", "tent"],
        "title": ["Copper kettle", "Iron pot", "Copper lamp", "Green tent"],
        "categories": [["kitchen"], ["kitchen"], ["light"], ["camp"]],
    }
)
EVENTS = pl.DataFrame(
    {"user_id": list("aabbbc"), "item_id": ["tent", "pot", "tent", "lamp", "kettle", "lamp"]}
)
METHOD = PopularAssistant(k=2).fit(Dataset({"events": EVENTS, "items": ITEMS}))


def answer(*texts: str, query: Query | None = None) -> Turn:
    return METHOD.act([[Turn("user", text) for text in texts]], [query or Query()])[0]


def test_the_most_popular_item_with_the_words_comes_first():
    turn = answer("something of copper, please")
    assert turn.item_ids == ("lamp", "kettle") and turn.speaker == "assistant"
    assert turn.text == 'How about "Copper lamp" and "Copper kettle"?'
    assert turn.acts == (turn.acts[0], turn.acts[1]) and turn.acts[0].value == "lamp"
    assert isinstance(turn.acts[0], Act) and not turn.notes


def test_items_with_more_of_the_words_go_before():
    assert answer("copper for the kitchen").item_ids == ("kettle",)


@pytest.mark.parametrize(
    ("texts", "items"),
    [
        (("kitchen things, but no copper",), ("pot",)),
        (("copper", "not for the kitchen"), ("lamp",)),
        (("without copper. kitchen!",), ("pot",)),
        (("no copper", "well, copper after all"), ("lamp", "kettle")),  # the later word counts
    ],
)
def test_what_is_ruled_out_is_not_named(texts, items):
    assert answer(*texts).item_ids == items


def test_what_was_named_is_not_named_again():
    first = METHOD.act([[Turn("user", "copper")]])[0]
    dialogue = [Turn("user", "copper"), first, Turn("user", "another one")]
    turn = METHOD.act([dialogue])[0]
    assert set(turn.item_ids) == {"tent", "pot"} and "no item left holds copper" in turn.notes[0]
    last = METHOD.act([[*dialogue, turn, Turn("user", "more")]])[0]
    assert not last.item_ids and last.text and last.notes


def test_excluded_items_are_never_named():
    assert answer("copper", query=Query(exclude=("lamp",))).item_ids == ("kettle",)


def test_a_message_that_is_not_understood_is_answered_by_the_popular():
    turn = answer("日本")
    assert turn.item_ids[0] in ("tent", "lamp") and "no word of the dialogue" in turn.notes[0]
    opening = METHOD.act([[]])[0]
    assert opening.text.startswith("Hello!") and not opening.notes


def test_words_of_the_assistant_are_no_wishes():
    turn = METHOD.act([[Turn("assistant", "Do you like copper?"), Turn("user", "a tent")]])[0]
    assert turn.item_ids == ("tent",)


def test_a_bad_setting_is_refused():
    with pytest.raises(DataError, match="k is 0"):
        PopularAssistant(k=0)
    with pytest.raises(DataError):
        PopularAssistant(language="klingon")

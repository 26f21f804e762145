"""Histories bring what users did, how they rated it and what they wrote."""

import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, same
from tailor.errors import DataError

EVENTS = pl.DataFrame(
    {
        "user_id": ["u", "v", "u", "u"],
        "item_id": ["a", "a", "b", "a"],
        "time_ms": [30, 20, 10, 40],
        "action": ["buy", "view", None, "buy"],
        "value": [5.0, None, 3.0, 1.0],
    }
)
TEXTS = pl.DataFrame(
    {
        "user_id": ["u", "u", "w", "w"],
        "item_id": ["a", "a", "a", "a"],
        "time_ms": [40, 30, 1, 1],
        "text": ["worse now", "warm", "no", "no"],
    }
)


def test_columns_stand_beside_their_items_in_the_order_of_time():
    data = Dataset({"events": EVENTS, "texts": TEXTS})
    queries = data.queries(["u", "v", "new"], columns=("actions", "values", "texts"))
    assert same(
        queries[0].history,
        History(
            ("b", "a", "a"),
            (10, 30, 40),
            ("", "buy", "buy"),
            (3.0, 5.0, 1.0),
            ("", "warm", "worse now"),
        ),
    )
    assert same(queries[1].history, History(("a",), (20,), ("view",)))
    assert queries[2].history.item_ids == ()
    assert same(data.queries(["u"])[0].history, History(("b", "a", "a"), (10, 30, 40)))


def test_a_text_without_a_time_goes_with_every_event_of_user_and_item():
    data = Dataset({"events": EVENTS, "texts": TEXTS.drop("time_ms").head(1)})
    history = data.queries(["u"], columns=["texts"])[0].history
    assert history.texts == ("", "worse now", "worse now")


@pytest.mark.parametrize(
    ("columns", "says"),
    [(["text"], 'Did you mean "texts"'), (["values"], '"value"'), (["texts"], "no table of texts")],
)
def test_a_column_that_is_not_there_is_named(columns, says):
    with pytest.raises(DataError, match=says):
        Dataset({"events": EVENTS.drop("value")}).queries(columns=columns)

"""Codes of item columns: frequent first, rare and missing ones unknown, lists by their last."""

import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.labels import Labels
from tailor.errors import DataError


def data():
    items = {
        "item_id": ["a", "b", "c", "d", "e"],
        "colour": ["red", "blue", "red", None, "green"],
        "categories": [["x", "mug"], ["x", "rug"], ["mug"], [], None],
        "empty": pl.Series([None] * 5, dtype=pl.String),
        "price": [1.5, 1.5, 2.0, None, 2.0],
    }
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})
    return Dataset({"events": events, "items": pl.DataFrame(items)})


def codes_by_id(labels, name):
    column = list(labels.values).index(name)
    return dict(zip(data().catalogue.ids.tolist(), labels.codes[:, column].tolist(), strict=True))


def test_codes_follow_the_frequency_of_values():
    labels = Labels.of(data(), ("colour", "categories", "empty", "price"))
    assert labels.values == {
        "colour": ["red", "blue", "green"],
        "categories": ["mug", "rug"],
        "price": ["1.5", "2.0"],
    }
    assert labels.codes.shape == (5, 3)
    assert codes_by_id(labels, "colour") == {"a": 0, "b": 1, "c": 0, "d": -1, "e": 2}
    assert codes_by_id(labels, "categories") == {"a": 0, "b": 1, "c": 0, "d": -1, "e": -1}


def test_rare_values_and_no_columns():
    labels = Labels.of(data(), ("colour",), most=1)
    assert codes_by_id(labels, "colour") == {"a": 0, "b": -1, "c": 0, "d": -1, "e": -1}
    assert Labels.of(data(), ()).codes.shape == (5, 0)


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(DataError, match=r'"color".*colour'):
        Labels.of(data(), ("color",))

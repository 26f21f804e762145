"""Fields as codes and weights, against values worked out by hand."""

import numpy as np
import polars as pl
import pytest

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.ranking.features import Features

HOUR_MS = 3_600_000


@pytest.fixture
def data():
    events = pl.DataFrame(
        {
            "user_id": ["ann"] * 3 + ["bob"] * 3,
            "item_id": ["a", "b", "a", "a", "b", "c"],
            "time_ms": [1, 2, 3, 4, 5, 6],
        }
    )
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["x", "y", "z"],
            "categories": [["red", "big"], ["red"], None],
            "price": [1.0, 5.0, None],
        }
    )
    users = pl.DataFrame({"user_id": ["ann", "bob"], "age": [20, 70], "town": ["Rome", None]})
    return Dataset({"events": events, "items": items, "users": users})


def learned(data, fields=(), history=2, user_ids=False, least=2, bins=2):
    examples = Outcome("drawn", length=history).learn(data, np.random.default_rng(0))
    positive = examples.take(np.flatnonzero(examples.labels))
    return Features.learned(data, positive, fields, history, user_ids, least, bins)


def fields_of(features, query, item_id):
    """Field -> its (code within the field, weight) pairs that weigh something."""
    queries = Queries.of([query]).reindexed(features_catalogue)
    encoded = features.encoded(queries, Ragged.of([features_catalogue.rows([item_id])]))
    codes, weights = encoded.codes, encoded.weights
    starts = np.r_[0, np.cumsum(features.about["sizes"])[:-1]]
    out = {name: [] for name in features.about["names"]}
    for at, field in enumerate(features.field_of):
        if weights[0, at]:
            out[features.about["names"][field]].append(
                (int(codes[0, at] - starts[field]), round(float(weights[0, at]), 4))
            )
    return out


@pytest.fixture(autouse=True)
def _catalogue(data):
    global features_catalogue  # noqa: PLW0603 (the rows of the fixture's items)
    features_catalogue = data.catalogue


def test_every_field_of_a_known_person_and_item(data):
    features = learned(data)
    assert features.about["names"] == [
        "item_id",
        "item:categories",
        "item:price",
        "user:age",
        "user:town",
        "hour",
        "weekday",
        "history",
    ]
    query = Query(
        "ann", History.of("b", "c", "a"), time_ms=26 * HOUR_MS, context={"age": 20, "town": "Rome"}
    )
    found = fields_of(features, query, "a")
    rows = features_catalogue.rows(["a", "b", "c"]) + 1
    assert found["item:categories"] == [
        (2, 0.5),
        (1, 0.5),
    ], "big and red in the order of the alphabet, half each"
    assert found["item:price"] == [(1, 1.0)] and found["user:town"] == [(1, 1.0)]
    assert found["hour"] == [(3, 1.0)] and found["weekday"] == [(5, 1.0)], (
        "two in the morning of Friday, 2 January 1970"
    )
    assert sorted(found["history"]) == sorted([(int(rows[0]), 0.5), (int(rows[2]), 0.5)]), (
        "the last two"
    )
    assert len(found["item_id"]) == 1 and found["item_id"][0][0] > 0


def test_what_is_not_known_has_the_first_code_of_its_field(data):
    features = learned(data)
    assert fields_of(features, Query(), "c")["item_id"] == [(0, 1.0)], "c has one example only"
    stranger = fields_of(features, Query(context={"age": "odd", "town": "Oslo"}), "never seen")
    assert stranger == {
        "item_id": [(0, 1.0)],
        "item:categories": [],
        "item:price": [(0, 1.0)],
        "user:age": [(0, 1.0)],
        "user:town": [(0, 1.0)],
        "hour": [(0, 1.0)],
        "weekday": [(0, 1.0)],
        "history": [],
    }


def test_no_two_fields_share_a_code(data):
    features = learned(data, user_ids=True)
    queries = data.queries()
    codes = features.encoded(queries, Ragged.of([[0]] * len(queries))).codes
    edges = np.cumsum(features.about["sizes"])
    assert (np.searchsorted(edges, codes, side="right") == np.array(features.field_of)).all()
    assert codes.max() < features.codes == edges[-1]


def test_fields_can_be_chosen_and_misspelt_ones_are_named(data):
    features = learned(data, fields=("item:price", "history"))
    assert features.about["names"] == ["item:price", "history"] and features.items.shape[1] == 1
    assert fields_of(features, Query(), "b") == {"item:price": [(2, 1.0)], "history": []}
    with pytest.raises(DataError, match=r'"item:prise", which is not there.*Did you mean'):
        learned(data, fields=("item:prise",))


def test_users_stay_a_field_beside_chosen_ones_where_their_ids_are_asked_for(data):
    features = learned(data, fields=("item_id",), user_ids=True)
    assert features.about["names"] == ["item_id", "user_id"]


def test_columns_that_tell_items_apart_are_no_field():
    items = pl.DataFrame(
        {
            "item_id": list("abcd"),
            "sku": ["1-a", "2-b", "3-c", "4-d"],
            "maker": ["x", "x", "y", "y"],
        }
    )
    data = Dataset(
        {
            "events": pl.DataFrame(
                {"user_id": ["u"] * 4, "item_id": list("abcd"), "time_ms": [1, 2, 3, 4]}
            ),
            "items": items,
        }
    )
    names = learned(data).about["names"]
    assert "item:maker" in names and "item:sku" not in names


def test_a_list_with_an_empty_value_is_read_without_it(data):
    items = data.tables["items"].with_columns(
        categories=pl.Series([["red", None, "big"], [None], None], dtype=pl.List(pl.String))
    )
    features = learned(Dataset({**data.tables, "items": items}))
    assert fields_of(features, Query(), "a")["item:categories"] == [(2, 0.5), (1, 0.5)]
    assert fields_of(features, Query(), "b")["item:categories"] == []

"""Ids of events that bring none."""

import hashlib

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tailor.data.event_ids import with_event_ids

EVENTS = pl.DataFrame(
    {
        "user_id": ["ann", "bob", "ann", "ann"],
        "item_id": ["x", "x", "y", "x"],
        "time_ms": [1, 2, 3, 1],
        "value": [5.0, None, -0.0, 5.0],
    }
)


def ids(events: pl.DataFrame) -> list[str]:
    return with_event_ids(events)["event_id"].to_list()


def test_an_id_by_hand():
    bits = str(int.from_bytes(bytes.fromhex("4014000000000000"), "big"))
    content = f"0|3:ann1:x1:1-{len(bits)}:{bits}-"
    digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    assert ids(EVENTS)[0] == f"e-{digest}"


def test_equal_events_are_counted_and_all_ids_differ():
    assert len(set(ids(EVENTS))) == 4


def test_neither_order_nor_empty_nor_further_columns_matter():
    assert set(ids(EVENTS[::-1])) == set(ids(EVENTS))
    more = EVENTS.with_columns(
        pl.lit(None, pl.String).alias("action"), pl.Series("colour", list("abcd"))
    )
    assert ids(more.select(sorted(more.columns))) == ids(EVENTS)
    assert ids(EVENTS.with_columns(pl.Series("value", [5.0, None, 0.0, 5.0]))) == ids(EVENTS)


def test_every_part_matters():
    base = EVENTS[:1].with_columns(pl.lit("buy").alias("action"), pl.lit("r").alias("request_id"))
    others = [
        base.with_columns(pl.lit("bob").alias("user_id")),
        base.with_columns(pl.lit("y").alias("item_id")),
        base.with_columns(pl.lit(2, pl.Int64).alias("time_ms")),
        base.with_columns(pl.lit(4.0).alias("value")),
        base.with_columns(pl.lit("see").alias("action")),
        base.with_columns(pl.lit("s").alias("request_id")),
        base.drop("action"),
    ]
    assert len({ids(frame)[0] for frame in [base, *others]}) == 8


def test_ids_that_are_there_stay():
    events = EVENTS.with_columns(pl.Series("event_id", ["mine", None, None, None]))
    assert ids(events)[0] == "mine"
    # what has its own id is no copy of what has none
    assert ids(events)[3] == ids(EVENTS)[0]
    assert ids(events)[1:3] == ids(EVENTS)[1:3]
    whole = EVENTS.with_columns(pl.Series("event_id", list("abcd")))
    assert with_event_ids(whole) is whole


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=1, max_size=6))
def test_different_events_never_share_an_id(pairs):
    pairs = [tuple(text.encode("utf-8", "replace").decode() for text in pair) for pair in pairs]
    events = pl.DataFrame(pairs, schema={"user_id": pl.String, "item_id": pl.String}, orient="row")
    assert len(set(ids(events))) == len(pairs)

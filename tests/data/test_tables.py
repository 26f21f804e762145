"""Frames that come from code are cast where that loses nothing, and refused with table, column and
row where it would.
"""

import datetime as dt

import polars as pl
import pytest

from tailor.data.tables import TABLES, checked
from tailor.errors import DataError


def events(**columns) -> pl.DataFrame:
    return pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"], **columns}, strict=False)


def test_integer_ids_become_strings():
    frame = checked("events", events(user_id=[1, 2]))
    assert frame["user_id"].to_list() == ["1", "2"]
    assert checked("events", events(user_id=pl.Series(["x", "y"], dtype=pl.Categorical)))[
        "user_id"
    ].to_list() == ["x", "y"]


def test_ids_with_a_decimal_point_are_refused():
    """A pandas column of integers with one missing value holds floats: "1.0" would match no other
    table.
    """
    with pytest.raises(DataError, match=r"events.user_id .*decimal point"):
        checked("events", events(user_id=[1.0, 2.0]))


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_an_empty_id_is_refused_with_its_row(column):
    with pytest.raises(DataError, match=f"events.{column} is empty in 1 rows, the first is row 1"):
        checked("events", events(**{column: ["x", None]}))


def test_a_missing_column_names_those_there_are():
    with pytest.raises(
        DataError, match=r'"events" lacks the column "item_id"; it has user_id, thing'
    ):
        checked("events", pl.DataFrame({"user_id": ["u"], "thing": ["a"]}))


def test_an_unknown_table_names_the_nearest():
    with pytest.raises(DataError, match='Did you mean "events"'):
        checked("event", events())


@pytest.mark.parametrize("wrong", [["x", "1"], [float("nan"), 1.0], [2**70 * 1.0, 1.0]])
def test_times_that_are_no_numbers_are_refused(wrong):
    with pytest.raises(DataError, match=r"events.time_ms has values of the wrong type"):
        checked("events", events(time_ms=wrong))


MOMENT = dt.datetime(2020, 1, 1, 0, 0, 1, 500_000)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_moments_become_milliseconds_whatever_their_unit(unit, zone):
    """A cast to whole numbers would count microseconds, and put all events into the year 51970."""
    moments = pl.Series([MOMENT, MOMENT]).cast(pl.Datetime(unit))
    if zone:
        moments = moments.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    assert checked("events", events(time_ms=moments))["time_ms"].to_list() == [1577836801500] * 2


def test_days_become_milliseconds():
    frame = checked("items", pl.DataFrame({"item_id": ["a"], "created_ms": [dt.date(2020, 1, 1)]}))
    assert frame["created_ms"].to_list() == [1577836800000]


@pytest.mark.parametrize("kind", ["duration", "time"])
def test_what_is_no_moment_is_refused(kind):
    wrong = [dt.timedelta(seconds=1)] * 2 if kind == "duration" else [dt.time(1)] * 2
    with pytest.raises(DataError, match="time_ms"):
        checked("events", events(time_ms=wrong))


@pytest.mark.parametrize(
    ("table", "key"), [(name, table.key) for name, table in TABLES.items() if table.key]
)
def test_a_key_given_twice_is_refused(table, key):
    columns = {column: ["x", "x"] for column in TABLES[table].required}
    with pytest.raises(DataError, match=f'{table}.{key} "x" stands in several rows'):
        checked(table, pl.DataFrame(columns))


def test_further_columns_stay_as_they_are():
    frame = checked("events", events(colour=["red", None], count=pl.Series([1, 2], dtype=pl.UInt8)))
    assert frame["colour"].to_list() == ["red", None]
    assert frame.schema["count"] == pl.UInt8


def test_a_position_is_not_cut_to_a_whole_number():
    frame = pl.DataFrame({"request_id": ["r"], "position": [1.5], "item_id": ["a"]})
    with pytest.raises(DataError, match=r"impressions.position"):
        checked("impressions", frame)
    assert checked("impressions", frame.with_columns(position=pl.lit(2.0)))[
        "position"
    ].to_list() == [2]


def test_the_frame_given_is_left_alone():
    frame = events(user_id=[1, 2])
    checked("events", frame)
    assert frame.schema["user_id"] == pl.Int64

"""Any bytes and any tables: a data set or a DataError, and never a row lost."""

import csv
import io
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailor.data import times
from tailor.data.dataset import Dataset
from tailor.data.ids import BLANKS, id_problem
from tailor.data.importers import reading
from tailor.data.importers.importing import import_data
from tailor.errors import DataError

FAST = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
HEADS = [
    b"",
    b"user_id,item_id\n",
    b"user,item,timestamp,rating\n",
    b"event_id;user;item;date\nx;u;a;2014-05-01\n",
    b"\xff\xfe",
    b'"user",item\n',
    b"user_id:token\titem_id:token\ttimestamp:float\n",
]
PIECES = st.sampled_from(
    [
        b",",
        b"\n",
        b'"',
        b"\r\n",
        b"\r",
        b";",
        b"\t",
        b"u",
        b"1400000000",
        b"01/05/2014",
        b"2014-05-01",
        b"nan",
        b"\0",
        b"\xe9",
        "é😀".encode(),
    ]
)


def imported(
    data: bytes, block: int = reading.BLOCK, **options
) -> tuple[dict[str, list], list[tuple]] | str:
    """Events and rejected rows, or the DataError's words; anything else that is raised or left
    behind fails.
    """
    before, reading.BLOCK = reading.BLOCK, block
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "f.csv").write_bytes(data)
            try:
                report = import_data(folder / "f.csv", folder / "out", **options)
            except DataError as error:
                assert [path.name for path in folder.iterdir()] == ["f.csv"]
                return str(error).replace(name, "")
            assert sorted(path.name for path in folder.iterdir()) == ["f.csv", "out"]
            events = Dataset.open(folder / "out").events
            assert len(events) == report.rows["events"]
            bad = folder / "out" / "rejected.parquet"
            rejected = (
                pl.read_parquet(bad).select("line", "reason", "raw").rows() if bad.exists() else []
            )
            assert sum(report.rejected.get("events", {}).values()) == len(rejected)
            assert report.records["events"] == len(events) + len(rejected)
            assert report.lines()
            return events.to_dict(as_series=False), rejected
    finally:
        reading.BLOCK = before


@FAST
@given(
    st.sampled_from(HEADS),
    st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=60).map(b"".join)),
    st.sampled_from(["csv", "sequences", "recbole"]),
)
def test_arbitrary_bytes(head, body, format):
    whole = imported(head + body, format=format)
    if isinstance(whole, tuple):
        assert imported(head + body, 7, format=format) == whole


@FAST
@given(st.lists(PIECES, max_size=80).map(b"".join))
def test_blocks_of_any_size_read_the_same(body):
    data = b"user,item,note\n" + body
    results = [imported(data, block) for block in (reading.BLOCK, 1, 5, 33)]
    assert all(isinstance(one, tuple) == isinstance(results[0], tuple) for one in results)
    if isinstance(results[0], tuple):
        assert all(one == results[0] for one in results)


WORD = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@FAST
@given(
    st.lists(st.tuples(WORD, WORD, WORD), min_size=1, max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_no_row_is_lost_and_ids_come_back(rows, end, quoting):
    # the csv module leaves "\r" bare then, which reads as part of the line end
    if end == "\n" and quoting == csv.QUOTE_MINIMAL:
        rows = [(user, item, note.rstrip("\r")) for user, item, note in rows]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator=end, quoting=quoting).writerows(
        [("user_id", "item_id", "note"), *rows]
    )
    as_text = {"types": {"note": "text"}}
    got = imported(file.getvalue().encode(), **as_text)
    good = [
        (user.strip(BLANKS), item.strip(BLANKS), None if note in ("", r"\N") else note)
        for user, item, note in rows
        if id_problem(user) is None and id_problem(item) is None
    ]
    if isinstance(got, str):
        assert not good
        return
    events, rejected = got
    assert list(zip(events["user_id"], events["item_id"], events["note"])) == good
    assert len(good) + len(rejected) == len(rows)
    assert imported(file.getvalue().encode(), 11, **as_text) == got


@FAST
@given(
    st.lists(
        st.one_of(
            st.text("0123456789.+-:/TZ eE", max_size=25),
            st.integers(-(2**70), 2**70).map(str),
            st.floats().map(str),
        ),
        min_size=1,
    )
)
def test_any_text_as_a_time(texts):
    frame = times.parsed(pl.Series(texts))
    for unit in (None, "s", "ns", "day-first"):
        try:
            value, about = times.settled(frame, unit, "f", pl.Series(range(len(texts))))
        except DataError:
            continue
        known = value.drop_nulls()
        assert known.is_between(times.FIRST, times.LAST).all()
        assert sum(about.counts.values()) == len(known)


@FAST
@given(
    st.datetimes(
        min_value=__import__("datetime").datetime(1971, 1, 1),
        max_value=__import__("datetime").datetime(2100, 12, 31),
    )
)
def test_every_moment_comes_back(moment):
    value, _ = times.settled(
        times.parsed(pl.Series([moment.isoformat()])), None, "f", pl.Series([2])
    )
    assert value.to_list() == pl.Series([moment]).dt.timestamp("ns").to_list()


def test_stray_quotes_do_not_cost_time(tmp_path):
    """Thousands of lines with one quote too many are read in linear time."""
    lines = ["user,item,note"] + [f"u{n},i{n},{chr(34) if n % 2 else ''}x" for n in range(20_000)]
    got = imported("\n".join(lines).encode())
    assert not isinstance(got, str)
    assert len(got[0]["user_id"]) + len(got[1]) <= 20_000


@pytest.mark.parametrize("depth", [10, 100_000])
def test_a_category_list_of_any_depth(tmp_path, depth):
    (tmp_path / "e.csv").write_text("user,item\nu,a\n")
    (tmp_path / "i.csv").write_text("item_id|genres\na|" + "[" * depth + "]" * depth + "\n")
    assert import_data(tmp_path / "e.csv", tmp_path / "out", items=tmp_path / "i.csv").rows == {
        "events": 1,
        "items": 1,
    }

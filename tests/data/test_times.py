"""Times of every spelling, by hand."""

import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.data.times import (
    formatted,
    from_column,
    known_format,
    milliseconds_problem,
    parsed,
    resolved,
    settled,
    understood,
)
from tailor.errors import DataError

MAY = 1398947400000  # 2014-05-01 12:30:00 UTC, checked against `date -u -d @1398947400`


def milliseconds(texts: list[str], unit: str | None = None) -> list[int | None]:
    return [None if one is None else one // 10**6 for one in nanoseconds(texts, unit)]


def nanoseconds(texts: list[str], unit: str | None = None) -> list[int | None]:
    return settled(parsed(pl.Series(texts)), unit, "file.csv", pl.Series(range(2, len(texts) + 2)))[
        0
    ].to_list()


@pytest.mark.parametrize(
    "text",
    [
        "1398947400",
        "1398947400000",
        "1398947400000000",
        "1398947400000000000",
        "1398947400.0",
        "1.3989474e9",
        "+1398947400",
        "1398947400.",
        "2014-05-01 12:30:00",
        "2014-05-01T12:30:00",
        "2014-05-01T12:30",
        "2014-05-01T12:30:00Z",
        "2014-05-01 12:30:00 UTC",
        "2014-05-01T12:30:00.000",
        "2014-05-01T14:30:00+02:00",
        "2014-05-01T14:30:00+0200",
        "2014-05-01T14:30:00+02",
        "2014-05-01T08:00:00-04:30",
        "2014/05/01 12:30:00",
        "2014-5-1 12:30",
        "2014-05-01 12:30:00,000",
        "2014-05-01 12:30 PM",
        "2014-05-01T12:30:00 p.m.",
        "20140501T123000Z",
        "20140501T1230",
        "20140501T123000.000+0000",
        "20140501T143000+02:00",
        "1 May 2014 12:30",
        "01-May-2014 12:30:00",
        "1 MAY 2014, 12:30 pm",
        "01/May/2014:14:30:00 +0200",
        "Thu, 01 May 2014 12:30:00 GMT",
        "Thursday, May 1, 2014 12:30 PM",
        "May 1, 2014 12:30:00 PM",
        "May 1st 2014, 12:30",
        "Thu May  1 12:30:00 2014",
        "Thu May 01 12:30:00 +0000 2014",
        "2014-May-01 12:30",
        "201405011230",
        "20140501123000",
        "20140501123000000",
    ],
)
def test_one_moment_in_many_spellings(text):
    assert milliseconds([text]) == [MAY]


def test_dates_without_a_clock():
    assert milliseconds(["2014-05-01", "1972-02-29", "2000-02-29", "2100-12-31"]) == [
        1398902400000,
        68169600000,
        951782400000,
        4133894400000,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2014-02-29",
        "2014-13-01",
        "2014-00-10",
        "2014-05-00",
        "2014-05-01 24:00",
        "2014-05-01 12:60",
        "soon",
        "12:30",
        "2014-05",
        "31/02/2014",
        "1_000",
        "0x10",
        "inf",
        "٣",
    ],
)
def test_what_is_no_time(text):
    assert understood(parsed(pl.Series([text]))).to_list() == [False]


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1398947400",
        "9999999999",
        "4133980800",
        "1970-12-31T23:59:59.999",
        "2101-01-01",
        "0001-01-01",
        "9999-12-31",
        "99999999999999999999",
        "1e300",
    ],
)
def test_absurd_times(text):
    assert understood(parsed(pl.Series([text]))).to_list() == [True]
    assert nanoseconds([text]) == [None]


def test_the_edges_of_the_absurd():
    assert milliseconds(["31536000"]) == [31536000000]  # 1971-01-01
    assert nanoseconds(["31535999"]) == [None]
    assert milliseconds(["4133980799"]) == [4133980799000]  # the last second of 2100


def test_full_precision():
    assert (
        nanoseconds(
            [
                "1398947400.123456789",
                "1398947400.1234567891",
                "1398947400123.456789",
                "1398947400123456789",
                "1398947400123456.789",
                "2014-05-01T12:30:00.123456789Z",
            ]
        )
        == [1398947400123456789] * 6
    )


def test_the_unit_given_overrides():
    assert milliseconds(["31536000000"], "ms") == [31536000000]  # 1971
    assert nanoseconds(["1398947400"], "ms") == [None]
    assert milliseconds(["1398947400", "2014-05-01 12:30"], "s") == [MAY, MAY]


def test_mixed_units_are_each_judged_by_magnitude():
    texts = ["1398947400", "1398947401000", "1398947402000000", "2014-05-01T12:30:03"]
    value, times = settled(parsed(pl.Series(texts)), None, "f", pl.Series([2, 3, 4, 5]))
    assert (value // 10**6).to_list() == [MAY, MAY + 1000, MAY + 2000, MAY + 3000]
    assert times.counts == {"date": 1, "s": 1, "ms": 1, "us": 1}
    assert times.notes == [
        "times are in several units (1 in date, 1 in s, 1 in ms, 1 in us): each was read by its"
        " magnitude"
    ]


def test_a_number_that_fits_another_unit_only_decades_off_is_absurd():
    value, times = settled(
        parsed(pl.Series(["1398947400"] * 5 + ["99999999999"])), None, "f", pl.Series(range(6))
    )
    assert value.is_null().to_list() == [False] * 5 + [True]  # 99999999999 ms would be in 1973
    assert times.counts == {"s": 5}
    assert times.notes == []


def test_day_and_month():
    # 2014-01-05, 2014-05-01, 2014-05-13
    january, may, thirteenth = 1388880000000, 1398902400000, 1399939200000
    assert milliseconds(["01/05/2014", "13/05/2014"]) == [may, thirteenth]
    assert milliseconds(["01/05/2014", "05/13/2014"]) == [january, thirteenth]
    # each can only mean one day
    assert milliseconds(["13.05.2014", "05/13/2014", "13-05-2014 00:00:00Z"]) == [thirteenth] * 3
    assert milliseconds(["05/05/2014"]) == [1399248000000]
    assert milliseconds(["01/05/2014"], "day-first") == [may]
    assert milliseconds(["01/05/2014"], "month-first") == [january]
    assert milliseconds(["01/05/2014 12:30", "13/05/2014"])[0] == MAY


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["01/05/2014", "02/05/2014"], "no other date of the column tells"),
        (["13/05/2014", "05/13/2014", "01/05/2014"], "contradict each other"),
    ],
)
def test_day_and_month_that_cannot_be_told_apart(texts, why):
    with pytest.raises(
        DataError,
        match=(
            rf"file.csv:\d: day and month .* 2014-05-01 or 2014-01-05, and .*{why}.*--time-unit"
            r" day-first"
        ),
    ):
        nanoseconds(texts)


def imported(folder, lines: str, **options):
    (folder / "e.csv").write_text(lines)
    report = import_data(folder / "e.csv", folder / "out", **options)
    bad = folder / "out" / "rejected.parquet"
    rejected = pl.read_parquet(bad).select("line", "reason", "raw").rows() if bad.exists() else []
    return Dataset.open(folder / "out").events, report, rejected


def test_events_are_sorted_before_rounding_and_ties_keep_file_order(tmp_path):
    lines = "user,item,ts\nu,b,1398947400.000002\nu,x,1398947400.5\nu,a,1398947400.000001\nu,y,1398947400.5\nu,w,1398947400.499999\n"
    events, report, _ = imported(tmp_path, lines)
    assert events["item_id"].to_list() == ["a", "b", "w", "x", "y"]
    assert events["time_ms"].to_list() == [MAY, MAY, MAY + 499, MAY + 500, MAY + 500]
    assert report.time_unit == "s"


def test_rows_without_a_time_and_with_a_bad_one(tmp_path):
    lines = "user,item,ts\nu,a,1398947400\nu,b,\nu,c,soon\nu,d,NaN\nu,e,7\n"
    events, report, rejected = imported(tmp_path, lines)
    assert events["item_id"].to_list() == ["a"]
    assert rejected == [
        (3, "no time_ms", "u,b,"),
        (4, 'time_ms is not understood: "soon"', "u,c,soon"),
        (5, "no time_ms", "u,d,NaN"),
        (6, "time_ms is absurd: before 1971 or after 2100, read in s", "u,e,7"),
    ]
    assert report.rejected["events"]["no time_ms"] == 2


def test_written_dates_in_a_file(tmp_path):
    events, report, _ = imported(tmp_path, "user,item,date\nu,a,2014-05-02\nu,b,2014-05-01\n")
    assert events["item_id"].to_list() == ["b", "a"]
    assert report.time_unit == "date"
    assert (
        "times: written dates, from 2014-05-01T00:00:00Z to 2014-05-02T00:00:00Z" in report.lines()
    )


def test_ambiguous_dates_in_a_file(tmp_path):
    with pytest.raises(DataError, match=r"e.csv:2: day and month"):
        imported(tmp_path, "user,item,date\nu,a,01/05/2014\n")
    assert not (tmp_path / "out").exists()
    events, report, _ = imported(
        tmp_path, "user,item,date\nu,a,01/05/2014 12:30\n", time_unit="day-first"
    )
    assert events["time_ms"].to_list() == [MAY]
    assert report.notes == ["dates such as 01/05/2014 were read day-first, as asked"]


def test_a_wrong_unit_given_rejects_every_row(tmp_path):
    with pytest.raises(DataError, match=r"every row was rejected: time_ms is absurd .1."):
        imported(tmp_path, "user,item,ts\nu,a,1398947400\n", time_unit="ms")


@pytest.mark.parametrize("time_ms", [31536000000, MAY, 4133980799999])
def test_milliseconds_between_1971_and_2100_can_be_a_time(time_ms):
    assert milliseconds_problem(time_ms) is None


@pytest.mark.parametrize(
    ("time_ms", "problem"),
    [
        (957000000, "2000-04-29T09:20:00Z in seconds"),
        (1398947400, "2014-05-01T12:30:00Z in seconds"),
        (1398947400000000, "2014-05-01T12:30:00Z in microseconds"),
        (1398947400000000000, "2014-05-01T12:30:00Z in nanoseconds"),
        (0, "before 1971"),
        (-5, "before 1971"),
        (20240501103000, "after 2100"),
        (10**40, "after 2100"),
    ],
)
def test_other_numbers_are_no_time_in_milliseconds(time_ms, problem):
    assert problem in (milliseconds_problem(time_ms) or "")


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("3/14/2023 8:05:22 AM", "08:05:22"),
        ("3/14/2023 12:00:01 AM", "00:00:01"),
        ("3/14/2023 12:00:01 pm", "12:00:01"),
        ("3/14/2023 11:59 PM", "23:59:00"),
        ("3/14/2023 8 AM", "08:00:00"),
        ("March 14, 2023 8 p.m.", "20:00:00"),
    ],
)
def test_clocks_of_twelve_hours(text, clock):
    assert moments([text]) == [f"2023-03-14T{clock}"]


def moments(texts, unit=None):
    """The texts as ISO times, through the reading that refuses what is doubtful."""
    value, _ = resolved(
        parsed(pl.Series(texts)), unit, "f.csv", pl.Series(range(2, len(texts) + 2))
    )
    return [
        None if one is None else str(one)
        for one in value.cast(pl.Datetime("ns")).dt.strftime("%Y-%m-%dT%H:%M:%S")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "13:05 AM",
        "2014-05-01 13:00 PM",
        "2014-05-01 0:30 AM",
        "2014-05-01 12",
        "1 Mai 2014",
        "31 June 2014",
        "May 32, 2014",
        "20140230T100000",
        "Mayday 1 2014",
        "01-05-14",
    ],
)
def test_dates_that_are_none(text):
    assert understood(parsed(pl.Series([text]))).to_list() == [False]


def test_numbers_that_are_dates_in_digits():
    assert moments(["202405011030", "202405020000"]) == [
        "2024-05-01T10:30:00",
        "2024-05-02T00:00:00",
    ]
    assert moments(["20240501"]) == ["2024-05-01T00:00:00"]
    assert moments(["20240501103059"]) == ["2024-05-01T10:30:59"]
    # ten digits are seconds wherever they can be
    assert moments(["1398947400"]) == ["2014-05-01T12:30:00"]
    # one stray value does not change how the others are read
    texts = ["202405011030"] * 20
    assert moments([*texts, "202413451030"])[20] is None
    assert moments([*texts, "202413451030"])[:20] == ["2024-05-01T10:30:00"] * 20


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        ("638501454000000000", "dotnet"),
        ("736250400", "cocoa"),
        ("133590042000000000", "filetime"),
        ("13359004200000000", "webkit"),
        ("45413.4375", "excel"),
    ],
)
def test_other_epochs_are_refused_with_the_options_and_read_when_named(number, unit):
    with pytest.raises(
        DataError, match=rf"f.csv:2: the time .* 2024-05-01 in .*--time-unit {unit}"
    ):
        moments([number] * 3)
    assert moments([number], unit)[0].startswith("2024-05-01T")


def test_a_unit_that_is_named_is_never_doubted():
    assert moments(["736250400"], "s") == ["1993-05-01T10:00:00"]


def test_real_seconds_of_the_nineties_are_read():
    assert moments(["874724710", "893286638"]) == ["1997-09-20T03:05:10", "1998-04-22T23:10:38"]


def test_numbers_of_long_ago_that_nothing_else_explains_are_called_odd():
    value, times = resolved(
        parsed(pl.Series(["200000000000", "200000000001"])), None, "f", pl.Series([2, 3])
    )
    assert value.null_count() == 0
    assert "1976" in times.notes[-1] and "odd" in times.notes[-1]


def test_one_stray_date_does_not_decide_for_a_column():
    texts = ["01/05/2014", "25/05/2014"] + ["20/05/2014"] * 40
    assert moments([*texts, "05/13/2014"])[:2] == ["2014-05-01T00:00:00", "2014-05-25T00:00:00"]
    assert moments([*texts, "05/13/2014"])[-1] is None


@pytest.mark.parametrize(
    ("text", "time_format", "iso"),
    [
        ("01.05.24 10:30", "%d.%m.%y %H:%M", "2024-05-01T10:30:00"),
        ("05/01/24", "%m/%d/%y", "2024-05-01T00:00:00"),
        ("202405011030", "%Y%m%d%H%M", "2024-05-01T10:30:00"),
        ("10h30 1.5.2024", "%Hh%M %d.%m.%Y", "2024-05-01T10:30:00"),
        ("2024-05", "%Y-%m", "2024-05-01T00:00:00"),
        ("5/1/2024 8:05 PM", "%m/%d/%Y %I:%M %p", "2024-05-01T20:05:00"),
        ("2024-05-01 12:30 +0200", "%Y-%m-%d %H:%M %z", "2024-05-01T10:30:00"),
        ("yesterday", "%Y-%m-%d", None),
    ],
)
def test_a_format_by_hand(text, time_format, iso):
    value = formatted(pl.Series([text]), time_format).cast(pl.Datetime("ns"))
    assert value.dt.strftime("%Y-%m-%dT%H:%M:%S").to_list() == [iso]


@pytest.mark.parametrize("time_format", ["", "YYYY-MM-DD", "%Q", "%Y-%Ü"])
def test_formats_that_cannot_be(time_format):
    with pytest.raises(DataError, match="format of times"):
        known_format(time_format)


def test_a_column_of_a_frame_is_read_as_one_of_a_file():
    for values in ([1398947400], [1398947400.0], ["2014-05-01 12:30:00"], [MAY * 10**6]):
        assert from_column(pl.Series(values), "events.timestamp").to_list() == [MAY]
    moment = pl.Series([MAY]).cast(pl.Datetime("ms"))
    assert from_column(moment, "events.timestamp").to_list() == [MAY]
    with pytest.raises(DataError, match=r"events.timestamp holds 'soon' in row 1"):
        from_column(pl.Series(["2014-05-01", "soon"]), "events.timestamp")

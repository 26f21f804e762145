"""Files as people have them: dialects, odd values, and what the import says about them."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from tailor.data.checks import check
from tailor.data.conditions import Condition
from tailor.data.dataset import Dataset
from tailor.data.importers import reading
from tailor.data.importers.importing import import_data
from tailor.errors import DataError

REPO = Path(__file__).parents[2]


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class Imported:
    """The report of an import, the tables, and the rejected rows as (line, reason)."""

    def __init__(self, folder: Path, events: str | bytes, file: str = "events.csv", **options):
        for table in ("items", "users"):
            if isinstance(options.get(table), str):
                options[table] = write(folder / f"{table}.csv", options[table])
        path = write(folder / file, events)
        self.report = import_data(path, folder / "out", overwrite=True, **options)
        self.data = Dataset.open(folder / "out")
        bad = folder / "out" / "rejected.parquet"
        self.rejected = pl.read_parquet(bad).select("line", "reason").rows() if bad.exists() else []

    def column(self, name: str, table: str = "events") -> list:
        return self.data.tables[table][name].to_list()


def refuses(folder: Path, message: str, events: str | bytes, file: str = "events.csv", **options):
    with pytest.raises(DataError, match=message):
        import_data(write(folder / file, events), folder / "out", **options)
    assert not (folder / "out").exists()


@pytest.fixture(params=[reading.BLOCK, 24], ids=["one block", "blocks of 24 bytes"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", request.param)


# ---- files without a header

HEADLESS = "7\t31\t4\t881000001\n7\t32\t5\t881000002\n8\t31\t3\t881000003\n8\t33\t1\t881000004\n"


def test_a_first_line_that_is_a_row_is_never_lost(tmp_path):
    refuses(tmp_path, r"looks like a row .*--no-header", HEADLESS, "u.tsv")
    refuses(tmp_path, r"looks like a row", HEADLESS, "u.tsv", columns={"user_id": "7"})
    by_number = {"user_id": "1", "item_id": "2", "value": "3", "time_ms": "4"}
    got = Imported(tmp_path, HEADLESS, "u.tsv", header=False, columns=by_number)
    assert got.column("user_id") == ["7", "7", "8", "8"]
    assert got.column("value") == [4.0, 5.0, 3.0, 1.0]
    assert got.report.records == {"events": 4}


def test_without_a_header_and_without_numbers_the_first_row_is_shown(tmp_path):
    refuses(tmp_path, r"its first row: 1 = 7, 2 = 31, 3 = 4", HEADLESS, "u.tsv", header=False)


def test_further_columns_without_a_header_have_numbers_too(tmp_path):
    got = Imported(
        tmp_path, "ann,x,red\nbob,y,blue\n", header=False, columns={"user_id": "1", "item_id": "2"}
    )
    assert got.column("column_3") == ["red", "blue"]


def test_a_header_of_numbers_can_be_said_to_be_one(tmp_path):
    columns = {"user_id": "100", "item_id": "200"}
    refuses(tmp_path, "--header", "100,200\nu,a\n", columns=columns)
    got = Imported(tmp_path, "100,200\nu,a\n", columns=columns, header=True)
    assert got.column("user_id") == ["u"]
    # as a data frame without names writes it
    assert Imported(tmp_path, "0,1\nu,a\n", columns={"user_id": "0", "item_id": "1"}).column(
        "item_id"
    ) == ["a"]


def test_a_header_with_a_usual_name_is_one_whatever_else_it_holds(tmp_path):
    got = Imported(tmp_path, "user,item,20240501,881000001\nu,a,1,2\n")
    assert got.column("881000001") == [2]


def test_a_name_that_is_among_its_values_is_called_odd(tmp_path):
    events = "ann,x\nbob,y\nann,z\n"
    got = Imported(tmp_path, events, columns={"user_id": "ann", "item_id": "x"})
    assert any('"ann", is among its values' in note for note in got.report.notes)


def test_movielens_100k_as_published(tmp_path):
    write(tmp_path / "ml" / "u.data", HEADLESS)
    flags = "0|0|1|" + "|".join(["0"] * 15) + "|1"
    rows = [f"{n}|Film {n} (1995)|01-Jan-1995||http://x|{flags}" for n in (31, 32)]
    rows.append("33|Misérables, Les (1995)|01-Jan-1995||http://x|1|" + "|".join(["0"] * 18))
    write(tmp_path / "ml" / "u.item", "\n".join(rows).encode("latin-1"))
    write(tmp_path / "ml" / "u.user", "7|24|M|technician|85711\n8|53|F|other|94043\n")
    report = import_data(tmp_path / "ml", tmp_path / "out", format="movielens")
    data = Dataset.open(tmp_path / "out")
    assert report.rows == {"events": 4, "items": 3, "users": 2}
    items = data.tables["items"].sort("item_id")
    assert items["title"].to_list()[2] == "Misérables, Les (1995)"
    assert items["categories"].to_list() == [["Adventure", "Western"]] * 2 + [None]
    assert data.tables["users"]["age"].to_list() == [24, 53]
    assert data.tables["users"]["zip_code"].to_list() == ["85711", "94043"]
    alone = import_data(tmp_path / "ml" / "u.data", tmp_path / "one", format="movielens")
    assert alone.rows == {"events": 4}
    with pytest.raises(DataError, match="--format movielens"):
        import_data(tmp_path / "ml", tmp_path / "two")


# ---- times


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        (["202405011030", "202405011031"], "2024-05-01T10:30:00Z"),
        (["3/14/2023 8:05:22 AM", "3/15/2023 8:05:22 PM"], "2023-03-14T08:05:22Z"),
        (["20240501T100000Z", "20240501T100001Z"], "2024-05-01T10:00:00Z"),
        (["01-May-2024", "02-May-2024"], "2024-05-01T00:00:00Z"),
        (["1 May 2024 10:00", "2 May 2024 10:00"], "2024-05-01T10:00:00Z"),
    ],
)
def test_times_are_read_and_their_range_is_told(tmp_path, texts, first):
    rows = "".join(f"u,a,{text}\n" for text in texts)
    got = Imported(tmp_path, f"user,item,time\n{rows}")
    assert got.rejected == []
    assert got.report.time_range[0] == first
    assert any(first in line for line in got.report.lines())


@pytest.mark.parametrize("number", ["638501454000000000", "736250400", "45413.5"])
def test_numbers_of_other_epochs_are_refused_with_the_options(tmp_path, number):
    events = f"user,item,time\nu,a,{number}\nu,b,{number}\n"
    refuses(tmp_path, r"events.csv:2: the time .* 2024-05-01 in .*--time-unit", events)


def test_a_format_of_times_by_hand(tmp_path):
    events = "user,item,time\nu,a,01.05.24 10:30\nu,b,yesterday\n"
    got = Imported(tmp_path, events, time_format="%d.%m.%y %H:%M")
    assert got.report.time_range == ["2024-05-01T10:30:00Z"] * 2
    assert got.rejected == [(3, 'time_ms is not understood: "yesterday"')]
    refuses(tmp_path / "x", "--time-format", "user,item,time\nu,a,noonish\n")
    refuses(tmp_path / "y", "no part of a date.*%d", events, time_format="dd.mm.yy")


def test_events_of_the_future_are_called_odd_and_change_no_other(tmp_path):
    rows = "".join(f"u{n},a{n % 3},{1_600_000_000 + n}\n" for n in range(40))
    got = Imported(tmp_path, f"user,item,time\n{rows}u,a,4000000000\n")
    assert any("1 events lie in the future" in note for note in got.report.notes)
    names = {finding.name for finding in check(got.data)}
    assert {"future_times", "stray_times"} <= names


# ---- missing values and ids


def test_a_dump_of_a_database(tmp_path, blocks):
    events = (
        "user_id\titem_id\trating\n1\ta\t\\N\n\\N\tb\t3\nNull\tc\t4\nnull\td\tNULL\nnan\te\t-\n"
    )
    got = Imported(tmp_path, events, "dump.tsv")
    assert got.column("user_id") == ["1", "Null", "null", "nan"]
    assert got.column("value") == [None, 4.0, None, None]
    assert got.rejected == [(3, "no user_id")]
    assert any('"Null" in 1 rows and was kept as an id' in note for note in got.report.notes)
    assert "ids_named_missing" in {finding.name for finding in check(got.data)}
    again = Imported(tmp_path, events, "dump.tsv", missing=["Null", "null", "nan"])
    assert again.column("user_id") == ["1"]


@pytest.mark.parametrize("bad", ['"pot\n"', '"p\tot"', "pot\x7f", '"\x1b[1mpot"', "p\u2028ot"])
def test_control_characters_in_ids_are_refused(tmp_path, bad):
    got = Imported(tmp_path, f"user,item\nu,pot\nu,{bad}\n{bad},pot\n")
    assert got.column("item_id") == ["pot"]
    assert [reason.partition(":")[0] for _, reason in got.rejected] == [
        "item_id holds a control character",
        "user_id holds a control character",
    ]


def test_ids_that_a_spreadsheet_made_are_called_odd(tmp_path):
    got = Imported(tmp_path, "user,item\nu,8.80609E+12\nv,8.80609E+12\nw,x\n")
    assert any("8.80609E+12" in note for note in got.report.notes)
    assert "merged_ids" in {finding.name for finding in check(got.data)}
    rows = "".join(f"u,{n}{'000'}\n" for n in range(123456789012345, 123456789012365))
    assert "rounded_ids" in {
        finding.name for finding in check(Imported(tmp_path, "user,item\n" + rows).data)
    }


def test_halves_of_letters_never_make_two_ids_one(tmp_path):
    lines = ['{"user_id": "u", "item_id": "\\ud83d"}', '{"user_id": "u", "item_id": "\\ud83e"}']
    got = Imported(tmp_path, "\n".join([*lines, '{"user_id": "u", "item_id": "?"}']), "e.jsonl")
    assert len(set(got.column("item_id"))) == 3


# ---- types

ITEMS = "item_id,min_age,stock,live,ean,note\n" + "".join(
    f"i{n},{n % 18},{n / 2},{'true' if n % 2 else 'False'},0{n},{n if n else 'many'}\n"
    for n in range(40)
)
EVENTS = "user,item\nu,i1\nu,i2\n"


def test_numbers_and_truth_values_of_further_columns_are_recognised(tmp_path):
    got = Imported(tmp_path, EVENTS, items=ITEMS)
    frame = got.data.tables["items"]
    assert [frame.schema[name] for name in ("min_age", "stock", "live", "ean", "note")] == [
        pl.Int64, pl.Float64, pl.Boolean, pl.String, pl.Int64
    ]  # fmt: skip
    assert Condition("min_age <= 12 and live").holds(frame).sum() == sum(
        n % 18 <= 12 and n % 2 for n in range(40)
    )
    assert any('"many" (--types items.note=text' in note for note in got.report.notes)
    assert "min_age (int)" in "\n".join(got.report.lines())


def test_types_by_hand(tmp_path):
    types = {"items.min_age": "text", "stock": "int", "live": "text", "note": "text", "ean": "int"}
    frame = Imported(tmp_path, EVENTS, items=ITEMS, types=types).data.tables["items"]
    assert [frame.schema[name] for name in ("min_age", "stock", "live", "ean", "note")] == [
        pl.String, pl.Int64, pl.String, pl.Int64, pl.String
    ]  # fmt: skip
    assert frame["note"][0] == "many" and frame["stock"].null_count() == 20
    refuses(tmp_path / "a", 'no type "decimal"', EVENTS, types={"x": "decimal"})
    refuses(tmp_path / "b", 'no file has a column "stok"', EVENTS, types={"stok": "int"})
    refuses(tmp_path / "c", "read as one of our columns", EVENTS, types={"item": "int"})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", ""], pl.Int64),
        (["1", "2.5", "nan"], pl.Float64),
        (["1", "x"], pl.String),
        (["01", "2"], pl.String),
        (["12345678901234567", "1"], pl.String),
        (["TRUE", "false"], pl.Boolean),
        (["yes", "no"], pl.String),
        (["1e3", "2"], pl.Float64),
        (["", ""], pl.String),
    ],
)
def test_what_a_column_is_taken_for(tmp_path, values, kind):
    items = "item_id,x,y\n" + "".join(f"i{n},{value},z\n" for n, value in enumerate(values))
    frame = Imported(tmp_path, EVENTS, items=items).data.tables["items"]
    assert frame.schema["x"] == kind


def test_order_between_a_text_and_a_quoted_number_is_refused_with_the_remedy():
    frame = pl.DataFrame({"min_age": ["9", "12"], "stock": [1, 2], "name": ["a", "b"]})
    with pytest.raises(DataError, match=r"letter by letter.*--types min_age=int"):
        Condition("min_age <= '12'").holds(frame)
    with pytest.raises(DataError, match=r"is a text, 12 is a number.*--types min_age=int"):
        Condition("min_age <= 12").holds(frame)
    with pytest.raises(DataError, match="write 2 without quotation marks"):
        Condition("stock = '2'").holds(frame)
    assert Condition("min_age = '12' and name >= 'b'").holds(frame).tolist() == [False, True]


# ---- dialects


def test_both_ways_to_escape_a_quote(tmp_path, blocks):
    items = (
        'item_id,title,note\na,"5"" screen",x\nb,"5\\" screen",x\nc,"ends \\"",y\n'
        'd,"C:\\dir\\",z\ne,"two\nlines \\"q\\"",z\nf,"plain",z\n'
    )
    got = Imported(tmp_path, EVENTS, items=items)
    assert got.column("title", "items") == [
        '5" screen', '5" screen', 'ends "', "C:\\dir\\", 'two\nlines "q"', "plain"
    ]  # fmt: skip
    assert got.report.records["items"] == 6 and not got.rejected


def test_a_separator_that_the_first_line_names(tmp_path, blocks):
    got = Imported(tmp_path, "sep=;\r\nuser;item;note\r\nu,1;a;b,c,d,e\r\n")
    assert got.column("user_id") == ["u,1"] and got.column("note") == ["b,c,d,e"]
    assert Imported(tmp_path, '"sep=|"\nuser|item\nu|a\n').column("item_id") == ["a"]


ROWS = [{"user_id": "u", "item_id": f"i{n}", "n": n} for n in range(5)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n".join(map(json.dumps, ROWS)),
        "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        "\ufeff" + json.dumps(ROWS),
    ],
)
@pytest.mark.parametrize("file", ["events.json", "events.jsonl"])
def test_json_as_lines_or_as_an_array(tmp_path, blocks, text, file):
    got = Imported(tmp_path, text, file)
    assert got.column("item_id") == [f"i{n}" for n in range(5)]
    assert got.column("n") == list(range(5)) and got.rejected == []


def test_a_broken_object_of_an_array_costs_no_other(tmp_path, blocks):
    rows = [json.dumps(row) for row in ROWS]
    rows[2] = '{"user_id": "u", oops}'
    got = Imported(tmp_path, "[" + ",\n".join(rows) + ', 7, {"user_id": "v"}]', "e.json")
    assert got.column("item_id") == ["i0", "i1", "i3", "i4"]
    assert [(n, reason.partition(":")[0]) for n, reason in got.rejected] == [
        (3, "is not JSON"),
        (6, "is no JSON object"),
        (7, "no item_id"),
    ]
    assert got.report.records == {"events": 7}


def test_folders_that_name_a_value(tmp_path):
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})
    for day, country in (("2024-01-01", "de"), ("2024-01-02", "new%20zealand")):
        folder = tmp_path / "log" / f"date={day}" / f"country={country}"
        folder.mkdir(parents=True)
        frame.write_parquet(folder / "part-0.parquet")
        (folder / "_SUCCESS").touch()
    write(tmp_path / "log" / "date=__HIVE_DEFAULT_PARTITION__" / "x.csv", "user_id,item_id\nu,z\n")
    import_data(tmp_path / "log", tmp_path / "out", tables={})
    data = Dataset.open(tmp_path / "out")
    assert data.events["country"].to_list() == ["de", "new zealand"]
    assert data.has_times and data.events["time_ms"].to_list() == [1704067200000, 1704153600000]
    bad = pl.read_parquet(tmp_path / "out" / "rejected.parquet")
    assert bad.select("file", "reason").rows() == [("x.csv", "no time_ms")]


def test_a_json_file_beside_parts_is_no_part(tmp_path):
    write(tmp_path / "log" / "a.csv", "user,item\nu,a\n")
    write(tmp_path / "log" / "schema.json", '{"fields": []}')
    assert import_data(tmp_path / "log", tmp_path / "out").records == {"events": 1}


def test_dates_of_items_that_cannot_be_are_told(tmp_path):
    items = "item_id,created\na,2014-05-01\nb,0001-01-01\n"
    got = Imported(tmp_path, EVENTS, items=items)
    assert any("items.created_ms lies before 1971" in note for note in got.report.notes)


def test_whole_histories_in_a_row_are_refused(tmp_path):
    header = "session_id:token\tuser_id:token\titem_id_list:token_seq\titem_id:token\n"
    row = "1\tu\ta b c\td\n"
    refuses(tmp_path, "item_id_list.*--format sequences", header + row, "x.inter")
    refuses(tmp_path, "item_id_list", header + row, "x.inter", format="recbole")
    lines = '{"user_id": "u", "item_id": ["a", "b"]}\n'
    refuses(tmp_path, "holds lists of items", lines, "x.jsonl")


def test_sequences_and_other_layouts_taken_for_csv_are_named(tmp_path):
    refuses(tmp_path, "--format sequences", "1 2 3 4\n5 6 7\n", "beauty.txt")
    refuses(
        tmp_path,
        "--format movielens",
        "1::1193::5::978300760\n1::1194::5::978300761\n",
        "ratings.txt",
    )
    refuses(tmp_path, "--format jsonl", '{"user_id": "u"}\n{"user_id": "v"}\n', "log.txt")


# ---- sums


def test_records_add_up_and_this_is_said(tmp_path, blocks):
    events = (
        (
            b"event_id,user,item,time\n1,u,a,1400000000\n2,,b,1400000001\n1,u,c,1400000002\n"
            b"3,u,d,soon\n4,u\n\n5,u,e,99999999999999999999\n6,u,f,1400000003\n"
        )
        + b"7,u,\xff,1400000003\n"
        + b"".join(b"x%d,u,g,1400000009\n" % n for n in range(20))
    )
    got = Imported(tmp_path, events)
    assert got.report.records == {"events": 28}
    assert got.report.rows["events"] + len(got.rejected) == 28
    assert "  28 records: 22 kept, 6 rejected" in got.report.lines()


def test_duplicates_are_counted_as_the_check_counts_them(tmp_path):
    # equal once times are milliseconds, and whether or not they have ids
    events = (
        "event_id,user,item,time\n1,u,a,1400000000.0001\n2,u,a,1400000000.0002\n3,u,b,1400000000\n"
    )
    got = Imported(tmp_path, events)
    counted = {finding.name: finding.count for finding in check(got.data)}
    assert got.report.counts["exact_duplicates"] == counted["exact_duplicates"] == 1


def test_a_page_reloaded_many_times_is_called_odd():
    users = ["robot"] * 60 + [f"u{n}" for n in range(20)]
    items = ["a"] * 60 + [f"i{n % 4}" for n in range(20)]
    found = {
        one.name: one for one in check(Dataset.from_events({"user_id": users, "item_id": items}))
    }
    assert found["reloaded_items"].examples == ["robot: 60 of 60 events of a"]


def test_actions_that_speak_against_an_item_are_named():
    log = {
        "user_id": ["u", "v", "w"],
        "item_id": ["a", "a", "b"],
        "action": ["like", "dislike", None],
    }
    data = Dataset.from_events(log)
    finding = {one.name: one for one in check(data)}["events_against_items"]
    assert finding.count == 1 and "dislike: 1" in finding.says
    only = finding.remedy.partition('--only "')[2].partition('"')[0]
    assert data.where(only).tolist() == [True, False, True]
    data.labels["against"] = "action = 'like'"
    assert "events_against_items" not in {one.name for one in check(data)}


# ---- the other door: data frames


def test_a_frame_is_read_as_a_file_is():
    seconds = [1398947403, 1398947402, 1398947401]
    for times in (seconds, [float(second) for second in seconds], [str(one) for one in seconds]):
        data = Dataset.from_events(
            {"user": ["u"] * 3, "item": ["c", "b", "a"], "timestamp": times, "rating": [1, 2, 3]},
            {"id": ["a"], "name": ["Tea"], "genres": ["x|y"]},
        )
        assert data.events["item_id"].to_list() == ["a", "b", "c"]
        assert data.events["time_ms"].to_list() == [1398947401000, 1398947402000, 1398947403000]
        assert data.events["value"].to_list() == [3.0, 2.0, 1.0]
    assert data.tables["items"].rows() == [("a", "Tea", ["x", "y"])]


def test_a_frame_with_our_own_names_keeps_its_further_columns():
    data = Dataset.from_events(
        {"user_id": ["u"], "item_id": ["a"], "time_ms": [5], "timestamp": [7], "user": ["x"]}
    )
    assert data.events.columns == ["user_id", "item_id", "time_ms", "timestamp", "user"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"time_ms": [957000000, 957000001]}, "events.time_ms is 2000-04-29.* in seconds"),
        ({"time_ms": [1398947400000000] * 2}, "in microseconds"),
        ({"timestamp": [638501454000000000] * 2}, "events.timestamp:0: .*--time-unit dotnet"),
        ({"timestamp": ["2024-05-01", "soon"]}, "events.timestamp holds 'soon' in row 1"),
        ({"item_id": ["pot", "pot\n"]}, r"events.item_id holds a control character \(\\n\)"),
        ({"user_id": ["u", ""]}, "events.user_id is empty in 1 rows, the first is row 1"),
        ({"user_id": ["u", "\\N"]}, "events.user_id is empty"),
        ({"session_id": [None, "a\tb"]}, "events.session_id holds a control character"),
    ],
)
def test_frames_that_no_import_would_take(columns, message):
    with pytest.raises(DataError, match=message):
        Dataset.from_events({"user_id": ["u", "v"], "item_id": ["a", "b"], **columns})


# ---- the command line and signals


def test_the_command_has_all_of_it(tmp_path):
    write(tmp_path / "u.csv", "u,a,01.05.24,NULL\nNULL,b,02.05.24,3\nv,c,03.05.24,12\n")
    command = [
        sys.executable, "-m", "tailor", "data", "import", "u.csv", "--out", "DATA", "--no-header",
        "--columns", "user_id=1,item_id=2,time_ms=3", "--types", "column_4=int",
        "--time-format", "%d.%m.%y", "--missing", "NULL", "--json",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=_environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["records"] == {"events": 3} and report["rejected"] == {
        "events": {"no user_id": 1}
    }
    assert report["time_range"] == ["2024-05-01T00:00:00Z", "2024-05-03T00:00:00Z"]
    assert Dataset.open(tmp_path / "DATA").events["column_4"].to_list() == [None, 12]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO)}


def test_sigterm_leaves_nothing_hidden(tmp_path):
    script = """
        import os, signal, sys
        from pathlib import Path
        from tailor.data.folders import written_aside
        with written_aside(Path(sys.argv[1]) / "out") as folder:
            (folder / "x").write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        env=_environment(),
        check=False,
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []

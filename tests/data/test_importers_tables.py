"""JSON Lines, Parquet, part files, packed files, tables by name, the dry run; and files that are
odder than that.
"""

import gzip
import io
import json
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.data.dataset import Dataset
from tailor.data.importers import packed, parquet, reading, rows, sequences, sources
from tailor.data.importers.importing import import_data
from tailor.data.importers.json_lines import json_lines
from tailor.errors import DataError
from tailor.progress import silent

LOG = [
    {"user_id": "u1", "item_id": "a", "timestamp": 1400000000},
    {"user_id": "u1", "item_id": "b", "timestamp": 1400000100},
    {"user_id": "u2", "item_id": "a", "timestamp": 1400000050},
]
EVENTS = [("u1", "a", 1400000000000), ("u2", "a", 1400000050000), ("u1", "b", 1400000100000)]


def jsonl(path: Path, rows: list) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return path


def imported(src, out: Path, **options) -> Dataset:
    import_data(src, out, **options)
    return Dataset.open(out)


def events(data: Dataset) -> list:
    return data.events.select("user_id", "item_id", "time_ms").rows()


def rejected(out: Path) -> list:
    return (
        pl.read_parquet(out / "rejected.parquet")
        .select("table", "file", "line", "reason", "raw")
        .rows()
    )


# ---- JSON Lines


@pytest.mark.parametrize("block", [reading.BLOCK, 20])
def test_json_lines(tmp_path, monkeypatch, block):
    monkeypatch.setattr(reading, "BLOCK", block)
    monkeypatch.setattr(sources, "BLOCK", block)
    assert events(imported(jsonl(tmp_path / "e.jsonl", LOG), tmp_path / "out")) == EVENTS


def test_any_ending_is_read_as_the_format_says(tmp_path):
    assert (
        events(imported(jsonl(tmp_path / "e.log", LOG), tmp_path / "out", format="jsonl")) == EVENTS
    )


def test_nested_objects_by_dotted_names_and_lists(tmp_path):
    rows = [
        {
            "id": 7,
            "product": {"title": "Tea", "price": {"amount": 2.5}},
            "genres": ["x|y", "z, w"],
            "tags": ["p", 1],
            "more": {"a": [True, None]},
        },
        {"id": 8.0, "product": None, "genres": "bare", "live": True},
        {"id": "9", "genres": [], "late": 1},
    ]
    data = imported(
        jsonl(tmp_path / "e.jsonl", LOG),
        tmp_path / "out",
        items=jsonl(tmp_path / "i.jsonl", rows),
        columns={"items.title": "product.title", "price": "product.price.amount"},
    )
    items = data.tables["items"].sort("item_id")
    assert items["item_id"].to_list() == ["7", "8.0", "9"]
    assert items["title"].to_list() == ["Tea", None, None]
    assert items["price"].to_list() == [2.5, None, None]
    assert items["categories"].to_list() == [["x|y", "z, w"], ["bare"], []]
    assert items["tags"].to_list() == ['["p", 1]', None, None]
    assert items["more"].to_list() == ['{"a": [true, null]}', None, None]
    assert items["live"].to_list() == [None, True, None]
    assert items["late"].to_list() == [None, None, 1]


def test_a_name_with_a_dot_in_it_comes_before_a_path(tmp_path):
    rows = [{**row, "a.b": "flat", "a": {"b": "deep", "c": "deeper"}} for row in LOG]
    data = imported(
        jsonl(tmp_path / "e.jsonl", rows),
        tmp_path / "out",
        columns={"action": "a.b", "session_id": "a.c"},
    )
    assert data.events.select("action", "session_id").row(0) == ("flat", "deeper")


def test_ids_inside_objects_are_found_by_their_usual_names(tmp_path):
    rows = [{"user": {"id": 1, "name": "x"}, "item": {"id": "a"}, "ts": 1400000000}]
    data = imported(jsonl(tmp_path / "e.jsonl", rows), tmp_path / "out")
    assert data.events.select("user_id", "item_id").rows() == [("1", "a")]


def test_a_column_that_comes_late_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "HEAD", 2)
    monkeypatch.setattr(sources, "RECORDS", 2)
    data = imported(
        jsonl(tmp_path / "e.jsonl", [*LOG, {**LOG[0], "device": "tv"}]), tmp_path / "out"
    )
    assert data.events["device"].to_list() == [None, "tv", None, None]


def test_bad_lines_of_json(tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    path = jsonl(
        tmp_path / "e.jsonl",
        [
            LOG[0],
            "{oops",
            "",
            "[1]",
            "null",
            '{"user_id": "u"}',
            '{"user_id": NaN, "item_id": "x"}',
            LOG[1],
            deep,
        ],
    )
    import_data(path, tmp_path / "out")
    found = [
        (line, reason.partition(":")[0]) for _, _, line, reason, _ in rejected(tmp_path / "out")
    ]
    assert found == [
        (2, "is not JSON"),
        (4, "is no JSON object"),
        (5, "is no JSON object"),
        (6, "no item_id"),
        (7, "no user_id"),
        (9, "is not JSON"),
    ]
    assert rejected(tmp_path / "out")[3][4] == '{"user_id": "u"}'
    with pytest.raises(DataError, match=r"e.jsonl:2: is not JSON: .*the line reads '\{oops'"):
        import_data(path, tmp_path / "out", overwrite=True, strict=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]\n", "holds only blank lines"),
        ('{"events": [{"user_id": "u"}, {"user_id": "v"}]}', '"events" holds a list of rows'),
        ("\n \n", "holds only blank lines"),
        ("", "is empty"),
        ("{}\n{}\n", "holds only empty objects"),
        ("a,b\n1,2\n", "no row can be read; line 1 reads 'a,b'"),
        ('{"user_id": "u"}\n', "no column of this file is known as item_id"),
    ],
)
def test_files_that_are_no_json_lines(tmp_path, text, message):
    (tmp_path / "e.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        import_data(tmp_path / "e.jsonl", tmp_path / "out")


def test_half_a_pair_of_surrogates(tmp_path):
    (tmp_path / "e.jsonl").write_text('{"user_id": "u\\ud83d", "item_id": "a", "\\udc00": 1}\n')
    assert imported(tmp_path / "e.jsonl", tmp_path / "out").events["user_id"].to_list() == [
        "u\\ud83d"
    ]


def test_repeated_ids_and_absurd_times_name_their_lines(tmp_path):
    rows = [{**LOG[0], "event_id": "x"}, {**LOG[1], "event_id": "x"}, {**LOG[2], "timestamp": 5}]
    import_data(jsonl(tmp_path / "e.jsonl", rows), tmp_path / "out")
    found = [
        (line, reason.partition(":")[0]) for _, _, line, reason, _ in rejected(tmp_path / "out")
    ]
    assert found == [(2, "repeated event_id"), (3, "time_ms is absurd")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["user_id", "item_id", "value", "timestamp", "x", "", "a.b"]),
            JSON,
            max_size=6,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_json_is_kept_or_put_aside(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("json")
    try:
        report = import_data(jsonl(folder / "e.jsonl", rows), folder / "out")
    except DataError:
        assert not (folder / "out").exists()
        return
    assert report.rows["events"] + sum(report.rejected.get("events", {}).values()) == len(rows)


# ---- Parquet


def test_parquet_of_many_types(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH", 2)
    moments = [
        datetime(2014, 5, 13, 16, 53, 20, 1, tzinfo=UTC),
        datetime(2014, 5, 13, 16, 53, 20, tzinfo=UTC),
        datetime(2014, 5, 14, tzinfo=UTC),
    ]
    frame = pl.DataFrame(
        {
            "user_id": [1, 1, 2],
            "item_id": ["a", "b", "a"],
            "time": moments,
            "rating": pl.Series([1, 2, 3], dtype=pl.Int8),
            "n": [1, None, 3],
            "where": [{"lat": 1.5}, {"lat": 2.5}, None],
        }
    )
    frame = frame.with_columns(pl.col("time").dt.convert_time_zone("Asia/Tokyo"))
    frame.write_parquet(tmp_path / "e.parquet")
    data = imported(tmp_path / "e.parquet", tmp_path / "out", columns={"session_id": "where.lat"})
    assert data.events.select(
        "user_id", "item_id", "time_ms", "value", "n", "session_id"
    ).rows() == [
        ("1", "b", 1400000000000, 2.0, None, "2.5"),
        ("1", "a", 1400000000000, 1.0, 1, "1.5"),
        ("2", "a", 1400025600000, 3.0, 3, None),
    ]
    assert data.events.schema["n"] == pl.Int64


def test_parquet_lists_dates_and_rejected_rows(tmp_path):
    pl.DataFrame(LOG).write_parquet(tmp_path / "e.parquet")
    pl.DataFrame(
        {
            "item_id": ["a", None, "b"],
            "created": [date(2014, 1, 2)] * 3,
            "genres": [["x", "y|z"], None, []],
        }
    ).write_parquet(tmp_path / "i.parquet")
    data = imported(tmp_path / "e.parquet", tmp_path / "out", items=tmp_path / "i.parquet")
    assert data.tables["items"].select("item_id", "created_ms", "categories").rows() == [
        ("a", 1388620800000, ["x", "y|z"]),
        ("b", 1388620800000, []),
    ]
    assert rejected(tmp_path / "out") == [
        (
            "items",
            "i.parquet",
            2,
            "no item_id",
            '{"item_id": null, "created": "2014-01-02", "genres": null}',
        )
    ]


def test_parquet_of_types_that_no_id_should_have(tmp_path):
    pl.DataFrame(
        {
            "user_id": [1.0, 2.0, None],
            "item_id": [b"a", b"\xff", b"c"],
            "order": [1.0, 0.0, 2.0],
            "x": [timedelta(1)] * 3,
            "nothing": [None] * 3,
        }
    ).write_parquet(tmp_path / "e.parquet")
    data = imported(tmp_path / "e.parquet", tmp_path / "out")
    assert data.events.select("user_id", "item_id", "order").rows() == [
        ("2.0", "ff", 0),
        ("1.0", "a", 1),
    ]
    assert rejected(tmp_path / "out")[0][2:4] == (3, "no user_id")
    pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "time": [timedelta(1)]}).write_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match="every row was rejected: time_ms is not understood"):
        import_data(tmp_path / "t.parquet", tmp_path / "none")


def test_parquet_that_is_none(tmp_path):
    (tmp_path / "e.parquet").write_bytes(b"user,item\nu,a\n")
    with pytest.raises(DataError, match="is no Parquet file: give its format"):
        import_data(tmp_path / "e.parquet", tmp_path / "out")
    pl.DataFrame(LOG).write_parquet(tmp_path / "e.parquet")
    (tmp_path / "e.parquet").write_bytes((tmp_path / "e.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="is no Parquet file, or is damaged"):
        import_data(tmp_path / "e.parquet", tmp_path / "out")
    with pytest.raises(DataError, match=r"no\.parquet does not exist: name the file of events"):
        import_data(tmp_path / "no.parquet", tmp_path / "out")


# ---- part files


def test_a_folder_of_parts_with_different_columns(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "part-1.csv").write_text(
        "user_id,item_id,timestamp,device\nu1,a,1400000000,tv\nu1,,1400000001,tv\n"
    )
    jsonl(
        folder / "part-2.jsonl",
        [{"user_id": "u1", "item_id": "b", "timestamp": 1400000100, "rating": 3}],
    )
    pl.DataFrame(
        {
            "user_id": ["u2", "u2"],
            "item_id": ["a", "c"],
            "timestamp": [1400000050, 7],
            "device": ["pc", "pc"],
        }
    ).write_parquet(folder / "part-3.parquet")
    (folder / "part-4.csv").write_text("")
    (folder / "_SUCCESS").write_text("")
    (folder / "README.md").write_text("no part")
    report = import_data(folder, tmp_path / "out")
    data = Dataset.open(tmp_path / "out")
    assert events(data) == EVENTS
    assert data.events.select("device", "value").rows() == [("tv", None), ("pc", None), (None, 3.0)]
    assert [row[1:4] for row in rejected(tmp_path / "out")] == [
        ("part-1.csv", 3, "no item_id"),
        ("part-3.parquet", 2, "time_ms is absurd: before 1971 or after 2100, read in s"),
    ]
    assert report.notes[0].endswith("log was read as 3 parts")
    assert report.notes[1:3] == [
        "part-1.csv has no rating: left empty there",
        "part-2.jsonl has no device: left empty there",
    ]


def test_a_folder_of_several_tables_is_not_taken_for_parts(tmp_path):
    for name in ("ratings.csv", "movies.csv"):
        (tmp_path / name).write_text("userId,movieId\n1,2\n")
    with pytest.raises(DataError, match="is a folder of MovieLens: say so"):
        import_data(tmp_path, tmp_path / "out")


def test_parts_that_disagree_on_a_type(tmp_path):
    (tmp_path / "log").mkdir()
    same = {"user_id": ["u"], "item_id": ["a"]}
    for n, values in enumerate(
        ([1], [True], [date(2020, 1, 2)], [[1, 2]], [{"a": 1}], ["x"], [None])
    ):
        pl.DataFrame({**same, "more": values, "order": [n]}).write_parquet(
            tmp_path / "log" / f"{n}.parquet"
        )
    (tmp_path / "log" / "x.csv").write_text("user_id,item_id,more,order\nu,a,1,9\n")
    data = imported(tmp_path / "log", tmp_path / "out")
    assert data.events["more"].to_list() == [
        "1",
        "true",
        "2020-01-02",
        "[1, 2]",
        '{"a": 1}',
        "x",
        None,
        "1",
    ]


def test_a_csv_with_a_title_of_a_million_letters_in_a_gzip_file(tmp_path):
    title = 'so ""long""\r\n' * 70_000
    (tmp_path / "i.csv.gz").write_bytes(gzip.compress(f'id,title\na,"{title}"\nb,short\n'.encode()))
    data = imported(jsonl(tmp_path / "e.jsonl", LOG), tmp_path / "out", items=tmp_path / "i.csv.gz")
    assert data.tables["items"]["title"].str.len_chars().to_list() == [
        len(title.replace('""', '"')),
        5,
    ]


def test_an_id_repeated_in_another_part_is_named(tmp_path):
    (tmp_path / "log").mkdir()
    for n in (1, 2):
        (tmp_path / "log" / f"{n}.csv").write_text(f"event_id,user,item\nx,u,{n}\n")
    import_data(tmp_path / "log", tmp_path / "out")
    assert rejected(tmp_path / "out")[0][1:4] == (
        "2.csv",
        2,
        'repeated event_id: "x" stands on line 2 of 1.csv first',
    )
    with pytest.raises(DataError, match=r"log/2\.csv:2: repeated event_id"):
        import_data(tmp_path / "log", tmp_path / "out", overwrite=True, strict=True)


# ---- packed files


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return path


@pytest.mark.parametrize("block", [reading.BLOCK, 16])
def test_gzip_and_zip_are_read_through(tmp_path, monkeypatch, block):
    monkeypatch.setattr(reading, "BLOCK", block)
    text = b"user_id,item_id,timestamp\nu1,a,1400000000\nu1,b,1400000100\nu2,a,1400000050\nu3\n"
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(text))
    lines = "".join(json.dumps(row) + "\n" for row in LOG).encode()
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(lines))
    for n, path in enumerate(
        [tmp_path / "e.csv.gz", zipped(tmp_path / "e.zip", e_csv=text), tmp_path / "e.jsonl.gz"]
    ):
        assert events(imported(path, tmp_path / f"out{n}")) == EVENTS
    assert rejected(tmp_path / "out0")[0][1:3] == ("e.csv.gz", 5)


def test_a_zip_of_several_files_and_damaged_ones(tmp_path):
    with pytest.raises(
        DataError, match=r"holds 2 files \(a.csv, b.csv\), one is needed: unpack it"
    ):
        import_data(zipped(tmp_path / "two.zip", a_csv=b"x", b_csv=b"y"), tmp_path / "out")
    packed = gzip.compress(b"user,item\n" + b"u,a\n" * 10_000)
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-30])
    with pytest.raises(DataError, match="is a gzip file that is damaged or cut short"):
        import_data(tmp_path / "cut.csv.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- tables by name, the dry run


def test_tables_by_name_without_events(tmp_path):
    (tmp_path / "t.csv").write_text(
        'dialog_id,turn,role,text,items\nd,0,user,hi,\nd,1,bot,ho,"[""a""]"\nd,x,bot,ho,\n'
    )
    (tmp_path / "i.csv").write_text("id,title\na,A\n")
    report = import_data(
        None, tmp_path / "out", tables={"turns": tmp_path / "t.csv", "items": tmp_path / "i.csv"}
    )
    data = Dataset.open(tmp_path / "out")
    assert data.tables["turns"].rows() == [
        ("d", 0, "user", "hi", None),
        ("d", 1, "bot", "ho", ["a"]),
    ]
    assert data.catalogue.ids.tolist() == ["a"]
    assert report.rejected == {"turns": {"turn is not a whole number": 1}}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "nothing to import"),
        ({"event": "x.csv"}, 'there is no table "event". Did you mean "events"'),
        (
            {"items": "i.csv"},
            "needs a table of events or of judgements, turns or impressions; given: items",
        ),
        ({"impressions": "p.csv"}, "every row was rejected: shown is neither true nor false .1."),
    ],
)
def test_tables_that_make_no_data_set(tmp_path, monkeypatch, tables, message):
    monkeypatch.chdir(tmp_path)
    Path("i.csv").write_text("id\na\n")
    Path("p.csv").write_text("request_id,position,item_id,shown\nr,1,a,maybe\n")
    with pytest.raises(DataError, match=message):
        import_data(None, "out", tables=tables)
    assert not Path("out").exists()


def test_a_dry_run_shows_and_writes_nothing(tmp_path):
    path = jsonl(tmp_path / "e.jsonl", [*LOG, "broken"] * 20)
    report = import_data(path, tmp_path / "out", dry_run=True)
    assert [one.name for one in tmp_path.iterdir()] == ["e.jsonl"]
    assert report.rows == {"events": 60}
    assert len(report.preview["events"]) == 10
    assert report.preview["events"][0] == {
        "user_id": "u1",
        "item_id": "a",
        "time_ms": 1400000000000,
    }
    assert report.lines()[-1] == "nothing was written (dry run)"


# ---- odd content


def test_mixed_line_ends_emoji_zones_and_a_title_of_a_million_letters(tmp_path):
    (tmp_path / "e.csv").write_bytes(
        "user,item,time\r\n🦊,a👍,2014-05-13T16:53:20Z\n🦊,b,2014-05-13T18:53:21+02:00\r\nü,a👍,2014-05-13"
        " 11:53:22-05\n".encode()
    )
    title = "é" * 10**6
    items = jsonl(
        tmp_path / "i.jsonl",
        [{"id": "a👍", "title": title}, {"id": "b", "title": "Salt &amp; pepper"}],
    )
    data = imported(tmp_path / "e.csv", tmp_path / "out", items=items)
    assert events(data) == [
        ("🦊", "a👍", 1400000000000),
        ("🦊", "b", 1400000001000),
        ("ü", "a👍", 1400000002000),
    ]
    assert data.tables["items"]["title"].to_list() == [title, "Salt &amp; pepper"]


def test_a_hundred_thousand_events_of_one_user(tmp_path):
    file = io.StringIO()
    file.write(
        "user,item,timestamp\n"
        + "".join(f"u,i{n % 999},{1400000000 + n}\n" for n in range(100_000))
        + "v,i1,1400000000\n"
    )
    (tmp_path / "e.csv").write_text(file.getvalue())
    data = imported(tmp_path / "e.csv", tmp_path / "out")
    assert data.sequences.rows.lengths.tolist() == [100_000, 1]


def test_columns_called_like_ours_that_mean_something_else(tmp_path):
    rows = "".join(f"shop,i{n},{n},{1400000000 + n}\n" for n in range(30))
    (tmp_path / "e.csv").write_text("user_id,item_id,x,timestamp\n" + rows)
    (tmp_path / "i.csv").write_text(
        "item_id,text\n" + "".join(f"i{n},{n * 3}\n" for n in range(30))
    )
    notes = import_data(tmp_path / "e.csv", tmp_path / "out", items=tmp_path / "i.csv").notes
    assert notes == [
        (
            'events.user_id (column "user_id") is "shop" in every row; if it means something else,'
            " name the right column (--columns events.user_id=NAME)"
        ),
        (
            'items.text (column "text") holds nothing but numbers: it was read as words; if it'
            " means something else, name the right column (--columns items.text=NAME)"
        ),
    ]


# ---- hostile files


@pytest.mark.parametrize("name", ["e.csv.gz", "e.jsonl.gz", "e.zip", "locomo10.json"])
def test_a_small_archive_that_unpacks_to_a_large_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(packed, "SMALL", 100_000)
    text = (
        b"user,item\n" + b"u,a\n" * 1_000_000
        if "csv" in name or "zip" in name
        else b'{"user": "u", "item": "a"}\n' * 1_000_000
    )
    if name == "e.zip":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("e.csv", text)
    else:
        (tmp_path / name).write_bytes(gzip.compress(text))
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        import_data(
            tmp_path / name, tmp_path / "out", format="locomo" if name == "locomo10.json" else "csv"
        )


def test_sequences_without_an_end_of_line_are_not_read_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(sequences, "LONGEST", 1000)
    monkeypatch.setattr(reading, "BLOCK", 100)
    (tmp_path / "s.txt").write_text("u " + "a " * 1000)
    with pytest.raises(DataError, match="a line of more than 1000 characters"):
        import_data(tmp_path / "s.txt", tmp_path / "out", format="sequences")


def test_names_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "COLUMNS", 50)
    jsonl(tmp_path / "e.jsonl", [{"user": "u", "item": str(n), f"k{n}": 1} for n in range(100)])
    (tmp_path / "e.csv").write_text("user,item" + "," * 60 + "\nu,a" + "," * 60 + "\n")
    for name in ("e.jsonl", "e.csv"):
        with pytest.raises(DataError, match="names more than 50 columns"):
            import_data(tmp_path / name, tmp_path / "out")


def test_bad_rows_are_not_collected_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BAD", 100)
    (tmp_path / "e.csv").write_text("user,item\nu,a\n" + "x\n" * 101)
    with pytest.raises(DataError, match="101 of the first 102 rows are bad"):
        import_data(tmp_path / "e.csv", tmp_path / "out")
    (tmp_path / "f.csv").write_text("user,item\n" + "u,a\n" * 102 + "x\n" * 101)
    assert import_data(tmp_path / "f.csv", tmp_path / "out").rejected == {
        "events": {"wrong number of fields": 101}
    }


@pytest.mark.parametrize(
    "names", [r'"\ud800": 1, "\ud801": 2', r'"\u0000whole": 1', r'"\u0000line": 1']
)
def test_names_that_no_column_can_have_make_a_bad_row(tmp_path, names):
    (tmp_path / "e.jsonl").write_text(
        f'{{"user": "u", "item": "a"}}\n{{"user": "u", "item": "b", {names}}}\n'
    )
    report = import_data(tmp_path / "e.jsonl", tmp_path / "out")
    assert (report.rows, list(report.rejected["events"].values())) == ({"events": 1}, [1])
    pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "\0whole": [1]}).write_parquet(
        tmp_path / "e.parquet"
    )
    with pytest.raises(DataError, match="no name may hold a zero byte"):
        import_data(tmp_path / "e.parquet", tmp_path / "no")


def test_a_column_kept_beside_ours_takes_no_other_columns_name(tmp_path):
    (tmp_path / "e.csv").write_text("user_id,item_id,customer,user_id_in_file\nu,a,c,d\n")
    data = imported(tmp_path / "e.csv", tmp_path / "out", columns={"user_id": "customer"})
    assert data.events.rows(named=True) == [
        {"user_id": "c", "item_id": "a", "user_id_in_file_in_file": "u", "user_id_in_file": "d"}
    ]


def test_a_zone_that_does_not_exist_is_no_time(tmp_path):
    (tmp_path / "e.csv").write_text(
        "user,item,time\nu,a,2014-01-01 10:00+14:00\nu,b,2014-01-01 10:00+99:00\n"
    )
    report = import_data(tmp_path / "e.csv", tmp_path / "out")
    assert (report.rows, report.rejected) == (
        {"events": 1},
        {"events": {"time_ms is not understood": 1}},
    )


def test_a_distinct_source_keeps_the_first_row_of_a_key_and_every_row_without_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sources, "RECORDS", 3)
    path = jsonl(
        tmp_path / "i.jsonl",
        [{"id": one, "n": n} for n, one in enumerate(["a", "b", "a", "c", None, "b", "d", None])],
    )
    found = sources.Distinct(json_lines(path, "utf-8"), "id").blocks(silent)
    assert [row for block in found for row in block.rows.select("id", "n").rows()] == [
        ("a", "0"),
        ("b", "1"),
        ("c", "3"),
        (None, "4"),
        ("d", "6"),
        (None, "7"),
    ]


def test_hashes_that_are_none_are_said(tmp_path):
    imported(jsonl(tmp_path / "e.jsonl", LOG), tmp_path / "out")
    toml = tmp_path / "out" / "dataset.toml"
    toml.write_text('sha256 = "x"\n' + toml.read_text().partition("[sha256]")[0])
    with pytest.raises(DataError, match="holds sha256 = 'x'"):
        Dataset.open(tmp_path / "out")

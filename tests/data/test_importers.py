"""Importers: golden values by hand, and every bad input with the message it deserves."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailor.data import dataset as dataset_module
from tailor.data.columns import by_table, recognised
from tailor.data.dataset import Dataset
from tailor.data.importers import reading
from tailor.data.importers.importing import import_data
from tailor.errors import DataError

REPO = Path(__file__).parents[2]
SHARED = Path(os.environ.get("TAILOR_DATA", REPO.parent / "shared" / "data"))
GOOD = "user_id,item_id,time_ms\nu1,a,1400000000\nu1,b,1400000100\nu2,a,1400000050\n"


class Imported:
    """The result of importing a text: report, data set, rejected rows as (line, reason, raw)."""

    def __init__(
        self,
        folder: Path,
        events: str | bytes,
        *,
        items=None,
        users=None,
        texts=None,
        file="events.csv",
        **options,
    ):
        given = {"items": items, "users": users, "texts": texts}
        paths = {
            table: write(folder / f"{table}.csv", text)
            for table, text in given.items()
            if text is not None
        }
        self.out = folder / "out"
        self.report = import_data(write(folder / file, events), self.out, **paths, **options)
        self.data = Dataset.open(self.out)
        bad = self.out / "rejected.parquet"
        self.bad = pl.read_parquet(bad) if bad.exists() else None

    @property
    def rejected(self) -> list[tuple[int, str, str]]:
        return [] if self.bad is None else self.bad.select("line", "reason", "raw").rows()

    def column(self, name: str, table: str = "events") -> list:
        return self.data.tables[table][name].to_list()


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refuses(folder: Path, message: str, events: str | bytes = GOOD, **options) -> None:
    """Importing raises DataError matching `message` and leaves nothing behind."""
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(DataError, match=message):
        Imported(folder, events, **options)
    assert {path.name for path in folder.iterdir()} - before <= {
        "events.csv",
        "items.csv",
        "users.csv",
        "texts.csv",
    }


@pytest.fixture(params=[reading.BLOCK, 24], ids=["one block", "blocks of 24 bytes"])
def blocks(request, monkeypatch):
    """Whole files and files cut everywhere must give the same."""
    monkeypatch.setattr(reading, "BLOCK", request.param)


# ---- csv


def test_a_log_in_time_order(tmp_path, blocks):
    got = Imported(tmp_path, GOOD)
    assert got.data.events.select("user_id", "item_id", "time_ms").rows() == [
        ("u1", "a", 1400000000000),
        ("u2", "a", 1400000050000),
        ("u1", "b", 1400000100000),
    ]
    assert got.data.name == "out"
    report = got.report
    assert report.rows == {"events": 3}
    assert report.rejected == {}
    assert report.time_unit == "s"
    assert report.time_units == {"s": 3}
    assert report.to_dict()["rows"] == {"events": 3}
    assert report.lines()[0].startswith("events: 3 rows from ")
    assert not (got.out / "rejected.parquet").exists()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_guessed(tmp_path, separator):
    got = Imported(tmp_path, GOOD.replace(",", separator))
    assert got.column("item_id") == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("header", "understood"),
    [
        (
            "userId,movieId,rating,timestamp",
            {"user_id": "userId", "item_id": "movieId", "value": "rating", "time_ms": "timestamp"},
        ),
        (
            "user,item,event_type,time",
            {"user_id": "user", "item_id": "item", "action": "event_type", "time_ms": "time"},
        ),
        (
            "Customer ID,Product ID,stars,date",
            {
                "user_id": "Customer ID",
                "item_id": "Product ID",
                "value": "stars",
                "time_ms": "date",
            },
        ),
        ("uid,asin,x,ts", {"user_id": "uid", "item_id": "asin", "time_ms": "ts"}),
        (
            "user_id,item_id,asin,time_ms",
            {"user_id": "user_id", "item_id": "item_id", "time_ms": "time_ms"},
        ),
        (
            "timestamp,visitorid,event,itemid",
            {
                "user_id": "visitorid",
                "item_id": "itemid",
                "action": "event",
                "time_ms": "timestamp",
            },
        ),
    ],
)
def test_usual_names(header, understood):
    assert recognised("events", header.split(","), {}) == understood


def test_usual_names_of_the_other_tables():
    assert recognised("items", ["id", "name", "description", "genres", "year"], {}) == {
        "item_id": "id",
        "title": "name",
        "text": "description",
        "categories": "genres",
    }
    assert recognised("texts", ["userId", "movieId", "tag", "timestamp"], {}) == {
        "user_id": "userId",
        "item_id": "movieId",
        "text": "tag",
        "time_ms": "timestamp",
    }
    assert recognised("users", ["id", "age"], {}) == {"user_id": "id"}


def test_further_columns_stay(tmp_path):
    got = Imported(tmp_path, "user,item,device\nu,a,007\n")
    assert got.column("device") == ["007"]
    assert got.report.further == {"events": ["device"]}
    assert "  kept as they are: device" in got.report.lines()


def test_columns_by_hand(tmp_path):
    got = Imported(
        tmp_path,
        "who,what,user_id\nu,a,other\n",
        items="sku,blurb,text\na,long,short\n",
        columns={"events.user_id": "who", "item_id": "what", "items.text": "blurb"},
    )
    assert got.column("user_id") == ["u"]
    assert got.column("user_id_in_file") == ["other"]
    assert got.column("text", "items") == ["long"]
    assert got.column("text_in_file", "items") == ["short"]
    assert got.report.columns["events"] == {"user_id": "who", "item_id": "what"}


def test_columns_by_a_usual_name_of_ours(tmp_path):
    got = Imported(
        tmp_path,
        "who,what,when,stars\nu,a,2014-05-01,4\n",
        columns={"user": "who", "item": "what", "timestamp": "when", "events.rating": "stars"},
    )
    assert got.report.columns["events"] == {
        "user_id": "who",
        "item_id": "what",
        "time_ms": "when",
        "value": "stars",
    }
    assert got.column("value") == [4.0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"usr_id": "user_id"}, 'no column "usr_id" of ours. Did you mean "user_id"?'),
        ({"user_id": "usr_id"}, r'no column "usr_id" in .*events.csv. Did you mean "user_id"\?'),
        (
            {"event.user_id": "user_id"},
            'table "event" .event.user_id., which is not imported here. Did you mean "events"',
        ),
        ({"items.text": "x"}, 'the table "items"'),
    ],
)
def test_columns_that_are_not_there(tmp_path, columns, message):
    refuses(tmp_path, message, columns=columns)


def test_a_bare_column_goes_to_the_tables_that_have_it():
    files = {
        "events": (Path("e"), ["who"]),
        "users": (Path("u"), ["who", "age"]),
        "items": (Path("i"), ["x"]),
    }
    assert by_table({"user_id": "who"}, files) == {
        "events": {"user_id": "who"},
        "users": {"user_id": "who"},
        "items": {},
    }


def test_quotes_newlines_and_unicode(tmp_path, blocks):
    items = (
        'item_id,title,text\na,"say ""hi"", you","two\nlines"\n"b,1",😀 Ünï,"crlf\r\nkept"\nc,,\n'
    )
    got = Imported(tmp_path, "user,item\nü 1,a\n", items=items)
    assert got.data.tables["items"].rows() == [
        ("a", 'say "hi", you', "two\nlines"),
        ("b,1", "😀 Ünï", "crlf\r\nkept"),
        ("c", None, None),
    ]
    assert got.column("user_id") == ["ü 1"]


def test_ids_survive(tmp_path, blocks):
    ids = [
        "007",
        "1.0",
        "1e5",
        "😀",
        "a b",
        "-1",
        "0x1f",
        "True",
        "#1",
        "n\u200ban",
        "NaNa",
        "\ufeffx",
    ]
    got = Imported(tmp_path, "user,item\n" + "".join(f" {one},{one} \n" for one in ids))
    assert got.column("user_id") == ids
    assert got.column("item_id") == ids


@pytest.mark.parametrize("missing", ["", " ", '""', "\\N"])
def test_missing_ids(tmp_path, missing, blocks):
    got = Imported(tmp_path, f"user,item,rating\nu1,a,1\n{missing},b,2\nu3,{missing},3\nu4,c,4\n")
    assert got.column("item_id") == ["a", "c"]
    assert got.rejected == [
        (3, "no user_id", f"{missing},b,2"),
        (4, "no item_id", f"u3,{missing},3"),
    ]
    assert got.bad.select("table", "file").rows() == [("events", "events.csv")] * 2
    assert got.report.rejected == {"events": {"no item_id": 1, "no user_id": 1}}


def test_bad_numbers(tmp_path):
    got = Imported(
        tmp_path, "user,item,rating\nu,a,4.5\nu,b,good\nu,c,\nu,d,inf\nu,e,1e2\nu,f,nan\n"
    )
    assert got.data.events.select("item_id", "value").rows() == [
        ("a", 4.5),
        ("c", None),
        ("e", 100.0),
        ("f", None),
    ]
    assert [(line, reason) for line, reason, _ in got.rejected] == [
        (3, 'value is not a number: "good"'),
        (5, 'value is not a number: "inf"'),
    ]
    assert got.report.rejected == {"events": {"value is not a number": 2}}


def test_wrong_numbers_of_fields_have_their_true_lines(tmp_path, blocks):
    text = 'user,item,note\nu,a,"x\ny"\nu,b\n\nu,c,z,z\r\n\r\nu,d,"5"" disc"\nu,e,ok'
    got = Imported(tmp_path, text)
    assert got.data.events.rows() == [("u", "a", "x\ny"), ("u", "d", '5" disc'), ("u", "e", "ok")]
    assert got.rejected == [
        (4, "wrong number of fields: 2 instead of 3", "u,b"),
        (6, "wrong number of fields: 4 instead of 3", "u,c,z,z"),
    ]


def test_stray_quotes_cost_only_their_own_line(tmp_path, blocks):
    got = Imported(tmp_path, 'user,item,note\nu,a,19" rack\nu,b,"open\nu,c,x\nu,d,y\n')
    assert got.data.events.rows() == [("u", "a", '19" rack'), ("u", "c", "x"), ("u", "d", "y")]
    assert got.rejected == [(3, "a quote is never closed", 'u,b,"open')]


def test_two_stray_quotes_do_not_swallow_what_is_between_them(tmp_path, blocks):
    got = Imported(tmp_path, 'user,item,note\nu,a,"x\nu,b,y\nu,c,"x\nu,d,z\n')
    assert got.data.events.rows() == [("u", "b", "y"), ("u", "d", "z")]
    assert [(line, reason) for line, reason, _ in got.rejected] == [
        (2, "a quote has no partner"),
        (4, "a quote is never closed"),
    ]


def test_a_carriage_return_within_a_line_is_no_line_end(tmp_path, blocks):
    events = 'user,item,note\nu,a,a\ru,b\nu,b,"c\rd"\nu,c,e\rf\nu,d,5" \rg\nu,e,"h\ni\rj"\n'
    got = Imported(tmp_path, events)
    assert got.column("note") == ["c\rd", "e\rf", '5" \rg', "h\ni\rj"]
    assert got.rejected == [(2, "wrong number of fields: 4 instead of 3", "u,a,a\ru,b")]


def test_a_quote_open_for_megabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 2000)
    monkeypatch.setattr(reading, "RECORD", 1000)
    lines = [f"u{n},i{n},x" for n in range(2000)]
    lines[5] = 'u5,i5,"x'
    got = Imported(tmp_path, "user,item,note\n" + "\n".join(lines))
    assert got.rejected == [(7, "a quote is never closed", 'u5,i5,"x')]
    assert got.report.rows == {"events": 1999}


def test_repeated_event_ids(tmp_path, blocks):
    text = "event_id,user,item,ts\ne1,u,a,1400000000\ne2,u,b,1400000001\n,u,b,1400000002\ne1,u,c,1400000003\n,u,b,1400000002\ne1,u,d,1\n"
    got = Imported(tmp_path, text)
    assert got.column("item_id") == ["a", "b", "b", "b"]
    assert got.rejected == [
        (5, 'repeated event_id: "e1" stands on line 2 first', "e1,u,c,1400000003"),
        (7, "time_ms is absurd: before 1971 or after 2100, read in s", "e1,u,d,1"),
    ]
    assert got.report.counts["exact_duplicates"] == 1


def test_exact_duplicates_are_kept_and_counted(tmp_path):
    got = Imported(
        tmp_path,
        "user,item,ts,x\n" + "u,a,1400000000,1\n" * 3 + "u,a,1400000000,2\nu,b,1400000000,1\n",
    )
    assert len(got.data.events) == 5
    assert got.report.counts["exact_duplicates"] == 2
    assert "exact duplicates: 2" in got.report.lines()


def test_repeated_items_and_users_keep_the_first(tmp_path):
    got = Imported(
        tmp_path,
        GOOD,
        items="item_id,title\na,one\nb,two\na,three\n",
        users="user_id,age\nu1,3\nu1,4\n",
    )
    assert got.column("title", "items") == ["one", "two"]
    assert got.column("age", "users") == [3]
    assert got.bad.select("table", "line", "reason").rows() == [
        ("items", 4, 'repeated item_id: "a" stands on line 2 first'),
        ("users", 3, 'repeated user_id: "u1" stands on line 2 first'),
    ]


def test_strangers_are_kept_and_counted(tmp_path):
    got = Imported(
        tmp_path, GOOD, items="item_id,title\nb,two\nz,never seen\n", users="user_id\nu1\nu9\nu8\n"
    )
    assert len(got.data.events) == 3
    assert got.report.counts == {
        "exact_duplicates": 0,
        "users_not_in_table": 1,
        "users_without_events": 2,
        "items_not_in_table": 1,
        "items_without_events": 1,
    }
    assert sorted(got.data.catalogue.ids) == ["a", "b", "z"]


def test_categories(tmp_path):
    def lists(text: str) -> list:
        return Imported(tmp_path, GOOD, items="item_id\tgenres\n" + text, overwrite=True).column(
            "categories", "items"
        )

    assert lists("a\tx|y, z\nb\t\n") == [["x", "y, z"], None]
    assert lists("a\tx; y\nb\tz\n") == [["x", "y"], ["z"]]
    assert lists("a\tA > B\n") == [["A", "B"]]
    assert lists("a\tTea &amp; Pots > Green\nb\tCaf&#233; > B\n") == [
        ["Tea &amp; Pots", "Green"],
        ["Caf&#233;", "B"],
    ]
    assert lists("a\tTea &amp; Pots; AT&T;B\n") == [["Tea &amp; Pots", "AT&T", "B"]]
    assert lists("a\tx, y\n") == [["x", "y"]]
    assert lists("a\t['x, y', 'z']\nb\t[\"q\"]\n") == [["x, y", "z"], ["q"]]
    assert lists("a\t[broken, 'x']\n") == [["broken", "x"]]


def test_a_comma_may_part_decimals(tmp_path):
    events = "user_id;item_id;rating\nu;a;4,5\nu;b;-3\nu;c;1.299,50\nu;d;4.5\n"
    items = "item_id;price\na;7,00\nb;1.299,50\nc;1299.50\nd;12.50,3\n"
    got = Imported(tmp_path, events, items=items, decimal=",")
    assert got.column("value") == [4.5, -3.0, 1299.5] and [one[1] for one in got.rejected] == [
        'value is not a number: "4.5"'
    ]
    assert got.column("price", "items") == [7.0, 1299.5, None, None]  # not 129950, nor 125
    assert any(
        "could not be read in 2 rows" in one and "1.299,50" in one for one in got.report.notes
    )
    with pytest.raises(DataError, match="decimals are parted by"):
        Imported(tmp_path, events, overwrite=True, decimal=";")


def test_numbers_of_items_that_cannot_be_read_are_left_empty_and_told(tmp_path):
    got = Imported(tmp_path, GOOD, items="item_id,price,created\na,9.5,2014-05-01\nb,$3,soon\n")
    assert got.data.tables["items"].select("price", "created_ms").rows() == [
        (9.5, 1398902400000),
        (None, None),
    ]
    assert (
        'items.price could not be read in 1 rows and was left empty: "$3" is not a number such as'
        " 1299.50 (--decimal , reads 1.299,50)" in got.report.notes
    )
    assert (
        'items.created_ms could not be read in 1 rows and was left empty: "soon" is not a time'
        in got.report.notes
    )


def test_texts_have_a_kind(tmp_path):
    got = Imported(
        tmp_path,
        GOOD,
        texts="userId,movieId,tag,timestamp\nu1,a,so 'good',1400000000\nu1,b,,1400000000\n",
    )
    assert got.data.tables["texts"].rows_by_key("user_id", named=True)["u1"] == [
        {"item_id": "a", "text": "so 'good'", "kind": "tag", "time_ms": 1400000000000}
    ]
    assert [(line, reason) for line, reason, _ in got.rejected] == [(3, "no text")]


def test_an_order_column_orders_where_there_are_no_times(tmp_path):
    got = Imported(tmp_path, "user,item,order\nu,b,2\nu,a,1\nv,c,1\nv,d,x\n")
    assert got.column("item_id") == ["a", "c", "b"]
    assert got.rejected[0][:2] == (5, 'order is not a number: "x"')
    timed = Imported(tmp_path, "user,item,order,ts\nu,b,X7,1400000000\n", overwrite=True)
    assert timed.column("order_in_file") == ["X7"]


# ---- strict


@pytest.mark.parametrize(
    ("events", "place"),
    [
        ("user,item\nu,a\n,b\n,c\n", "events.csv:3: no user_id; the line reads ',b'"),
        ("user,item,ts\nu,a,1400000000\nu,b,5\n", "events.csv:3: time_ms is absurd"),
        ("user,item\nu,a\n\nu\n", "events.csv:4: wrong number of fields: 1 instead of 2"),
        (
            "event_id,user,item\n1,u,a\n1,u,b\n",
            'events.csv:3: repeated event_id: "1" stands on line 2 first',
        ),
    ],
)
def test_strict_names_the_place_and_writes_nothing(tmp_path, events, place):
    refuses(tmp_path, place, events, strict=True)


def test_strict_with_nothing_bad(tmp_path):
    assert Imported(tmp_path, GOOD, strict=True).report.rows == {"events": 3}


# ---- files that cannot be used


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ("", "events.csv is empty"),
        ("\n\r\n\n", "holds only blank lines"),
        ("user_id,item_id\n", r"holds a header \(user_id, item_id\) and no rows"),
        ("user_id,item_id\n\n \n", "holds a header|every row was rejected"),
        (
            "user_id,itm,ts\nu,a,1\n",
            (
                r"events.csv:1: no column of this file is known as item_id; .* user_id, itm,"
                r" ts.*--columns events.item_id=NAME"
            ),
        ),
        ("user_id,item_idd\nu,a\n", r'Did you mean "item_idd"\?'),
        (
            "196,242,3\n186,302,3\n",
            "the first line, 196, 242, 3, looks like a row .*--no-header --columns user_id=1",
        ),
        ("user,item,item\nu,a,b\n", 'several columns are called "item"'),
        (b"PAR1\x15\x04", "is a Parquet file"),
        (b"PK\x03\x04abc", "is a zip archive"),
        (b"\x1f\x8b\x08", "is a gzip file"),
        (
            "user,item\nu,ü\nu,ä\n".encode("latin-1"),
            r"events.csv:2: byte 12 \(0xfc\) is not utf-8: the file may be in latin-1",
        ),
        (
            GOOD.encode("utf-16"),
            r"events.csv:1: byte 0 \(0xff\) is not utf-8: the file may be in utf-16",
        ),
        (GOOD.encode("utf-16-le"), "a zero byte in the header"),
        ("user,item\ru,a\r", "carriage return alone"),
        (
            "user,item\n,a\n,b\nx\n",
            (
                r"every row was rejected: no user_id \(2\), wrong number of fields \(1\). The"
                r" first, line 2, reads ',a'"
            ),
        ),
        ('"user,item\nu,a\n', "the header cannot be read: a quote is never closed"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, events, message):
    refuses(tmp_path, message, events)


def test_wrong_encoding_far_into_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 16)
    refuses(
        tmp_path,
        r"events.csv:42: byte 255 \(0xe9\)",
        b"user,item\n" + b"u,abc\n" * 40 + b"u,abc\xe9\n" * 30,
    )


def test_a_stray_byte_costs_one_row(tmp_path, blocks):
    events = "user,item\nu,é\n".encode() + b"u,abc\n" * 40 + b"v,abc\xe9\n" + "u,ü\n".encode()
    got = Imported(tmp_path, events)
    assert got.report.rows == {"events": 42}
    reason = "holds a byte that is no text in the file's encoding (0xe9)"
    assert got.rejected == [(43, reason, "v,abc\\xe9")]


def test_a_stray_byte_within_quotes_costs_the_whole_record_and_no_other(tmp_path, blocks):
    events = b'user,item,title\nu,a,"x\ny\xff z"\nu,b,"q"\n' + b"u,c,d\n" * 20
    got = Imported(tmp_path, events)
    assert got.column("item_id") == ["b"] + ["c"] * 20
    assert [(line, raw) for line, _, raw in got.rejected] == [(2, 'u,a,"x\ny\\xff z"')]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252", "utf-8-sig"])
def test_other_encodings(tmp_path, encoding, blocks):
    got = Imported(tmp_path, "user,item\nü,é\n".encode(encoding), encoding=encoding)
    assert got.data.events.rows() == [("ü", "é")]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    assert (
        Imported(tmp_path, b"\xef\xbb\xbf" + GOOD.encode()).report.columns["events"]["user_id"]
        == "user_id"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "cvs"}, 'no format "cvs". Did you mean "csv"'),
        ({"time_unit": "sec"}, 'no unit of time "sec"'),
        ({"encoding": "utf8x"}, 'no encoding "utf8x"'),
        ({"encoding": "rot13"}, "is not an encoding of text"),
        ({"encoding": "a\0b"}, "no encoding"),
    ],
)
def test_options_that_do_not_exist(tmp_path, options, message):
    refuses(tmp_path, message, **options)


def test_paths_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.csv does not exist"):
        import_data(tmp_path / "nothing.csv", tmp_path / "out")
    with pytest.raises(DataError, match="is a folder, a file of events is needed"):
        import_data(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="does not exist: name the file of items"):
        import_data(write(tmp_path / "e.csv", GOOD), tmp_path / "out", items=tmp_path / "no")
    with pytest.raises(DataError, match="cannot be read"):
        import_data("a\0b", tmp_path / "out")
    import_data(tmp_path / "e.csv", tmp_path / "out")
    with pytest.raises(DataError, match=r"is there already: .*--overwrite"):
        import_data(tmp_path / "e.csv", tmp_path / "out")
    assert import_data(tmp_path / "e.csv", tmp_path / "out", overwrite=True, name="mine").rows == {
        "events": 3
    }
    assert Dataset.open(tmp_path / "out").name == "mine"


# ---- sequences


def test_sequences(tmp_path, blocks):
    got = Imported(tmp_path, "u1 a b  c\nu2\n\nu3\t007 \\N nan x\r\nu1 d", format="sequences")
    assert got.data.events.rows() == [
        ("u1", "a", 0),
        ("u1", "b", 1),
        ("u1", "c", 2),
        ("u3", "007", 0),
        ("u3", "nan", 1),
        ("u3", "x", 2),
        ("u1", "d", 3),
    ]
    assert got.data.events.columns == ["user_id", "item_id", "order"]
    assert got.rejected == [(2, "no item_id", "u2"), (4, "no item_id", "u3\t007 \\N nan x")]
    assert got.report.time_unit is None
    assert got.report.notes == [
        "1 users have several lines: each was read as the continuation of the one before"
    ]
    u1 = got.data.users.rows(["u1"])[0]
    assert got.data.catalogue.named(got.data.sequences.rows[u1]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("\n \n", "only blank lines"), ("u1\nu2\n", "every row was rejected: no item_id .2.")],
)
def test_sequences_without_items(tmp_path, text, message):
    refuses(tmp_path, message, text, format="sequences")


def test_sequences_strict(tmp_path):
    refuses(tmp_path, "events.csv:2: no item_id", "u a\nu2\n", format="sequences", strict=True)


# ---- recbole


def recbole(folder: Path) -> Path:
    folder.mkdir()
    write(
        folder / "x.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\tdwell:float\n"
        "1\t01\t3\t881250949\t1.5\n2\t01\t4\t881250948\t2\n",
    )
    write(
        folder / "x.item",
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\trelease_year:token\n01\tThe "Toy"'
        " Story\tAnimation Comedy\t1995\n",
    )
    write(folder / "x.user", "user_id:token\tage:token\n1\t024\n")
    return folder


def test_a_folder_of_atomic_files(tmp_path, blocks):
    report = import_data(recbole(tmp_path / "x"), tmp_path / "out", format="recbole")
    data = Dataset.open(tmp_path / "out")
    assert data.events.sort("user_id").select(
        "user_id", "item_id", "value", "time_ms", "dwell"
    ).rows() == [("1", "01", 3.0, 881250949000, 1.5), ("2", "01", 4.0, 881250948000, 2.0)]
    assert data.tables["items"].select("item_id", "title", "categories", "release_year").rows() == [
        ("01", 'The "Toy" Story', ["Animation", "Comedy"], "1995")
    ]
    assert data.tables["users"].rows() == [("1", "024")]
    assert report.columns["items"] == {
        "item_id": "item_id",
        "title": "movie_title",
        "categories": "class",
    }


def test_folders_that_are_no_atomic_files(tmp_path):
    folder = recbole(tmp_path / "x")
    with pytest.raises(DataError, match="--format recbole"):
        import_data(folder, tmp_path / "out")
    write(folder / "y.inter", "a")
    with pytest.raises(DataError, match=r"must hold one file NAME.inter, it has x.inter, y.inter"):
        import_data(folder, tmp_path / "out", format="recbole")


def test_one_atomic_file_with_a_csv_of_items(tmp_path):
    folder = recbole(tmp_path / "x")
    items = write(tmp_path / "i.csv", 'id,title\n01,"Toy, Story"\n')
    import_data(folder / "x.inter", tmp_path / "out", format="recbole", items=items)
    assert Dataset.open(tmp_path / "out").tables["items"]["title"].to_list() == ["Toy, Story"]


# ---- what goes wrong while writing


def test_a_truncated_table_is_named(tmp_path):
    got = Imported(tmp_path, GOOD)
    table = got.out / "events.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"events.parquet is damaged or cut short .*: import again"):
        Dataset.open(got.out)


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        pl.exceptions.ComputeError("No space left on device"),
    ],
)
def test_a_full_disk_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch, problem):
    def full(*args, **options):
        raise problem

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    refuses(tmp_path, "out failed .*No space left on device.*; nothing was left there")
    monkeypatch.undo()
    before = Imported(tmp_path, GOOD).data.content_hash
    monkeypatch.setattr(dataset_module.np, "save", full)
    if isinstance(problem, OSError):
        refuses(tmp_path, "nothing was left there", "user,item\nu,z\n", overwrite=True)
    assert Dataset.open(tmp_path / "out").content_hash == before


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, the always full disk of Linux"
)
def test_what_polars_says_on_a_full_disk_is_understood(tmp_path, monkeypatch):
    real = pl.DataFrame.write_parquet
    monkeypatch.setattr(pl.DataFrame, "write_parquet", lambda frame, path: real(frame, "/dev/full"))
    refuses(tmp_path, "No space left on device")


@pytest.mark.parametrize("where", ["reading", "writing"])
def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch, where):
    def stopped(*args, **options):
        raise KeyboardInterrupt
        yield

    if where == "writing":
        monkeypatch.setattr(pl.DataFrame, "write_parquet", lambda *_: next(stopped()))
    with pytest.raises(KeyboardInterrupt):
        Imported(tmp_path, GOOD, **({"progress": stopped} if where == "reading" else {}))
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


def test_ctrl_c_between_the_two_renames_keeps_what_was_there(tmp_path, monkeypatch):
    before = Imported(tmp_path, GOOD).data.content_hash
    rename = Path.rename

    def interrupted(path, target):
        if Path(target) == tmp_path / "out" and "old" not in path.name:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Imported(tmp_path, "user,item\nu,z\n", overwrite=True)
    assert Dataset.open(tmp_path / "out").content_hash == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.csv", "out"]


def test_a_kill_half_way_leaves_no_data_set_and_the_next_import_cleans_up(tmp_path):
    code = """
        import os, signal, sys
        import numpy as np
        from tailor.data.importers.importing import import_data
        np.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # the tables are written by then
        import_data(sys.argv[1], sys.argv[2])
    """
    events = write(tmp_path / "events.csv", GOOD)
    command = [sys.executable, "-c", textwrap.dedent(code), str(events), str(tmp_path / "out")]
    done = subprocess.run(
        command, cwd=REPO, env={**os.environ, "PYTHONPATH": str(REPO)}, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out.partial-*"))
    assert import_data(events, tmp_path / "out").rows == {"events": 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.csv", "out"]


def test_progress_steps_over_the_bytes_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 20)
    seen = []

    def progress(steps, what, total=None):
        steps = list(steps)
        seen.append((what, total, len(steps)))
        yield from steps

    Imported(tmp_path, GOOD, progress=progress)
    assert seen == [("reading events.csv", -(-len(GOOD) // 20), -(-len(GOOD) // 20))]


def test_python_holds_few_objects_a_row(tmp_path):
    n = 200_000
    users = np.random.default_rng(0).integers(0, 1000, n)
    frame = pl.DataFrame(
        {"user_id": users, "item_id": users[::-1], "timestamp": users + 1_400_000_000}
    )
    frame.write_csv(tmp_path / "big.csv")
    tracemalloc.start()
    import_data(tmp_path / "big.csv", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * n  # a dict a row would take more


# ---- real data, where it is at hand


def real(*names: str) -> list[Path]:
    paths = [SHARED / name for name in names]
    if not all(path.exists() for path in paths):
        pytest.skip(f"needs {' and '.join(names)} in the folder named by TAILOR_DATA")
    return paths


@pytest.mark.parametrize(
    ("name", "counts"), [("beauty", (22363, 12101, 198502)), ("sports", (35598, 18357, 296337))]
)
def test_amazon(tmp_path, name, counts):
    events, items = real(f"amazon/{name}/sequences.txt", f"amazon/{name}/items.csv")
    report = import_data(events, tmp_path / "out", format="sequences", items=items, strict=True)
    data = Dataset.open(tmp_path / "out")
    assert (len(data.users), len(data.catalogue), len(data.events)) == counts
    user, *sequence = events.read_text().splitlines()[10].split()
    assert data.catalogue.named(data.sequences.rows[data.users.rows([user])[0]]) == sequence
    assert report.counts == {
        "exact_duplicates": 0,
        "items_not_in_table": 0,
        "items_without_events": 0,
    }


def test_movielens_100k(tmp_path):
    import_data(*real("movielens/ml-100k"), tmp_path / "out", format="recbole", strict=True)
    data = Dataset.open(tmp_path / "out")
    assert (len(data.users), len(data.catalogue), len(data.events)) == (943, 1682, 100_000)
    toy_story = data.tables["items"].row(by_predicate=pl.col("item_id") == "1", named=True)
    assert toy_story["title"] == "Toy Story"
    assert toy_story["categories"] == ["Animation", "Children's", "Comedy"]


def test_movielens_latest_small(tmp_path):
    ratings, movies, tags = real(
        *(f"movielens/ml-latest-small/{name}.csv" for name in ("ratings", "movies", "tags"))
    )
    report = import_data(ratings, tmp_path / "out", items=movies, texts=tags, strict=True)
    assert report.rows == {"events": 100_004, "items": 9125, "texts": 1296}
    assert report.counts["items_without_events"] == 59
    data = Dataset.open(tmp_path / "out")
    first = data.sequences.times_ms[data.users.rows(["1"])[0]]
    assert first[0] == 1260759108000
    assert data.tables["texts"]["kind"].unique().to_list() == ["tag"]
    assert data.tables["items"]["categories"][0].to_list() == [
        "Adventure",
        "Animation",
        "Children",
        "Comedy",
        "Fantasy",
    ]

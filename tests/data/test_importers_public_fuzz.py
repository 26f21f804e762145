"""Any bytes in any of the public layouts: a data set or a DataError, and nothing left behind."""

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailor.data.checks import check
from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.errors import DataError

FAST = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
FILES = {  # format -> the files of its folder
    "jsonl": ("e.jsonl",),
    "movielens": ("ratings.dat", "movies.dat", "users.dat"),
    "amazon-2023": ("x.jsonl", "meta_x.jsonl"),
    "user-json": ("x.jsonl",),
    "beir": ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"),
    "trec": ("qrels.txt", "topics.tsv", "collection.tsv"),
    "cranfield": ("cran.all.1400", "cran.qry", "cran.qrels"),
    "cacm": ("cacm.all", "query.text", "qrels.text"),
    "npl": ("doc-text", "query-text", "rlv-ass"),
    "locomo": ("locomo10.json",),
    "redial": ("test.jsonl", "entity2id.json"),
    "open-bandit": ("men.csv", "item_context.csv"),
}
PIECES = st.sampled_from(
    [
        b"\n",
        b"\t",
        b"::",
        b" ",
        b",",
        b'"',
        b"1",
        b"2",
        b"x",
        b".I 1\n",
        b".W\n",
        b".T\n",
        b"/\n",
        b"q1 0 d1 1\n",
        b"1::2::3::978300760\n",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\xe9",
        b"\0",
        b'{"_id": "a", "text": "t"}\n',
        b'{"user_id": "u", "parent_asin": "a", "timestamp": 1588687728923, "rating": "x"}\n',
        b"query-id\tcorpus-id\tscore\n",
        b'{"user_id": "u", "history": [{"parent_asin": 3, "timestamp_ms": 1588687728923}, 4]}\n',
        b'{"dialog_id": [1], "context": ["a"], "resp": 3, "rec": [1]}\n',
        (
            b'[{"qa": [], "conversation": {"session_1": [{"dia_id": "D1:1", "speaker": 3, "text":'
            b" {}}]}}]"
        ),
        b'{"dialog_id": "x", "context": [1], "resp": "r", "rec": 7}\n',
        b'[{"qa": [{"question": "q", "category": [], "evidence": "D1:1"}], "conversation": {}}]',
        b",timestamp,item_id,position,click\n0,2019-11-24,1,2,0\n",
    ]
)
BYTES = st.one_of(st.lists(PIECES, max_size=12).map(b"".join), st.binary(max_size=60))


@pytest.mark.parametrize("format", FILES)
@FAST
@given(st.data())
def test_any_bytes(format, data):
    with tempfile.TemporaryDirectory() as name:
        src = Path(name) / "src"
        for file in FILES[format]:
            (src / file).parent.mkdir(parents=True, exist_ok=True)
            (src / file).write_bytes(data.draw(BYTES))
        try:
            report = import_data(src, Path(name) / "out", format=format)
        except DataError:
            assert [path.name for path in Path(name).iterdir()] == ["src"]
            return
        opened = Dataset.open(Path(name) / "out")
        assert {table: len(frame) for table, frame in opened.tables.items()} == report.rows
        assert report.lines()
        assert all(one.says for one in check(opened))


@FAST
@given(
    st.binary(max_size=80),
    st.sampled_from([b"\x1f\x8b", b"PK\x03\x04", b"PAR1", gzip.compress(b"user,item\nu,a\n")[:-4]]),
    st.sampled_from([".csv", ".jsonl", ".parquet", ".csv.gz"]),
)
def test_any_bytes_that_begin_like_an_archive(body, head, ending):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"e{ending}"
        path.write_bytes(head + body)
        with pytest.raises(DataError):
            import_data(path, Path(name) / "out")
        assert [one.name for one in Path(name).iterdir()] == [path.name]

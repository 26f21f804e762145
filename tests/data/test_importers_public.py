"""The layouts of public data sets: small fixtures written from their documentation, and the real
files where they are at hand.
"""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.importers.importing import FORMATS, import_data
from tailor.errors import DataError

SHARED = Path(os.environ.get("TAILOR_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"needs {name} in the folder named by TAILOR_DATA")
    return SHARED / name


def imported(src: Path, out: Path, format: str, **options) -> Dataset:
    import_data(src, out, format=format, **options)
    return Dataset.open(out)


def folder(path: Path, **files: str | bytes) -> Path:
    """A folder of files; "_" in a name stands for "." """
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", "-").replace("_", ".")).write_bytes(
            text if isinstance(text, bytes) else text.encode()
        )
    return path


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def reasons(out: Path) -> list:
    return (
        pl.read_parquet(out / "rejected.parquet").select("table", "file", "line", "reason").rows()
    )


@pytest.mark.parametrize(
    "format", [one for one in FORMATS if one not in {"csv", "jsonl", "parquet", "sequences"}]
)
def test_a_folder_of_something_else_is_refused(tmp_path, format):
    src = folder(tmp_path / "x", notes_md="nothing")
    with pytest.raises(DataError, match=r"name (the|a) f|does not exist|topics are|is a folder"):
        import_data(src, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_not_there_is_named(tmp_path, format):
    with pytest.raises(DataError, match=r"nowhere.*(does not exist|is no folder|holds no)"):
        import_data(tmp_path / "nowhere", tmp_path / "out", format=format)


@pytest.mark.parametrize("format", FORMATS)
def test_encodings_that_do_not_exist(tmp_path, format):
    src = folder(
        tmp_path / "x",
        movies_dat="1::a::b\n",
        x_jsonl="{}\n",
        corpus_jsonl='{"_id": 1}\n',
        topics_tsv="q\tw\n",
        test_jsonl="{}\n",
        e_csv="user,item\nu,i\n",
        locomo10_json="[]",
        x_inter="a\nb\n",
    )
    with pytest.raises(DataError):
        import_data(src, tmp_path / "out", format=format, encoding="utf8x")


# ---- MovieLens

MOVIES = (
    "1::Toy Story (1995)::Animation|Comedy\n2::Misérables, Les (1995)::Drama\n3::A::B (2000)::(no"
    " genres listed)\n4::broken\n"
)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_movielens_dat(tmp_path, encoding):
    src = folder(
        tmp_path / "ml",
        ratings_dat="1::2::5::978300760\n1::1::3::978300759\n",
        movies_dat=MOVIES.encode(encoding),
        users_dat="1::F::1::10::48067\n",
    )
    data = imported(src, tmp_path / "out", "movielens")
    assert data.events.select("user_id", "item_id", "value", "time_ms").rows() == [
        ("1", "1", 3.0, 978300759000),
        ("1", "2", 5.0, 978300760000),
    ]
    assert data.tables["items"].select("item_id", "title", "categories").rows() == [
        ("1", "Toy Story (1995)", ["Animation", "Comedy"]),
        ("2", "Misérables, Les (1995)", ["Drama"]),
        ("3", "A::B (2000)", None),
    ]
    assert data.tables["users"].row(0, named=True) == {
        "user_id": "1",
        "gender": "F",
        "age": 1,
        "occupation": 10,
        "zip_code": "48067",
    }
    assert reasons(tmp_path / "out") == [
        ("items", "movies.dat", 4, "wrong number of fields: 2 instead of 3")
    ]


def test_movielens_of_the_shared_samples(tmp_path):
    data = imported(shared("movielens/ml-latest-small"), tmp_path / "out", "movielens", strict=True)
    assert {table: len(frame) for table, frame in data.tables.items()} == {
        "events": 100_004,
        "items": 9125,
        "texts": 1296,
    }
    src = shared("movielens/ml-1m-1000users")
    (tmp_path / "r.csv").write_text("user,item,rating,timestamp\n1,1193,5,978300760\n")
    data = imported(
        src, tmp_path / "dat", "movielens", tables={"events": tmp_path / "r.csv"}, strict=True
    )
    assert {table: len(frame) for table, frame in data.tables.items()} == {
        "events": 1,
        "items": 3883,
        "users": 6040,
    }
    with pytest.raises(DataError, match="needs a table of events"):
        import_data(src, tmp_path / "none", format="movielens")


# ---- Amazon

REVIEWS = [
    {
        "rating": 5.0,
        "title": "Great",
        "text": "Works.",
        "images": [],
        "asin": "B1-RED",
        "parent_asin": "B1",
        "user_id": "U1",
        "timestamp": 1588687728923,
        "verified_purchase": True,
        "helpful_vote": 2,
    },
    {
        "rating": 1.0,
        "title": "",
        "text": "",
        "images": [],
        "asin": "B2",
        "parent_asin": "B2",
        "user_id": "U1",
        "timestamp": 1588687728922,
        "verified_purchase": False,
        "helpful_vote": 0,
    },
    {"rating": 1.0, "title": "x", "text": "y", "user_id": "U2", "timestamp": 1588687728922},
]
META = [
    {
        "main_category": "All Beauty",
        "title": "Comb",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["fine", "strong"],
        "description": ["A comb.", "It combs."],
        "price": 7.5,
        "images": [{}],
        "videos": [],
        "store": "S",
        "categories": ["Hair", "Combs"],
        "details": {"Brand": "x"},
        "parent_asin": "B1",
        "bought_together": None,
    },
    {
        "main_category": None,
        "title": "Bag",
        "features": [],
        "description": [],
        "price": "from $1,007.99",
        "categories": [],
        "parent_asin": "B2",
    },
    {
        "main_category": None,
        "title": "Box",
        "features": [],
        "description": [],
        "price": "$1,007.99",
        "categories": [],
        "parent_asin": "B3",
    },
]


@pytest.mark.parametrize("packed", [False, True])
def test_amazon_2023(tmp_path, packed):
    ending, wrap = ("jsonl_gz", gzip.compress) if packed else ("jsonl", bytes)
    src = folder(tmp_path / "amazon", **{f"Beauty_{ending}": wrap(lines(*REVIEWS).encode())})
    (src / f"meta_Beauty.{ending.replace('_', '.')}").write_bytes(wrap(lines(*META).encode()))
    for name, given in (("folder", src), ("file", src / f"Beauty.{ending.replace('_', '.')}")):
        data = imported(given, tmp_path / name, "amazon-2023")
        assert data.events.select(
            "user_id",
            "item_id",
            "time_ms",
            "action",
            "value",
            "verified_purchase",
            "helpful_vote",
            "variant",
        ).rows() == [
            ("U1", "B2", 1588687728922, "review", 1.0, False, 0, None),
            ("U1", "B1", 1588687728923, "review", 5.0, True, 2, "B1-RED"),
        ]
        assert data.tables["texts"].select(
            "user_id", "item_id", "kind", "text", "time_ms"
        ).rows() == [("U1", "B1", "review", "Great\nWorks.", 1588687728923)]
        assert data.tables["items"].select(
            "item_id", "title", "text", "categories", "price", "store"
        ).rows() == [
            (
                "B1",
                "Comb",
                "fine\nstrong\nA comb.\nIt combs.",
                ["All Beauty", "Hair", "Combs"],
                7.5,
                "S",
            ),
            ("B2", "Bag", None, None, None, None),
            ("B3", "Box", None, None, 1007.99, None),
        ]
        assert [row[0::2] for row in reasons(tmp_path / name)] == [("events", 3)]


def review(item: str, time: int, **more) -> dict:
    return {
        "parent_asin": item,
        "rating": 4.0,
        "timestamp_ms": time,
        "review_excerpt": "ex",
        "review_full": "full",
        "review_title": "T",
        "product": {"title": f"title {item}", "brand": "b", "price": 2.5, "main_category": "C"},
        **more,
    }


def test_reviews_by_user(tmp_path):
    rows = [
        {
            "user_id": "u",
            "category": "Toys",
            "history": [review("a", 1600000000000), review("b", 1600000000001)],
            "heldout": review("a", 1600000000009),
        },
        {"user_id": "v", "category": "Toys", "history": [review("b", 5)], "heldout": None},
        {"user_id": "w", "category": "x", "history": 3},
    ]
    src = folder(tmp_path / "x", all_jsonl=lines(*rows))
    data = imported(src / "all.jsonl", tmp_path / "out", "user-json")
    assert data.events.select("user_id", "item_id", "value", "heldout", "domain").rows() == [
        ("u", "a", 4.0, False, "Toys"),
        ("u", "b", 4.0, False, "Toys"),
        ("u", "a", 4.0, True, "Toys"),
    ]
    assert data.tables["items"].rows() == [
        ("a", "title a", ["C"], 2.5, "b"),
        ("b", "title b", ["C"], 2.5, "b"),
    ]
    assert data.tables["texts"]["text"].to_list() == ["T\nfull"] * 3
    assert data.tables["texts"]["title"].to_list() == ["T"] * 3
    assert [
        (table, line, reason.split(":")[0]) for table, _, line, reason in reasons(tmp_path / "out")
    ] == [
        ("events", 2, "time_ms is absurd"),
        ("events", 3, "is not of the expected layout"),
        ("texts", 2, "time_ms is absurd"),
    ]


def test_reviews_by_user_of_the_shared_sample(tmp_path):
    data = imported(shared("amazon-reviews"), tmp_path / "out", "user-json", strict=True)
    # 598 and 70 users' records of four reviews and one held out
    assert len(data.events) == 5 * (598 + 70) == len(data.tables["texts"])
    assert data.events["heldout"].sum() == 668
    training = imported(
        shared("amazon-reviews/training.jsonl"), tmp_path / "t", "user-json", strict=True
    )
    assert len(training.events) == 2990 and len(training.tables["items"]) == 2807


# ---- TREC and BEIR


def test_beir(tmp_path):
    src = folder(
        tmp_path / "b",
        corpus_jsonl=lines(
            {"_id": "d1", "title": "T", "text": "one", "metadata": {"url": "u"}},
            {"_id": "d2", "title": "", "text": "two"},
            {"text": "none"},
        ),
        queries_jsonl=lines({"_id": "q1", "text": "what", "metadata": {}}),
    )
    folder(
        src / "qrels",
        test_tsv="query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\nq1\td2\tx\n",
        dev_tsv="q1\t0\td2\t0\n",
    )
    data = imported(src, tmp_path / "out", "beir")
    assert data.tables["items"].rows() == [
        ("d1", "T", "one", '{"url": "u"}'),
        ("d2", None, "two", None),
    ]
    assert data.tables["requests"].select("request_id", "text").rows() == [("q1", "what")]
    assert data.tables["judgements"].sort("grade").rows() == [
        ("q1", "d2", 0.0, "dev"),
        ("q1", "d1", 2.0, "test"),
    ]
    assert reasons(tmp_path / "out") == [
        ("items", "corpus.jsonl", 3, "no _id"),
        ("judgements", "test.tsv", 3, "wrong number of fields: 2 instead of 3"),
        ("judgements", "test.tsv", 4, 'grade is not a number: "x"'),
    ]


def test_trec(tmp_path):
    src = folder(
        tmp_path / "t",
        qrels_txt="q1 0 d1 2\nq1 0 d2 0\nq1 0 d3\n",
        topics_tsv="q1\twhat is it\nq2 no tab\n",
        collection_tsv="d1\tone\nd2\ttwo\nd3\tthree\n",
    )
    (src / "bm25.run").write_text("q1 Q0 d2 1 9.5 bm25\nq1 Q0 d1 2 8 bm25\n")
    data = imported(src, tmp_path / "out", "trec")
    assert data.tables["judgements"].rows() == [("q1", "d1", 2.0), ("q1", "d2", 0.0)]
    assert data.tables["candidates"].rows() == [
        ("q1", "d2", 1, 9.5, "bm25"),
        ("q1", "d1", 2, 8.0, "bm25"),
    ]
    assert data.tables["requests"].rows() == [("q1", "what is it")]
    assert data.tables["items"]["text"].to_list() == ["one", "two", "three"]
    assert [row[:3] for row in reasons(tmp_path / "out")] == [
        ("judgements", "qrels.txt", 3),
        ("requests", "topics.tsv", 2),
    ]
    (src / "odd.txt").write_text("a line of prose\n")
    with pytest.raises(
        DataError, match="of no layout of TREC known here; its first line reads 'a line of prose'"
    ):
        import_data(src, tmp_path / "no", format="trec")


def test_trec_judgements_of_the_shared_sample(tmp_path):
    data = imported(
        shared("dl19-bm25-top20/qrels.dl19-passage.txt"), tmp_path / "out", "trec", strict=True
    )
    assert (
        len(data.tables["judgements"]) == 9260
        and data.tables["judgements"]["query_id"].n_unique() == 43
    )


# ---- Cranfield, CACM, NPL

COUNTS = {
    "cranfield": (1400, 225, 1837, 225),
    "cacm": (3204, 64, 796, 52),
    "npl": (11429, 93, 2083, 93),
}


def test_cranfield(tmp_path):
    src = folder(tmp_path / "c")
    (src / "cran.all.1400").write_text(
        ".I 1\n.T\na wing\nin air .\n.A\nx\n.B\nj\n.W\na wing\nin air .\n it flies .\n.I"
        " 2\n.T\n.A\n.B\n.W\n"
    )
    (src / "cran.qry").write_text(".I 001\n.W\nwhy fly .\n.I 004\n.W\nhow\nfly .\n")
    (src / "cran.qrels").write_text("1 1 1 \n2 2 4\n2 1 -1\n2 1\n")
    data = imported(src, tmp_path / "out", "cranfield")
    assert data.tables["items"].rows() == [
        ("1", "a wing in air .", "a wing in air . it flies .", "x", "j"),
        ("2", None, None, None, None),
    ]
    assert data.tables["requests"].rows() == [
        ("1", "why fly .", 1),
        ("2", "how fly .", 4),
    ]
    assert data.tables["judgements"].rows() == [
        ("1", "1", 4.0, "1"),
        ("2", "2", 1.0, "4"),
        ("2", "1", 0.0, "-1"),
    ]
    assert reasons(tmp_path / "out")[0][:3] == ("judgements", "cran.qrels", 4)


def test_cacm(tmp_path):
    src = folder(
        tmp_path / "c",
        cacm_all=".I 1\n.T\nA title\n.W\nText\nhere\n.B\nCACM\n.K\nx, y\n.X\n1 5 1\n.I 2\n.T\nB\n",
        query_text=".I 1\n.W\n What?\n.N\n 1. me\n",
        qrels_text="01 0002  0 0\n1 1\n",
    )
    data = imported(src, tmp_path / "out", "cacm")
    assert data.tables["items"].select("item_id", "title", "text", "keywords").rows() == [
        ("1", "A title", "Text here", "x, y"),
        ("2", "B", None, None),
    ]
    assert data.tables["requests"].select("request_id", "text").rows() == [("1", "What?")]
    assert data.tables["judgements"].rows() == [("1", "2", 1.0), ("1", "1", 1.0)]


def test_npl(tmp_path):
    src = folder(
        tmp_path / "n",
        doc__text="1\nsome words\nand more\n   /\n2\nb\n/\n",
        query__text="1\nWHAT\n/\n",
        rlv__ass="1\n 2  1\n 2\n   /\n",
    )
    data = imported(src, tmp_path / "out", "npl")
    assert data.tables["items"].rows() == [("1", "some words and more"), ("2", "b")]
    assert data.tables["requests"].rows() == [("1", "WHAT")]
    assert data.tables["judgements"].rows() == [("1", "2", 1.0), ("1", "1", 1.0), ("1", "2", 1.0)]


@pytest.mark.parametrize("name", COUNTS)
def test_glasgow_of_the_shared_samples(tmp_path, name):
    data = imported(shared(f"ir/{name}"), tmp_path / "out", name, strict=True)
    items, requests, judgements = (
        data.tables[table] for table in ("items", "requests", "judgements")
    )
    assert (
        len(items),
        len(requests),
        len(judgements),
        judgements["query_id"].n_unique(),
    ) == COUNTS[name]
    assert judgements["item_id"].is_in(items["item_id"].implode()).all()
    assert judgements["query_id"].is_in(requests["request_id"].implode()).all()


# ---- dialogues

LOCOMO = [
    {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_10_date_time": "12:05 am on 9 May, 2023",
            "session_10": [
                {"speaker": "Bob", "dia_id": "D10:1", "text": "Bye", "blip_caption": "a dog"}
            ],
            "session_2_date_time": "1:56 pm on 8 May, 2023",
            "session_3_date_time": "2:56 pm on 8 May, 2023",
            "session_2": [
                {"speaker": "Ann", "dia_id": "D2:1", "text": "Hi"},
                {"speaker": "Bob", "dia_id": "D2:2", "text": "Ho"},
            ],
            "session_3": [],
        },
        "qa": [
            {
                "question": "Who?",
                "answer": 3,
                "evidence": ["D2:1; D2:2", "D10:1 D2:1"],
                "category": 1,
            },
            {
                "question": "Why?",
                "adversarial_answer": "no",
                "evidence": ["D", "D2:2,D9:9"],
                "category": 5,
            },
        ],
    }
]


def test_locomo(tmp_path):
    (tmp_path / "locomo10.json").write_text(json.dumps(LOCOMO))
    data = imported(tmp_path / "locomo10.json", tmp_path / "out", "locomo")
    assert data.tables["turns"].select(
        "dialogue_id", "turn", "speaker", "text", "time_ms", "source_id", "session_id"
    ).rows() == [
        ("conv-1", 0, "Ann", "Hi", 1683554160000, "D2:1", "2"),
        ("conv-1", 1, "Bob", "Ho", 1683554160000, "D2:2", "2"),
        ("conv-1", 2, "Bob", "Bye", 1683590700000, "D10:1", "10"),
    ]
    assert data.tables["items"]["text"].to_list() == [
        "Ann: Hi",
        "Bob: Ho",
        "Bob: Bye [shares a dog]",
    ]
    assert data.tables["requests"].select(
        "request_id", "text", "context", "answer", "category"
    ).rows() == [
        ("conv-1:q0", "Who?", "conv-1", "3", "multi-hop"),
        ("conv-1:q1", "Why?", "conv-1", "no", "adversarial"),
    ]
    assert data.tables["judgements"].select("query_id", "item_id").rows() == [
        ("conv-1:q0", "conv-1:0"),
        ("conv-1:q0", "conv-1:1"),
        ("conv-1:q0", "conv-1:2"),
        ("conv-1:q1", "conv-1:1"),
    ]
    assert [row[3] for row in reasons(tmp_path / "out")] == [
        f'evidence that is no turn of the dialogue: "{one}"' for one in ("D", "D9:9")
    ]
    assert data.catalogue.ids.tolist() != []
    (tmp_path / "locomo10.json").write_text('[{"conversation": {"session_1": 3}}]')
    with pytest.raises(DataError, match="is not of LoCoMo's layout"):
        import_data(tmp_path / "locomo10.json", tmp_path / "no", format="locomo")


def test_locomo_of_the_shared_sample(tmp_path):
    path = shared("locomo/locomo10.json")
    data = imported(path, tmp_path / "out", "locomo")
    turns, requests, judgements = (
        data.tables[table] for table in ("turns", "requests", "judgements")
    )
    assert (turns["dialogue_id"].n_unique(), len(turns), len(requests)) == (10, 5882, 1986)
    kinds = Counter(
        one["category"] for sample in json.loads(path.read_text()) for one in sample["qa"]
    )
    assert dict(requests["category"].value_counts().rows()) == {
        "multi-hop": kinds[1],
        "temporal": kinds[2],
        "open-domain": kinds[3],
        "single-hop": kinds[4],
        "adversarial": kinds[5],
    }
    assert (
        len(judgements) == 2818
        and judgements["item_id"].is_in(data.tables["items"]["item_id"].implode()).all()
    )
    bad = [reason.rpartition(" ")[2].strip('"') for _, _, _, reason in reasons(tmp_path / "out")]
    assert len(bad) == 5 and "D" in bad and "D:11:26" in bad


def test_redial(tmp_path):
    rows = [
        {"dialog_id": "x", "turn_id": 2, "context": ["", "Hi"], "resp": "See A", "rec": [7]},
        {"dialog_id": "y", "turn_id": 1, "context": ["Hello"], "resp": "Hi", "rec": []},
        {
            "dialog_id": "x",
            "turn_id": 4,
            "context": ["", "Hi", "See A", "And?"],
            "resp": "B and A",
            "rec": [9, 7],
        },
    ]
    src = folder(
        tmp_path / "r",
        test_jsonl=lines(*rows),
        entity2id_json=json.dumps({"<http://dbpedia.org/resource/The_A_(film)>": 7}),
    )
    data = imported(src, tmp_path / "out", "redial")
    assert data.tables["turns"].sort("dialogue_id", "turn").rows() == [
        ("x", 1, "user", "Hi", None),
        ("x", 2, "system", "See A", ["7"]),
        ("x", 3, "user", "And?", None),
        ("x", 4, "system", "B and A", ["9", "7"]),
        ("y", 0, "user", "Hello", None),
        ("y", 1, "system", "Hi", []),
    ]
    assert data.tables["items"].rows() == [("7", "The A (film)"), ("9", None)]
    (src / "test.jsonl").write_text('{"dialog_id": "x"}\n')
    with pytest.raises(DataError, match="is not of ReDial's layout"):
        import_data(src, tmp_path / "no", format="redial")


def test_redial_of_the_shared_sample(tmp_path):
    data = imported(shared("redial"), tmp_path / "out", "redial", strict=True)
    turns = data.tables["turns"]
    assert turns["dialogue_id"].n_unique() == 1322
    assert turns["items"].list.len().fill_null(0).gt(0).sum() == 3552
    assert set(turns.filter(pl.col("items").is_not_null())["speaker"]) == {"system"}
    assert data.tables["items"]["title"].null_count() == 0


# ---- open-bandit

BANDIT = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0,user-item_affinity_1\n0,2019-11-24"
    " 00:01:03.979311+00:00,1,2,0,0.045525,abc,0.0,3.0\n1,2019-11-24"
    " 00:01:45.406608+00:00,0,3,1,0.5,abc,0.0,0.0\n2,x\n"
)


def test_open_bandit(tmp_path):
    src = folder(tmp_path / "obd" / "random-men", men_csv=BANDIT)
    (src / "item_context.csv").write_text(",item_id,item_feature_0\n0,0,-0.6\n1,1,c\n")
    data = imported(src, tmp_path / "out", "open-bandit")
    assert data.tables["impressions"].select(
        "request_id", "position", "item_id", "propensity", "model", "shown", "click"
    ).rows() == [
        ("random-men:men:0", 2, "1", 0.045525, "random-men", True, 0),
        ("random-men:men:1", 3, "0", 0.5, "random-men", True, 1),
    ]
    assert data.tables["requests"].rows(named=True)[0] == {
        "request_id": "random-men:men:0",
        "time_ms": 1574553663979,
        "surface": "men",
        "context": '{"user_feature_0": "abc", "affinity": {"1": "3.0"}}',
    }
    assert data.tables["items"].rows() == [("0", "-0.6"), ("1", "c")]
    assert reasons(tmp_path / "out")[0] == (
        "requests",
        "men.csv",
        4,
        "wrong number of fields: 2 instead of 9",
    )
    assert (
        len(imported(tmp_path / "obd", tmp_path / "out2", "open-bandit").tables["impressions"]) == 2
    )


def test_open_bandit_of_the_shared_sample(tmp_path):
    data = imported(shared("open-bandit"), tmp_path / "out", "open-bandit", strict=True)
    shown = data.tables["impressions"]
    assert len(shown) == len(data.tables["requests"]) == 20_000
    assert len(data.tables["items"]) == 34 and set(shown["position"]) == {1, 2, 3}
    clicks = shown.group_by("model").agg(clicks=(pl.col("click")).sum()).sort("model").rows()
    assert clicks == [("bts-men", 69), ("random-men", 46)]
    assert shown.filter(pl.col("model") == "random-men")["propensity"].round(
        6
    ).unique().to_list() == [round(1 / 34, 6)]


def test_one_bad_turn_costs_no_other_and_is_the_only_one_counted(tmp_path):
    said = [
        {"speaker": one, "dia_id": f"D1:{n}", "text": "hi"}
        for n, one in enumerate(("A", None, "B"), 1)
    ]
    talk = {
        "sample_id": "c",
        "conversation": {"session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": said},
        "qa": [],
    }
    talk["qa"] = [{"question": "who?", "answer": "A", "evidence": ["D1:1"], "category": 1}]
    (tmp_path / "locomo10.json").write_text(json.dumps([talk]))
    report = import_data(tmp_path / "locomo10.json", tmp_path / "out", format="locomo")
    assert (report.rows["turns"], report.rejected) == (2, {"turns": {"no speaker": 1}})
    assert reasons(tmp_path / "out") == [("turns", "locomo10.json", 1, "no speaker")]


def test_hostile_json_is_refused_in_words(tmp_path):
    (tmp_path / "locomo10.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not of LoCoMo's layout"):
        import_data(tmp_path, tmp_path / "out", format="locomo")
    talk = lines({"dialog_id": "x", "turn_id": 2, "context": ["Hi"], "resp": "See A", "rec": [7]})
    for names in ("[" * 100_000, "[]", "{", '{"a"'):
        src = folder(tmp_path / "r", test_jsonl=talk, entity2id_json=names)
        with pytest.raises(DataError, match=r"entity2id\.json is no object of names"):
            import_data(src, tmp_path / "out", format="redial")


def test_lists_of_hits_are_queries_passages_and_candidates(tmp_path):
    hits = [
        {"qid": 7, "docid": "d1", "rank": 1, "score": 9.5, "content": "one"},
        {"qid": 7, "docid": "d2", "rank": 2, "score": 8, "content": "two"},
    ]
    again = [{"qid": 8, "docid": "d2", "rank": 1, "score": 3.5, "content": "two"}]
    src = folder(
        tmp_path / "t",
        lists_jsonl=lines(
            {"query": "what", "hits": hits}, {"query": "who", "hits": again}, {"query": "no hits"}
        ),
        qrels_txt="7 0 d1 2\n",
    )
    data = imported(src, tmp_path / "out", "trec")
    assert data.tables["requests"].rows() == [("7", "what"), ("8", "who")]
    assert data.tables["items"].rows() == [
        ("d1", "one"),
        ("d2", "two"),
    ], "a passage that two queries found stands once"
    assert data.tables["candidates"].rows() == [
        ("7", "d1", 1, 9.5),
        ("7", "d2", 2, 8.0),
        ("8", "d2", 1, 3.5),
    ]
    assert [row[:3] for row in reasons(tmp_path / "out")] == [("requests", "lists.jsonl", 3)]


def test_the_passages_of_the_shared_sample(tmp_path):
    for name in ("dl19_bm25_top20.jsonl", "qrels.dl19-passage.txt"):
        (tmp_path / name).symlink_to(shared(f"dl19-bm25-top20/{name}").resolve())
    data = imported(tmp_path, tmp_path / "out", "trec", strict=True)
    assert len(data.tables["requests"]) == 43 and len(data.tables["candidates"]) == 860

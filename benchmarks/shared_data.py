"""The real data sets that benchmarks and tests read; they live outside the repository, in the
folder named by TAILOR_DATA.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.data.nouns import Query
from tailor.data.queries import Rankings
from tailor.data.splits import Split, split_by
from tailor.errors import DataError
from tailor.evaluation.relevance import JudgedCollection
from tailor.retrieval.text_match import TextMatch

ROOT = Path(__file__).parents[1]
DAY_MS = 86_400_000
SOURCES = {  # name -> events, format, further files, columns, the split methods are judged on
    "beauty": (
        "amazon/beauty/sequences.txt",
        "sequences",
        {"items": "amazon/beauty/items.csv"},
        {},
        "last",
    ),
    "sports": (
        "amazon/sports/sequences.txt",
        "sequences",
        {"items": "amazon/sports/items.csv"},
        {},
        "last",
    ),
    "ml-100k": ("movielens/ml-100k", "recbole", {}, {}, "time"),
    "ml-latest-small": (
        "movielens/ml-latest-small/ratings.csv",
        "csv",
        {"items": "movielens/ml-latest-small/movies.csv"},
        {},
        "time",
    ),
    "locomo": ("locomo/locomo10.json", "locomo", {}, {}, "judgements"),
}


def data_folder() -> Path:
    return Path(os.environ.get("TAILOR_DATA", ROOT.parent / "shared" / "data"))


def real(name: str) -> Dataset:
    """A shared data set, imported afresh. Raises FileNotFoundError where the folder is not there."""
    events, format, files, columns, _ = SOURCES[name]
    folder = data_folder()
    if not (folder / events).exists():
        raise FileNotFoundError(
            f"{folder / events} is not there: set TAILOR_DATA to the folder of the shared data"
        )
    with tempfile.TemporaryDirectory() as out:
        more = {table: folder / path for table, path in files.items()}
        import_data(
            folder / events, Path(out) / name, format=format, columns=columns, name=name, **more
        )
        data = Dataset.open(Path(out) / name)
        return Dataset(dict(data.tables), name)  # read now: the folder goes


def real_split(name: str) -> Split:
    return split_by(real(name), SOURCES[name][4])


def with_attributes(data: Dataset, name: str) -> Dataset:
    """Return "beauty" or "sports" with the attributes of items as their categories."""
    path = data_folder() / "amazon" / name / "item2attributes.json"
    attributes = json.loads(path.read_text(encoding="utf-8"))
    items = data.tables["items"]
    lists = [[str(value) for value in attributes.get(key, [])] for key in items["item_id"]]
    categories = pl.Series("categories", lists, pl.List(pl.String))
    return Dataset({**data.tables, "items": items.with_columns(categories)}, data.name)


def sample_users(data: Dataset, users: int, seed: int = 0) -> Dataset:
    """Return the events of some users drawn by seed; the catalogue stays whole."""
    chosen = np.random.default_rng(seed).permutation(data.users.ids)[:users].tolist()
    return data.cut(data.events["user_id"].is_in(chosen).to_numpy())


JUDGED = ("cacm", "cranfield", "npl")  # collections with judged queries, documents as items


def judged(name: str, depth: int = 100) -> Dataset:
    """Return a judged collection whose candidates are the `depth` best items by their words.

    Words are counted by their English stems (BM25, chosen on CACM). Queries without a judgement
    above 0 are left out. Raises DataError for another name.
    """
    if name not in JUDGED:
        raise DataError(f'there is no judged collection "{name}": one of {", ".join(JUDGED)}')
    with tempfile.TemporaryDirectory() as out:
        import_data(data_folder() / "ir" / name, Path(out) / name, format=name, name=name)
        data = Dataset(dict(Dataset.open(Path(out) / name).tables), name)
    queries = JudgedCollection(data).queries
    data = Dataset({**data.tables, "requests": queries}, name)
    words = TextMatch(language="english").fit(data)
    lists = Rankings.of(words.recommend([Query(text=text) for text in queries["text"]], depth))
    return with_candidates(data, lists)


def dl19() -> Dataset:
    """Return TREC DL 2019: 43 queries with the 20 best passages by BM25, and all judgements."""
    folder = data_folder() / "dl19-bm25-top20"
    records = [json.loads(line) for line in _lines(folder / "dl19_bm25_top20.jsonl")]
    hits = [hit for record in records for hit in record["hits"]]
    items = pl.DataFrame(
        {"item_id": [hit["docid"] for hit in hits], "text": [hit["content"] for hit in hits]}
    )
    keys = [str(record["hits"][0]["qid"]) for record in records]
    requests = {"request_id": keys, "text": [record["query"] for record in records]}
    candidates = {
        "query_id": [str(hit["qid"]) for hit in hits],
        "item_id": [hit["docid"] for hit in hits],
        "score": [float(hit["score"]) for hit in hits],
        "rank": [rank for record in records for rank in range(1, len(record["hits"]) + 1)],
    }
    qrels = [line.split() for line in _lines(folder / "qrels.dl19-passage.txt")]
    judgements = {
        "query_id": [row[0] for row in qrels],
        "item_id": [row[2] for row in qrels],
        "grade": [float(row[3]) for row in qrels],
    }
    tables = {"requests": requests, "candidates": candidates, "judgements": judgements}
    frames = {name: pl.DataFrame(columns) for name, columns in tables.items()}
    items = items.unique("item_id", keep="first", maintain_order=True)
    return Dataset({"items": items, **frames}, "dl19")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def assist2009(part: str) -> Dataset:
    """Return the answers of the students of "train" or "test" (value 1: right), skills as items.

    A student's answers are in order, a minute apart, since the file has no times.
    """
    lines = _lines(data_folder() / "assist2009" / f"assist2009_updated_{part}.csv")
    skills = [line.rstrip(",").split(",") for line in lines[1::3]]
    answers = [line.rstrip(",").split(",") for line in lines[2::3]]
    lengths = np.array([len(row) for row in skills])
    users = np.array([f"{part}-{number}" for number in range(len(skills))])
    steps = np.concatenate([np.arange(length) for length in lengths])
    events = pl.DataFrame(
        {
            "user_id": np.repeat(users, lengths),
            "item_id": [skill for row in skills for skill in row],
            "time_ms": 1_600_000_000_000 + 60_000 * steps,
            "value": [float(answer) for row in answers for answer in row],
        }
    )
    return Dataset({"events": events}, f"assist2009 {part}")


def foursquare(part: str) -> pl.DataFrame:
    """Return the visits of "train", "valid" or "test": user_id, item_id, time_ms, lat, lon.

    Days are relative to each user's first; they are put where the given weekdays agree.
    """
    day = pl.col("start_day") + (pl.col("weekday") - pl.col("start_day")) % 7 + 7_000
    return pl.read_csv(data_folder() / "foursquare" / f"foursquare_{part}.csv").select(
        user_id=pl.col("user_id").cast(pl.String),
        item_id=pl.col("location_id").cast(pl.String),
        time_ms=day * DAY_MS + pl.col("start_min") * 60_000,
        lat=pl.col("latitude"),
        lon=pl.col("longitude"),
    )


def with_candidates(data: Dataset, lists: Rankings) -> Dataset:
    """Return the data with the candidates of its requests, in their order."""
    request_ids = data.tables["requests"]["request_id"].to_list()
    rows = [
        (request_id, item_id, float(score), rank)
        for request_id, ranking in zip(request_ids, lists, strict=True)
        for rank, (item_id, score) in enumerate(
            zip(ranking.ids, ranking.scores.tolist(), strict=True), start=1
        )
    ]
    columns = ["query_id", "item_id", "score", "rank"]
    table = pl.DataFrame(rows, schema=columns, orient="row")
    return Dataset({**data.tables, "candidates": table}, data.name)


def joined(names: Sequence[str]) -> Dataset:
    """Return several judged collections as one, ids with the collection's name before them."""
    tables: dict[str, list[pl.DataFrame]] = {}
    for name in names:
        for table, frame in judged(name).tables.items():
            ids = [column for column in frame.columns if column.endswith("_id")]
            columns = [
                column
                for column in frame.columns
                if column in (*ids, "title", "text", "grade", "score", "rank")
            ]
            renamed = [(pl.lit(f"{name}-") + pl.col(column)).alias(column) for column in ids]
            tables.setdefault(table, []).append(frame.select(columns).with_columns(renamed))
    parts = {table: pl.concat(frames, how="diagonal") for table, frames in tables.items()}
    return Dataset(parts, " and ".join(names))

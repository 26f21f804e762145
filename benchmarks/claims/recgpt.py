"""RecGPT on 5,000 users of Beauty against its own sequence model; interests and personas of ml-1m.

One fit: the sequence model is the behaviour tower, so both rank with the same one. The weight of
behaviour was chosen on the validation part, all other settings on other users of it. Rare targets
have one to five training events. Categories are the attributes of items, which no method learns
here but the tags. On ml-1m a mined interest that names genres is right where the written persona
names one of them; popular genres, as many for each user, are the rival.
"""

import csv
import re
import time
from typing import Any

import numpy as np
import polars as pl
from claim_tools import difference_interval
from remembering import Remembering
from shared_data import data_folder, real, sample_users, with_attributes

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.splits import split_by
from tailor.papers.generative.recgpt import RecGPT
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec

USERS = 5_000
K = 20
RARE = 5  # training events of a rare item, at most
LOST = 0.02  # share of all R@20 that may be lost
FEWEST = 200  # interests that are genres, for a figure of them
TIMES = 2.0  # as often as popular genres must interests be right
SEQUENCES = SASRec(epochs=20)
GENRES = {  # as ml-1m names them -> how personas do
    "Action": "action",
    "Adventure": "adventur",
    "Animation": "animat",
    "Children's": "famil|child",
    "Comedy": "comed|humor",
    "Crime": "crime|gangster|detective",
    "Documentary": "documentar|true stories",
    "Drama": "drama",
    "Fantasy": "fantas|magic",
    "Film-Noir": "noir",
    "Horror": "horror",
    "Musical": "musical",
    "Mystery": "myster",
    "Romance": "roman",
    "Sci-Fi": "sci-fi|science fiction|futur",
    "Thriller": "thrill|suspens",
    "War": r"\bwar\b|\bwars\b|military",
    "Western": "western",
}


def measure(run: Run) -> Claim:
    """5,000 users of Beauty, one random state; then 1,000 personas."""
    beauty = on_beauty(run)
    personas = on_personas(run)
    recall = beauty["R@20"]
    checks = {
        "Beauty: R@20 of rare items above behaviour alone": beauty["leads"]["rare"]["low"] > 0,
        "Beauty: R@20 at most 2 % below behaviour alone": (
            recall["RecGPT"] >= (1 - LOST) * recall["behaviour alone"]
        ),
        "Beauty: not fewer categories in 20": beauty["leads"]["categories"]["high"] >= 0,
        "ml-1m: interests name genres of the persona twice as often as popular ones do": (
            personas["interests that are genres"] >= FEWEST
            and personas["interests"] >= TIMES * personas["popular genres"]
        ),
    }
    return Claim(checks, {"beauty": beauty, "ml-1m": personas}, [run.seed], ["beauty", "ml-1m"])


def on_beauty(run: Run) -> dict[str, Any]:
    """Judge one fit on all test users, seen items removed."""
    data = with_attributes(sample_users(real("beauty"), USERS, run.seed), "beauty")
    split = split_by(data, "last")
    started = time.process_time()
    model = RecGPT(inner=SEQUENCES, encoder=Remembering()).fit(split.train, run, split)
    seconds = time.process_time() - started
    counts = np.bincount(split.train.sequences.rows.values, minlength=len(split.train.catalogue))
    methods: dict[str, Recommender] = {
        "RecGPT": model,
        "behaviour alone": model.inner_,
        "co-visitation": CoVisitation().fit(split.train, run, split),
        "popularity": Popularity().fit(split.train, run, split),
    }
    queries, targets = split.queries("test")
    queries = queries.without_history()
    items = targets.values[targets.offsets[:-1]]
    events = counts[split.train.catalogue.rows(queries.catalogue.named(items))]
    is_rare = (events > 0) & (events <= RARE)
    categories = split.train.finest_categories
    hits, variety = {}, {}
    for name, method in methods.items():
        lists = method.recommend(queries, K).reindexed(queries.catalogue).rows
        hits[name] = (lists == items[:, None]).any(axis=1).astype(float)
        variety[name] = distinct_categories(lists, queries, split.train, categories)
    lead = hits["RecGPT"] - hits["behaviour alone"]
    wider = variety["RecGPT"] - variety["behaviour alone"]
    return {
        "users": len(items),
        "with a rare target": int(is_rare.sum()),
        "weight of behaviour": model.weight_,
        "validation R@20 by weight": model.fit_report_["recall_by_weight"],
        "phrases": model.fit_report_["phrases"],
        "R@20": {name: round(float(values.mean()), 4) for name, values in hits.items()},
        "rare R@20": {name: round(float(v[is_rare].mean()), 4) for name, v in hits.items()},
        "categories in 20": {name: round(float(v.mean()), 3) for name, v in variety.items()},
        "leads": {
            "rare": difference_interval(lead[is_rare], run.seed),
            "all": difference_interval(lead, run.seed),
            "categories": difference_interval(wider, run.seed),
        },
        "seconds of the fit": round(seconds, 1),
    }


def distinct_categories(
    lists: np.ndarray, queries: Queries, data: Dataset, categories: np.ndarray
) -> np.ndarray:
    """Return (U,) the number of finest categories in lists (U, K) of the queries' catalogue."""
    rows = data.catalogue.rows(queries.catalogue.ids.tolist())
    of_items = np.append(categories[rows], -1)[lists]
    return np.array([len(set(row.tolist()) - {-1}) for row in of_items], dtype=float)


def on_personas(run: Run) -> dict[str, float]:
    """Return the precision of mined interests as genres of the written personas."""
    data, personas = movie_log()
    model = RecGPT(inner=SASRec(epochs=1, patience=None), encoder=Remembering(), epochs=1)
    model.fit(data, run)
    names = {name.lower().replace("-", " "): name for name in GENRES}
    asked = data.queries(list(personas))
    interests = model.interests(asked)
    popular = sorted(GENRES, key=lambda genre: -genre_events(data, genre))
    right, usual, mined = 0, 0, 0
    for user_id, of_user in zip(personas, interests, strict=True):
        genres = {names[i.text.lower()] for i in of_user if i.text.lower() in names}
        named = {g for g, pattern in GENRES.items() if re.search(pattern, personas[user_id])}
        mined += len(genres)
        right += len(genres & named)
        usual += len(set(popular[: len(genres)]) & named)
    return {
        "personas": len(personas),
        "interests that are genres": mined,
        "interests": round(right / max(mined, 1), 4),
        "popular genres": round(usual / max(mined, 1), 4),
    }


def movie_log() -> tuple[Dataset, dict[str, str]]:
    """Return the training log of 1,000 users with genres, and what each persona likes."""
    folder = data_folder() / "movielens" / "ml-1m-1000users"
    lines = (folder / "train.txt").read_text(encoding="utf-8").splitlines()
    rows = [(line.split()[0], item_id) for line in lines for item_id in line.split()[1:]]
    events = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    with (folder / "movie_detail.csv").open(encoding="utf-8") as file:
        movies = list(csv.DictReader(file))
    items = pl.DataFrame(
        {
            "item_id": [movie["movie_id"] for movie in movies],
            "title": [movie["title"] for movie in movies],
            "categories": [movie["genres"].split("|") for movie in movies],
        }
    )
    with (folder / "all_personas_like.csv").open(encoding="utf-8") as file:
        tastes = [row["taste"].lower() for row in csv.DictReader(file)]
    users = sorted(set(events["user_id"].to_list()), key=int)
    personas = {user_id: tastes[int(user_id)] for user_id in users}
    return Dataset({"events": events, "items": items}, "ml-1m"), personas


def genre_events(data: Dataset, genre: str) -> int:
    """Return the number of events of a genre."""
    has_genre = data.item_table["categories"].list.contains(genre).fill_null(False).to_numpy()
    return int(has_genre[data.sequences.rows.values].sum())

"""K-LaMP: the next search among 100, by the page, by the user's store, and by both.

Planted logs, five random states: a search joins the page's topic with an aspect that the user has
been searching for lately. Then MovieLens small: a tag is a search, the film it was given to the
page, ratings are pages read; the last fifth of a person's tags are the targets. Rivals are the same
scores with a weight of 0. `store_weight` and `click_weight` are chosen on other planted logs.
"""

import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from shared_data import data_folder

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.evaluation.significance import bootstrap
from tailor.papers.profiles.k_lamp import KLamp
from tailor.profiles.entities import EntityStore
from tailor.worlds.search_log import search_log

SEEDS = (0, 1, 2, 3, 4)
CHOOSING = (10, 11)
STORE_WEIGHTS = (0.5, 1.0, 2.0)
CLICK_WEIGHTS = (0.0, 0.25, 1.0)
RIVALS = ("page", "store", "popularity", "another's store")
OTHERS = 99  # questions beside the target
MOST_TARGETS = 10  # of one person
NO_PAGE = {"page": "no such page"}


def measure(run: Run) -> Claim:
    """MRR of the next search in planted logs and of the next tag in MovieLens; deletions; bytes."""
    chosen, tried = choose(run)
    planted = [in_log(seed, chosen, run) for seed in SEEDS]
    films = by_tags(chosen, run)
    checks = {
        f"planted: MRR above {rival}": all(row["leads"][rival]["low"] > 0 for row in planted)
        for rival in RIVALS
    }
    checks["MovieLens tags: MRR above popularity"] = films["leads"]["popularity"]["low"] > 0
    checks["a deleted entity is in none of 1,000 suggestions"] = all(
        row["suggestions"] >= 1_000 and row["with a deleted entity"] == 0 for row in planted
    )
    checks["a store of 200 events has at most 4,096 bytes"] = films["most bytes"] <= 4_096
    figures = {"chosen": chosen, "tried": tried, "planted": planted, "MovieLens tags": films}
    return Claim(checks, figures, list(SEEDS), ["planted search log", "ml-latest-small"])


def choose(run: Run) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Return the weights of the best MRR on planted logs of other random states, and all tried."""
    tried = []
    for store_weight in STORE_WEIGHTS:
        for click_weight in CLICK_WEIGHTS:
            weights = {"store_weight": store_weight, "click_weight": click_weight}
            values = [
                ranks(*task_of(seed, weights, run), run.rng("others", seed)) for seed in CHOOSING
            ]
            mrr = float(np.mean([value["both"].mean() for value in values]))
            tried.append({**weights, "MRR": round(mrr, 4)})
    best = max(tried, key=lambda row: row["MRR"])
    return {name: best[name] for name in ("store_weight", "click_weight")}, tried


Task = tuple[KLamp, list[Query], list[str], np.ndarray]


def task_of(seed: int, weights: dict[str, float], run: Run) -> Task:
    """Return a fitted method, and the last search of every user of a planted log."""
    data = search_log(seed=seed).data
    return targets_of(data, weights, run, last_only=True)


def targets_of(data: Dataset, weights: dict[str, float], run: Run, last_only: bool = False) -> Task:
    """Return a method fitted on what was before the targets; queries, targets and their owners.

    Targets are the last search of each user, or the last fifth of them.
    """
    texts = data.tables["texts"].sort("time_ms", maintain_order=True)
    queries, targets, owners, cuts = [], [], [], {}
    by_user = texts.group_by("user_id", maintain_order=True)
    for number, ((user,), searches) in enumerate(sorted(by_user, key=lambda pair: pair[0][0])):
        n_targets = 1 if last_only else min(MOST_TARGETS, max(1, len(searches) // 5))
        if len(searches) <= n_targets:
            continue
        held = searches.tail(n_targets)
        cuts[user] = held["time_ms"][0]
        history = history_of(data, searches, user, cuts[user])
        for item_id, text, time_ms in held.select("item_id", "text", "time_ms").iter_rows():
            queries.append(Query(user, history, time_ms=time_ms, context={"page": item_id}))
            targets.append(text)
            owners.append(number)
    before = {
        name: frame.join(
            pl.DataFrame({"user_id": list(cuts), "cut_ms": list(cuts.values())}), on="user_id"
        )
        .filter(pl.col("time_ms") < pl.col("cut_ms"))
        .drop("cut_ms")
        for name, frame in data.tables.items()
        if name in ("events", "texts")
    }
    # films' tags are public: a question of a single user may be suggested in this measurement
    method = KLamp(least_users=1, **weights)
    method.fit(Dataset({**data.tables, **before}, data.name), run)
    return method, queries, targets, np.array(owners)


def history_of(data: Dataset, searches: pl.DataFrame, user: str, cut_ms: int) -> History:
    """Return what a user read and searched before a time, oldest first."""
    read = data.events.filter((pl.col("user_id") == user) & (pl.col("time_ms") < cut_ms))
    searched = searches.filter(pl.col("time_ms") < cut_ms)
    keys = ["item_id", "time_ms"]
    joined = (
        read.select(keys)
        .join(searched.select(*keys, "text"), on=keys, how="full", coalesce=True)
        .sort("time_ms", maintain_order=True)
    )
    return History(
        joined["item_id"].to_list(),
        joined["time_ms"].to_list(),
        texts=joined["text"].fill_null("").to_list(),
    )


def ranks(
    method: KLamp,
    queries: list[Query],
    targets: list[str],
    owners: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Return (users,) mean reciprocal ranks of the targets among 100, by what is known."""
    share = method.asked_ / method.asked_.sum()
    lists = []
    for target in targets:
        drawn = rng.choice(len(share), min(OTHERS + 1, len(share)), replace=False, p=share)
        others = [method.questions_[row] for row in drawn if method.questions_[row] != target]
        lists.append([target, *others[:OTHERS]])
    stores = stores_by(method, queries, owners)
    own = with_stores(method, queries, [stores[owner] for owner in owners.tolist()])
    following = dict(zip(stores, [*list(stores.values())[1:], next(iter(stores.values()))]))
    others = with_stores(method, queries, [following[owner] for owner in owners.tolist()])
    settings: dict[str, tuple[dict[str, float], Sequence[Query]]] = {
        "both": ({}, own),
        "page": ({"store_weight": 0.0}, own),
        "store": ({"page_weight": 0.0}, [replace(q, context=NO_PAGE) for q in own]),
        "popularity": ({"store_weight": 0.0, "page_weight": 0.0}, own),
        "another's store": ({}, others),
    }
    values = {}
    for name, (weights, asked) in settings.items():
        part = copy.copy(method)
        for setting, value in weights.items():
            setattr(part, setting, value)
        places = [place_of_first(scores, rng) for scores in part.score(asked, lists)]
        values[name] = means_by(1 / np.array(places), owners)
    return values


def stores_by(method: KLamp, queries: list[Query], owners: np.ndarray) -> dict[int, EntityStore]:
    """Return the store of every owner: all queries of a person have one history."""
    first = {owner: query for owner, query in zip(owners.tolist(), queries, strict=True)}
    return dict(zip(first, method.stores(list(first.values())), strict=True))


def with_stores(method: KLamp, queries: list[Query], stores: list[EntityStore]) -> list[Query]:
    """Return the queries without history, each with a store, as the memory would bring it.

    Times of a store are moved so that its latest is that of the request.
    """
    return [
        Query(
            query.user_id,
            time_ms=latest_ms(store),
            profile=method.profile_of(store, query.user_id, latest_ms(store)),
            context=query.context,
        )
        for query, store in zip(queries, stores, strict=True)
    ]


def latest_ms(store: EntityStore) -> int:
    return max((use.last_ms for use in store.uses.values()), default=0)


def place_of_first(scores: np.ndarray, rng: np.random.Generator) -> float:
    """Return the place of the first score, from 1; equal scores are in random order."""
    above = int((scores[1:] > scores[0] + 1e-9).sum())
    equal = int((np.abs(scores[1:] - scores[0]) <= 1e-9).sum())
    return 1 + above + int(rng.integers(equal + 1))


def means_by(values: np.ndarray, owners: np.ndarray) -> np.ndarray:
    return np.array([values[owners == owner].mean() for owner in np.unique(owners)])


def table_of(values: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Return means, and paired leads of both over each rival."""
    leads = {}
    for rival in RIVALS:
        differences = values["both"] - values[rival]
        low, high = bootstrap(differences[:, None], seed=seed)
        leads[rival] = {
            "difference": round(float(differences.mean()), 4),
            "low": round(float(low[0]), 4),
            "high": round(float(high[0]), 4),
        }
    means = {name: round(float(of_all.mean()), 4) for name, of_all in values.items()}
    return {"people": len(values["both"]), "MRR": means, "leads": leads}


def in_log(seed: int, weights: dict[str, float], run: Run) -> dict[str, Any]:
    """Return the table of one planted log, and how deletions fare in it."""
    method, queries, targets, owners = task_of(seed, weights, run)
    row = table_of(ranks(method, queries, targets, owners, run.rng("others", seed)), seed)
    return {"seed": seed, **row, **deletions(method, queries)}


def deletions(method: KLamp, queries: list[Query]) -> dict[str, int]:
    """Delete every user's foremost entity; count the suggestions that still name it."""
    suggestions = naming = 0
    for query, store in zip(queries, method.stores(queries), strict=True):
        at_ms = int(query.time_ms or 0)
        name = next(iter(store.interests(at_ms)))
        smaller = store.without(name).after_search([name], at_ms)
        profile = method.profile_of(smaller, query.user_id, at_ms)
        asked = Query(query.user_id, time_ms=at_ms, profile=profile, context=query.context)
        larger = copy.copy(method)
        larger.n = 8
        (output,) = larger.generate([asked])
        texts = [suggestion["text"] for suggestion in output.details["suggestions"]]
        suggestions += len(texts)
        naming += sum(name in text.split() for text in texts)
    return {"suggestions": suggestions, "with a deleted entity": naming}


def by_tags(weights: dict[str, float], run: Run) -> dict[str, Any]:
    """Return the table of MovieLens, and the most bytes of a store."""
    folder = data_folder() / "movielens" / "ml-latest-small"
    ids = [pl.col(name).cast(pl.String) for name in ("userId", "movieId")]
    time_ms = (pl.col("timestamp") * 1000).alias("time_ms")
    ratings = pl.read_csv(folder / "ratings.csv").select(*ids, time_ms)
    tags = pl.read_csv(folder / "tags.csv", schema_overrides={"tag": pl.String}).select(
        *ids, time_ms, text=pl.col("tag").str.to_lowercase()
    )
    films = pl.read_csv(folder / "movies.csv").select(
        item_id=pl.col("movieId").cast(pl.String),
        title="title",
        categories=pl.col("genres").str.split("|"),
    )
    names = {"userId": "user_id", "movieId": "item_id"}
    taggers = tags["userId"].unique().implode()
    events = ratings.filter(pl.col("userId").is_in(taggers)).rename(names)
    data = Dataset({"events": events, "items": films, "texts": tags.rename(names)}, "tags")
    method, queries, targets, owners = targets_of(data, weights, run)
    row = table_of(ranks(method, queries, targets, owners, run.rng("others")), run.seed)
    lengths = dict(zip(owners.tolist(), [len(query.history) for query in queries], strict=True))
    sizes = [
        len(json.dumps(store.plain()).encode())
        for owner, store in stores_by(method, queries, owners).items()
        if lengths[owner] >= 200
    ]
    return {**row, "targets": len(targets), "stores": len(sizes), "most bytes": max(sizes)}

"""KALM4Rec for people without a history: keywords of their own texts find their best items.

Planted shops (fame .3, so that popularity has not seen the truth): 200 people are wholly unseen in
training; their keywords are those of their reviews and searches, the judges their true utilities.
`evenness` is chosen on 100 other people. Then MovieLens small: people's own tags, judged by the
films that they like and did not tag. A first form left all people with tags out at once, so that no
tag was left to learn from (R@20 .030, popularity .332); now a fifth is left out at a time.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import SEEDS
from shared_data import data_folder

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.evaluation.significance import bootstrap
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.kalm4rec import KALM4Rec, reviews_of
from tailor.retrieval.popularity import Popularity
from tailor.text.keywords import phrases
from tailor.worlds.shop import shop

UNSEEN, CHOOSING, K = 200, 100, 20
FOLDS = 5  # of the people with tags: the others' tags are the reviews
EVENNESS = (0.0, 0.25, 0.5, 1.0)
MOST_KEYWORDS = 20
LIKED = 4.0  # stars of a film that a person likes


def measure(run: Run) -> Claim:
    """Recall of the truly best items in three shops; tags of MovieLens; a perfect model's order."""
    shops = [in_shop(seed, run) for seed in SEEDS]
    films = by_tags(run)
    rivals = ("popularity", "shared keywords", "another's keywords")
    checks = {
        f"planted: R@20 above {rival}": all(row["leads"][rival]["low"] > 0 for row in shops)
        for rival in rivals
    }
    checks |= {
        f"MovieLens tags: R@20 above {rival}": films["leads"][rival]["low"] > 0 for rival in rivals
    }
    checks["planted: a model that knows the best items puts them first"] = all(
        row["ordered by a perfect model"]["is best"] for row in shops
    )
    figures = {"shops": shops, "MovieLens tags": films}
    return Claim(checks, figures, list(SEEDS), ["planted shop", "ml-latest-small"])


def in_shop(seed: int, run: Run) -> dict:
    """Return recall of each method for unseen people of a planted shop."""
    world = shop(users=1_000, items=600, seed=seed, popularity_bias=0.3)
    data, truth = world.data, world.truth
    texts: dict[str, list[str]] = {}
    for user, text in data.tables["texts"].select("user_id", "text").iter_rows():
        texts.setdefault(user, []).append(text)
    writers = sorted(user for user, of_user in texts.items() if len(of_user) >= 3)
    drawn = run.rng("unseen", seed).permutation(writers)[: UNSEEN + CHOOSING].tolist()
    unseen, choosing = drawn[:UNSEEN], drawn[UNSEEN:]
    train = without(data, drawn)
    best = {user: truth.best(user, K) for user in drawn}
    words = {user: keywords_of(texts[user]) for user in drawn}
    tried = {}
    for evenness in EVENNESS:
        method = KALM4Rec(evenness=evenness).fit(train, run)
        lists = answers(method, [words[user] for user in choosing])
        tried[evenness] = float(np.mean(recalls(lists, [best[user] for user in choosing])))
    chosen = max(tried, key=lambda evenness: tried[evenness])
    method = KALM4Rec(evenness=chosen).fit(train, run)
    wanted = [best[user] for user in unseen]
    requests = [words[user] for user in unseen]
    row = table_of(values_of(method, train, requests, wanted, run), seed)
    plain = KALM4Rec(evenness=0.0).fit(train, run)
    row["R@20"]["as in the paper (evenness 0)"] = round(
        float(
            np.mean(recalls(answers(plain, [words[u] for u in unseen]), [best[u] for u in unseen]))
        ),
        4,
    )
    row |= {"seed": seed, "chosen evenness": chosen, "tried": tried}
    row |= by_models(chosen, train, words[unseen[0]], best[unseen[0]], run)
    return row


def without(data: Dataset, users: list[str]) -> Dataset:
    """Return the data without all that these people did and wrote."""
    tables = {
        name: frame.filter(~pl.col("user_id").is_in(users)) if "user_id" in frame.columns else frame
        for name, frame in data.tables.items()
    }
    return Dataset(tables, data.name)


def keywords_of(texts: list[str]) -> str:
    """Return up to MOST_KEYWORDS phrases of a person's texts, as they would be typed."""
    return ", ".join(
        list(dict.fromkeys(p for text in texts for p in phrases(text)))[:MOST_KEYWORDS]
    )


def answers(method: KALM4Rec, requests: list[str]) -> list[tuple[str, ...]]:
    lists = method.recommend([Query(text=text) for text in requests], K)
    return [lists[i].ids for i in range(len(lists))]


def recalls(lists: list[tuple[str, ...]], best: list[list[str]]) -> np.ndarray:
    """Return (U,) the share of the wanted items that a list has, of at most K."""
    return np.array(
        [
            len(set(ids) & set(wanted)) / min(len(wanted), K)
            for ids, wanted in zip(lists, best, strict=True)
        ]
    )


def values_of(
    method: KALM4Rec, train: Dataset, requests: list[str], best: list[list[str]], run: Run
) -> dict[str, np.ndarray]:
    """Return the recalls (U,) of a fitted method and its rivals."""
    popular = Popularity().fit(train, run).recommend([Query()], K)[0].ids
    order = np.roll(np.arange(len(requests)), 1)
    return {
        "KALM4Rec": recalls(answers(method, requests), best),
        "popularity": recalls([popular] * len(best), best),
        "shared keywords": recalls(by_overlap(method, requests), best),
        "another's keywords": recalls(answers(method, [requests[i] for i in order]), best),
    }


def table_of(values: dict[str, np.ndarray], seed: int) -> dict:
    """Return means, and paired leads of the first method over the others."""
    leads = {}
    for name in list(values)[1:]:
        differences = values["KALM4Rec"] - values[name]
        low, high = bootstrap(differences[:, None], seed=seed)
        leads[name] = {
            "difference": round(float(differences.mean()), 4),
            "low": round(float(low[0]), 4),
            "high": round(float(high[0]), 4),
        }
    means = {name: round(float(of_all.mean()), 4) for name, of_all in values.items()}
    return {"people": len(values["KALM4Rec"]), "R@20": means, "leads": leads}


def by_overlap(method: KALM4Rec, requests: list[str]) -> list[tuple[str, ...]]:
    """Return the K items of largest Jaccard overlap of keywords, without weights."""
    has_keyword = (method.weights_ > 0).astype(np.float32)
    sizes = np.asarray(has_keyword.sum(axis=1))[:, 0]
    lists = []
    for request in requests:
        columns = sorted(set(method._columns(request).values()))
        shared = np.asarray(has_keyword[:, columns].sum(axis=1))[:, 0]
        jaccard = shared / np.maximum(sizes + len(columns) - shared, 1)
        rows = np.argsort(-jaccard, kind="stable")[:K]
        lists.append(tuple(method.items_.named(rows)))
    return lists


def by_models(evenness: float, train: Dataset, request: str, best: list[str], run: Run) -> dict:
    """Order the list of one person by a model that knows the best; tests do malformed answers."""
    titles = dict(train.item_table.select("item_id", "title").iter_rows())
    knows = {titles[item]: 1 - rank / K for rank, item in enumerate(best)}
    method = KALM4Rec(llm=ScriptedModel(knows=knows), evenness=evenness).fit(train, run)
    worths = [knows.get(titles[item], 0.0) for item in answers(method, [request])[0]]
    return {
        "ordered by a perfect model": {
            "is best": worths == sorted(worths, reverse=True),
            "wanted items in the list": sum(worth > 0 for worth in worths),
        }
    }


def by_tags(run: Run) -> dict:
    """Return recalls for people of MovieLens by their own tags; the others' tags are reviews."""
    folder = data_folder() / "movielens" / "ml-latest-small"
    ratings = pl.read_csv(folder / "ratings.csv").select(
        user_id=pl.col("userId").cast(pl.String),
        item_id=pl.col("movieId").cast(pl.String),
        value=pl.col("rating"),
    )
    tags = pl.read_csv(folder / "tags.csv", schema_overrides={"tag": pl.String}).select(
        user_id=pl.col("userId").cast(pl.String),
        item_id=pl.col("movieId").cast(pl.String),
        text=pl.col("tag"),
    )
    films = pl.read_csv(folder / "movies.csv").select(
        item_id=pl.col("movieId").cast(pl.String),
        title="title",
        categories=pl.col("genres").str.split("|"),
    )
    data = Dataset({"events": ratings, "items": films, "texts": tags}, "tags")
    people, requests, best = [], [], []
    for (user,), of_user in reviews_of(data).group_by(["user_id"], maintain_order=True):
        tagged = set(of_user["item_id"].to_list())
        liked = ratings.filter((pl.col("user_id") == user) & (pl.col("value") >= LIKED))
        wanted = [item for item in liked["item_id"].to_list() if item not in tagged]
        if len(of_user) >= 3 and wanted:
            people.append(user)
            requests.append(keywords_of(of_user["text"].to_list()))
            best.append(wanted)
    rows = []
    for fold in np.array_split(run.rng("folds").permutation(len(people)), FOLDS):
        train = without(data, [people[i] for i in fold])
        method = KALM4Rec(least=2).fit(train, run)
        values = values_of(method, train, [requests[i] for i in fold], [best[i] for i in fold], run)
        rows.append(values)
    values = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return table_of(values, run.seed)

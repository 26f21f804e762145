"""A personal answer retriever taught by synthetic answers, in three planted communities.

Test questions are of circles whose users neither ask nor answer in training. Rivals: the same
taught by the accepted human answers, the same untaught, and BM25. Then, printed only, product titles that look for their reviews: taught
by 60 texts of the small language model, by the reviews themselves, and untaught.

Epochs, batch and rate are chosen on a fourth community, by training questions that are held out.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import SEEDS, Remembering
from shared_data import data_folder

from tailor.bench.claims import Claim
from tailor.core.defaults import encoder as default_encoder
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.data.nouns import Query, Ranking
from tailor.data.queries import Rankings
from tailor.evaluation.significance import bootstrap
from tailor.llm.cached import Cached
from tailor.llm.local import LocalModel
from tailor.papers.reranking.sy_se_pqa import SySePQA
from tailor.ports.base import Encoder
from tailor.reranking.examples import by_words
from tailor.reranking.synthetic_answers import (
    copied_share,
    questions_of,
    tags_of_users,
    with_answers,
    write_answers,
)
from tailor.worlds.community import Community, community

CHOOSING_SEED = 11
OPTIONS = (
    {"epochs": 20, "batch": 128, "lr": 1e-3},
    {"epochs": 20, "batch": 32, "lr": 3e-3},
    {"epochs": 60, "batch": 32, "lr": 3e-3},
)
TEST_CIRCLES = (6, 7)
TRAINING_CIRCLES = tuple(range(6))
DEPTH = 100
WRONG = 0.2  # share of synthetic answers with a wrong fact
SHARE = 0.95  # of the human-taught retriever's MRR
COST = 0.03  # of MRR that wrong facts may cost
BY_MODEL = 20  # products that the language model writes three texts about
REAL_TRAINING = 400  # reviews that the map learns from
QUESTIONS = 480  # of a community, over eight circles
Values = dict[str, np.ndarray]


def measure(run: Run) -> Claim:
    """Judge all retrievers in three communities, then real reviews."""
    encoder = Remembering(default_encoder())
    settings, tried = choose(encoder, run)
    worlds = [
        in_community(community(QUESTIONS, seed=seed), encoder, run, settings) for seed in SEEDS
    ]
    values = {name: [row["values"][name] for row in worlds] for name in worlds[0]["values"]}
    means = {name: round(float(np.concatenate(of).mean()), 4) for name, of in values.items()}
    leads = {
        f"{mine} over {other}": lead(values[mine], values[other], run)
        for mine, other in (
            ("synthetic", "BM25"),
            ("synthetic", "untaught"),
            ("synthetic", "human"),
            ("human", "untaught"),
            ("synthetic", "without tags"),
            ("tags of others", "without tags"),
            ("synthetic", "wrong facts"),
        )
    }
    share = means["synthetic"] / means["human"]
    cost = 1 - means["wrong facts"] / means["synthetic"]
    checks = {
        f"taught by synthetic answers it has at least {SHARE:.0%} of the MRR by human ones": (
            share >= SHARE
        ),
        "it is above BM25": leads["synthetic over BM25"]["low"] > 0,
        "it is above the same untaught": leads["synthetic over untaught"]["low"] > 0,
        "tags add to it": leads["synthetic over without tags"]["low"] > 0,
        "tags of other users add nothing": leads["tags of others over without tags"]["low"] <= 0,
        f"wrong facts in {WRONG:.0%} of the answers cost less than {COST:.0%} of MRR": cost < COST,
    }
    figures = {
        "chosen": {**settings, "tried": tried},
        "MRR": means,
        "MRR by seed": {
            name: [round(float(value.mean()), 4) for value in of] for name, of in values.items()
        },
        "share of the human-taught": round(share, 4),
        "cost of wrong facts": round(cost, 4),
        "leads": leads,
        "fits": [row["fits"] for row in worlds],
        "words of the question in synthetic answers": [row["copied"] for row in worlds],
        "real reviews by product title": on_reviews(encoder, run),
    }
    return Claim(checks, figures, list(SEEDS), ["planted communities", "amazon-reviews"])


def choose(encoder: Encoder, run: Run) -> tuple[dict, dict[str, float]]:
    """Return the training settings of the highest MRR on questions left out, and all values."""
    world = community(QUESTIONS, seed=CHOOSING_SEED)
    train = world.within(TRAINING_CIRCLES)
    tried = {}
    for settings in OPTIONS:
        method = SySePQA(llm=world.writer(), encoder=encoder, depth=DEPTH, **settings)
        tried[str(settings)] = method.fit(train, run).fit_report_["MRR"]
    return max(OPTIONS, key=lambda settings: tried[str(settings)]), tried


def in_community(world: Community, encoder: Encoder, run: Run, settings: dict) -> dict:
    """Return the reciprocal ranks (Q,) of accepted answers by every retriever."""
    train, test = world.within(TRAINING_CIRCLES), world.within(TEST_CIRCLES)
    lists = by_words(test, test.tables["requests"]["text"].to_list(), DEPTH)
    without = {name: frame for name, frame in train.tables.items() if name != "users"}
    variants = {
        "synthetic": (train, {"llm": world.writer()}),
        "wrong facts": (train, {"llm": world.writer(wrong=WRONG)}),
        "human": (train, {"learns_from": "human"}),
        "untaught": (train, {"learns_from": "nothing"}),
        "without tags": (Dataset(without), {"llm": world.writer()}),
        "tags of others": (with_other_authors(train, run), {"llm": world.writer()}),
    }
    values: Values = {"BM25": reciprocal_ranks(test, lists)}
    fits = {}
    for name, (data, options) in variants.items():
        method = SySePQA(encoder=encoder, depth=DEPTH, **options, **settings)
        method.fit(data, run)
        fits[name] = method.fit_report_
        values[name] = ranks_of(method, test, lists)
        if name in ("synthetic", "human", "untaught"):
            method.weights_ = np.array([0.0, 1.0, 0.0])
            values[f"{name}, meaning alone"] = ranks_of(method, test, lists)
    answers = write_answers(world.writer(), questions_of(train)).answers
    texts = {question.request_id: question.text for question in questions_of(train)}
    copied = [
        copied_share(texts[key], text)
        for key, text in answers.select("request_id", "text").iter_rows()
    ]
    return {"values": values, "fits": fits, "copied": round(float(np.mean(copied)), 4)}


def with_other_authors(data: Dataset, run: Run) -> Dataset:
    """Return the data with the tags of all users dealt out anew."""
    users = data.tables["users"]
    order = run.rng("other users").permutation(len(users))
    dealt = users.with_columns(tags=users["tags"].gather(order))
    return Dataset({**data.tables, "users": dealt}, data.name)


def ranks_of(method: SySePQA, test: Dataset, lists: Sequence[Ranking]) -> np.ndarray:
    """Return the reciprocal ranks (Q,) of a retriever's lists for the questions."""
    tags = tags_of_users(test)
    requests = test.tables["requests"].select("request_id", "user_id", "text")
    queries = [
        Query(text=text, request_id=key, context={"tags": tags.get(user, ())})
        for key, user, text in requests.iter_rows()
    ]
    return reciprocal_ranks(test, method.recommend(queries, DEPTH, lists))


def reciprocal_ranks(data: Dataset, lists: Sequence[Ranking]) -> np.ndarray:
    """Return (Q,) 1 / rank of the accepted answer, 0 where a list lacks it."""
    accepted = dict(data.tables["judgements"].select("query_id", "item_id").iter_rows())
    values = []
    for request_id, ranking in zip(data.tables["requests"]["request_id"], lists, strict=True):
        ids = list(ranking.ids)
        item = accepted[request_id]
        values.append(1 / (1 + ids.index(item)) if item in ids else 0.0)
    return np.array(values)


def lead(mine: list[np.ndarray], others: list[np.ndarray], run: Run) -> dict[str, float]:
    """Return the paired mean difference over all questions, and its interval within worlds."""
    differences = np.concatenate([a - b for a, b in zip(mine, others, strict=True)])
    strata = np.repeat(np.arange(len(mine)), [len(values) for values in mine])
    low, high = bootstrap(differences[:, None], seed=run.seed, strata=strata)
    figures = {"difference": differences.mean(), "low": low[0], "high": high[0]}
    return {name: round(float(value), 4) for name, value in figures.items()}


# ---- real reviews


def on_reviews(encoder: Encoder, run: Run) -> dict:
    """Return MRR of reviews looked for by their product's title, over other people's reviews."""
    train, test = reviews("training.jsonl"), reviews("validation.jsonl")
    first = train.tables["requests"].head(REAL_TRAINING)["request_id"].to_list()
    train = Dataset(
        {
            **train.tables,
            "requests": train.tables["requests"].filter(pl.col("request_id").is_in(first)),
            "judgements": train.tables["judgements"].filter(pl.col("query_id").is_in(first)),
        }
    )
    llm = Cached(LocalModel())
    written = write_answers(llm, questions_of(train)[:BY_MODEL], most_words=30)
    lists = with_texts(by_words(test, test.tables["requests"]["text"].to_list(), DEPTH), test)
    rows = {"BM25": reciprocal_ranks(test, lists)}
    fits = {}
    for name in ("synthetic", "human", "nothing"):
        method = SySePQA(learns_from=name, encoder=encoder, depth=DEPTH)
        method.fit(with_answers(train, written.answers), run)
        fits[name] = method.fit_report_
        rows[name] = ranks_of(method, test, lists)
    return {
        "requests": len(rows["BM25"]),
        "texts of the model": len(written.answers),
        "left out as copies": written.copied,
        "MRR": {name: round(float(values.mean()), 4) for name, values in rows.items()},
        "fits": fits,
    }


def with_texts(lists: Rankings, data: Dataset) -> list[Ranking]:
    """Return lists whose items bring their texts, for a retriever that does not know them."""
    text_of = dict(zip(data.catalogue.ids.tolist(), data.item_texts, strict=True))
    return [
        replace(ranking, details={item: {"text": text_of[item]} for item in ranking.ids})
        for ranking in lists
    ]


def reviews(name: str) -> Dataset:
    """Return reviews as answers, and as requests the titles of their products."""
    with tempfile.TemporaryDirectory() as out:
        import_data(data_folder() / "amazon-reviews" / name, Path(out) / "d", format="user-json")
        tables = dict(Dataset.open(Path(out) / "d").tables)
    titles = tables["items"].drop_nulls("title").select("item_id", product="title")
    texts = tables["texts"].with_row_index("number").join(titles, on="item_id")
    ids = [f"{name} {number}" for number in texts["number"]]
    return Dataset(
        {
            "requests": pl.DataFrame(
                {
                    "request_id": ids,
                    "user_id": texts["user_id"],
                    "text": "What is it like to own this? " + texts["product"],
                }
            ),
            "items": pl.DataFrame({"item_id": ids, "text": texts["text"]}),
            "judgements": pl.DataFrame(
                {"query_id": ids, "item_id": ids, "grade": [1.0] * len(ids)}
            ),
        }
    )

"""MLLM-MSR on planted looks, with and without a drift of taste, and on MovieLens by genres.

Every user's last event stands among 20 items that the user never had, drawn evenly or by
popularity. Rivals: titles without pictures, and the summary of the whole history at once, both with
a logistic model of their own; the summary of another user. The ridge was chosen on world
10. MovieLens has no pictures: summaries are of titles and genres, rivals popularity and the cosine
with the mean of the user's captions.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import SEEDS, seeded
from judged_lists import above
from shared_data import data_folder

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking
from tailor.data.sampling import popular_negatives
from tailor.data.splits import split_by
from tailor.papers.reranking.mllm_msr import MLLMMSR
from tailor.worlds.looks import looks

LOOKS = ("colour", "shape", "texture")
NEGATIVES = 20
NEGATIVES_BY = {"evenly drawn": 0.0, "by popularity": 1.0}  # exponent of the events of an item
USERS, EXAMPLES = 300, 1_000  # of a planted world; chosen items that are learned from
FILM_USERS = 300  # of MovieLens, that are judged
EQUAL = 0.02  # of AUC, that summaries may differ by without drift


def measure(run: Run) -> Claim:
    """AUC of 1 among 21 in three planted worlds of each kind; hit@5 of 21 on MovieLens."""
    drifting = [in_world(seed, True, seeded(run, seed)) for seed in SEEDS]
    steady = [in_world(seed, False, seeded(run, seed)) for seed in SEEDS]
    film_rows = on_films(run)
    even = [world["evenly drawn"]["leads"] for world in drifting]
    gap = steady_gap(steady)
    on_film = film_rows["evenly drawn"]["leads"]
    checks = {
        "drift: AUC above titles without pictures, every world": all(
            row["rolled over titles"]["low"] > 0 for row in even
        ),
        "drift: AUC above the summary at once, every world": all(
            row["rolled over at once"]["low"] > 0 for row in even
        ),
        f"no drift: both summaries are equal within {EQUAL}": gap["low"] > -EQUAL
        and gap["high"] < EQUAL,
        "MovieLens: hit@5 of 21 above popularity": on_film["rolled over popularity"]["low"] > 0,
        "MovieLens: hit@5 of 21 above the mean of items": (
            on_film["rolled over mean of items"]["low"] > 0
        ),
    }
    for world in (*drifting, *steady):
        del world["values"]
    figures = {"drift": drifting, "no drift": steady, "no drift, gap": gap, "MovieLens": film_rows}
    return Claim(checks, figures, list(SEEDS), ["planted looks", "ml-1m-1000users"])


# ---- planted looks


def in_world(seed: int, drift: bool, run: Run) -> dict:
    """Return AUC of every form for both kinds of negatives."""
    data = looks(users=USERS, seed=seed, drift=drift)
    split = split_by(data, "last")
    queries, targets = split.queries("test")
    rolled = MLLMMSR(looks=LOOKS, examples=EXAMPLES).fit(split.train, run, split)
    methods = {"rolled": rolled, "at once": with_summary(rolled, "at once", split.train, run)}
    if drift:
        blind = MLLMMSR(pictures=False, examples=EXAMPLES)
        methods["titles"] = blind.fit(split.train, run, split)
    figures: dict = {"seed": seed, "users": len(queries), "fit": rolled.fit_report_}
    for name, popularity in NEGATIVES_BY.items():
        if popularity and not drift:
            continue
        lists = one_in_21(split.train, queries, targets, popularity, run)
        values = {form: aucs(method, queries, lists) for form, method in methods.items()}
        if not popularity:
            values["another's summary"] = aucs(rolled, swapped(rolled, queries), lists)
        figures[name] = table(values, "rolled", seed)
        figures.setdefault("values", {})[name] = values
    summary = rolled.summaries([queries[0]])[0]
    figures["an example"] = {"summary": summary.text, "facts": [f.text for f in summary.facts]}
    return figures


def with_summary(method: MLLMMSR, summary: str, data: Dataset, run: Run) -> MLLMMSR:
    """Return a method with the same captions whose answers are learned from other summaries."""
    other = method._updated()
    other.summary = summary
    other._learn_answers(data, run)
    return other


def one_in_21(
    data: Dataset,
    queries: Sequence[Query],
    targets: Ragged,
    popularity: float,
    run: Run,
    later: Mapping[str, Sequence[str]] | None = None,
) -> list[Ranking]:
    """Return lists of a target and 20 items that its user never had, in random order.

    `later` has items by user that the user had later.
    """
    rng = run.rng("negatives of lists", int(popularity))
    counts = np.bincount(data.sequences.rows.values, minlength=len(data.catalogue))
    lists = []
    for i in range(len(queries)):
        item_ids = [*queries[i].history.item_ids, *(later or {}).get(queries[i].user_id, ())]
        had = set(data.catalogue.rows(item_ids).tolist())
        chosen = int(targets[i][0])
        negatives: list[int] = []
        while len(negatives) < NEGATIVES:
            row = int(popular_negatives(counts + 1.0, 1, rng, popularity)[0])
            if row != chosen and row not in had and row not in negatives:
                negatives.append(row)
        rows = rng.permutation([chosen, *negatives]).tolist()
        ids = tuple(data.catalogue.named(rows))
        target = data.catalogue.named([chosen])[0]
        lists.append(Ranking(ids, np.zeros(len(ids)), details={target: {"is_target": True}}))
    return lists


def aucs(method: MLLMMSR, queries: Sequence[Query], lists: Sequence[Ranking]) -> np.ndarray:
    """Return (U,) the share of other items that stand below the target; ties are half."""
    values = []
    for ranking in method.recommend(queries, NEGATIVES + 1, lists):
        is_target = np.array(["is_target" in ranking.details[item] for item in ranking.ids])
        target = ranking.scores[is_target][0]
        others = ranking.scores[~is_target]
        values.append(float((target > others).mean() + (target == others).mean() / 2))
    return np.array(values)


def swapped(method: MLLMMSR, queries: Sequence[Query]) -> list[Query]:
    """Return the queries, each with the summary of the user before it."""
    summaries = method.summaries(queries)
    return [replace(queries[i], profile=summaries[i - 1]) for i in range(len(queries))]


def table(values: Mapping[str, np.ndarray], best: str, seed: int) -> dict:
    """Return means, and the leads of one form over the others."""
    return {
        "means": {name: round(float(of_form.mean()), 4) for name, of_form in values.items()},
        "leads": {
            f"{best} over {name}": above(values[best], of_form, seed)
            for name, of_form in values.items()
            if name != best
        },
    }


def steady_gap(worlds: Sequence[Mapping]) -> dict:
    """Return by how much the rolled summary is above the one at once, over all steady worlds."""
    values = [world["values"]["evenly drawn"] for world in worlds]
    return above(
        np.concatenate([of_world["rolled"] for of_world in values]),
        np.concatenate([of_world["at once"] for of_world in values]),
    )


# ---- MovieLens


def on_films(run: Run) -> dict:
    """Return hit@5 of 21 for the first film that each user liked after those learned from."""
    data, held = films()
    method = MLLMMSR(examples=EXAMPLES).fit(data, run)
    chosen = run.rng("users").permutation(sorted(held))[:FILM_USERS].tolist()
    known = [user for user in chosen if data.users.rows([user])[0] >= 0]
    queries = data.queries(known)
    targets = Ragged.of([data.catalogue.rows(held[user][:1]).tolist() for user in known])
    at_once = with_summary(method, "at once", data, run)
    figures: dict = {"users": len(known)}
    for name, popularity in NEGATIVES_BY.items():
        lists = one_in_21(data, queries, targets, popularity, run, held)
        scores = {
            "rolled": score_lists(method, queries, lists),
            "at once": score_lists(at_once, queries, lists),
            "popularity": by_popularity(data, lists),
            "mean of items": by_mean_caption(method, queries, lists),
        }
        values = {form: hits_at_5(of_form, lists) for form, of_form in scores.items()}
        figures[name] = table(values, "rolled", run.seed)
    return figures


def films() -> tuple[Dataset, dict[str, list[str]]]:
    """Return liked films in their order, and each user's later ones, those of the test file first.

    The first of them is judged.
    """
    folder = data_folder() / "movielens" / "ml-1m-1000users"
    rows = []
    for line in (folder / "train.txt").read_text().splitlines():
        user, *ids = line.split()
        rows += [(user, item, position) for position, item in enumerate(ids)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "order"], orient="row")
    details = pl.read_csv(folder / "movie_detail.csv")
    items = details.select(
        item_id=pl.col("movie_id").cast(pl.String),
        title="title",
        categories=pl.col("genres").str.split("|"),
    )
    held: dict[str, list[str]] = {}
    for part in ("test.txt", "valid.txt"):
        for line in (folder / part).read_text().splitlines():
            user, *ids = line.split()
            held.setdefault(user, []).extend(ids)
    held = {user: ids for user, ids in held.items() if ids}
    return Dataset({"events": log, "items": items}, "films"), held


def score_lists(
    method: MLLMMSR, queries: Sequence[Query], lists: Sequence[Ranking]
) -> list[dict[str, float]]:
    """Return item -> score of every list."""
    answers = method.recommend(queries, NEGATIVES + 1, lists)
    return [dict(zip(answer.ids, answer.scores.tolist(), strict=True)) for answer in answers]


def by_popularity(data: Dataset, lists: Sequence[Ranking]) -> list[dict[str, float]]:
    counts = dict(data.events["item_id"].value_counts().iter_rows())
    return [{item: float(counts.get(item, 0)) for item in ranking.ids} for ranking in lists]


def by_mean_caption(
    method: MLLMMSR, queries: Sequence[Query], lists: Sequence[Ranking]
) -> list[dict[str, float]]:
    """Return cosines with the mean vector of the user's captions."""
    from tailor.core.defaults import encoder
    from tailor.text.cached import item_vectors

    vectors = item_vectors(encoder(), method.texts_)
    scores = []
    for query, ranking in zip(queries, lists, strict=True):
        mean = vectors[method._item_rows(query)].mean(axis=0)
        cosines = vectors[method.items_.rows(ranking.ids)] @ mean
        scores.append(dict(zip(ranking.ids, cosines.tolist(), strict=True)))
    return scores


def hits_at_5(scores: Sequence[Mapping[str, float]], lists: Sequence[Ranking]) -> np.ndarray:
    """Return (U,) the probability that the target is among the first five; ties by chance."""
    values = []
    for of_list, ranking in zip(scores, lists, strict=True):
        target = of_list[next(iter(ranking.details))]
        others = np.array([score for item, score in of_list.items() if item not in ranking.details])
        above_target, ties = int((others > target).sum()), int((others == target).sum())
        values.append(float(np.clip((5 - above_target) / (ties + 1), 0, 1)))
    return np.array(values)

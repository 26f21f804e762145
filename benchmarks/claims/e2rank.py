"""E2Rank on Cranfield and NPL, 318 queries: the best 100 by words, ordered by a cosine with
feedback against the plain cosine. All settings are chosen on CACM.

Printed beside: documents drawn from other lists in place of the first ones, the blend with the
first stage, the learned correction, the share of queries hurt, and the time of feedback.
"""

import itertools
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from judged_lists import JudgedList, best_prior_weight, judged_lists, ndcg_by, with_prior
from shared_data import judged

from tailor.bench.claims import Claim
from tailor.core.defaults import encoder
from tailor.core.run import Run
from tailor.evaluation.significance import bootstrap
from tailor.papers.reranking.e2rank import E2Rank, FeedbackList
from tailor.reranking.pair_features import ListVectors, list_vectors

JUDGING = ("cranfield", "npl")
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of the first stage in a blend
HURT = 0.1  # loss of NDCG@10 that counts as harm
MOST_MS = 5.0  # of feedback a query, beyond encoding
PLAIN = {"feedback_weight": 0.0}


def measure(run: Run) -> Claim:
    """Choose on CACM, then judge on Cranfield and NPL."""
    cacm = lists_of("cacm")
    vectors = vectors_of(cacm)
    best, tried = chosen(cacm, vectors, ("first stage", "both"))
    own, _ = chosen(cacm, vectors, ("cosine",))
    weights = {
        name: best_prior_weight(cacm, scores_of(E2Rank(**settings), cacm, vectors), WEIGHTS)
        for name, settings in {"cosine": PLAIN, "E2Rank": best}.items()
    }
    learned = E2Rank(**best, learn=True).fit(judged("cacm"), run)
    methods = {
        "cosine": E2Rank(**PLAIN),
        "E2Rank": E2Rank(**best),
        "E2Rank, its own list": E2Rank(**own),
        "learned": learned,
    }
    rows = [on(name, methods, weights, run) for name in JUDGING]
    values = {name: [row["values"][name] for row in rows] for name in rows[0]["values"]}
    leads = {
        name: gain_over(values[mine], values[other], run)
        for name, (mine, other) in {
            "E2Rank over cosine": ("E2Rank", "cosine"),
            "documents of other lists over cosine": ("documents of other lists", "cosine"),
            "E2Rank, its own list, over cosine": ("E2Rank, its own list", "cosine"),
            "learned over E2Rank": ("learned", "E2Rank"),
            "E2Rank with first stage over cosine with first stage": (
                "E2Rank with first stage",
                "cosine with first stage",
            ),
        }.items()
    }
    slowest = max(row["ms of feedback a query"] for row in rows)
    checks = {
        "E2Rank is above the plain cosine over 318 queries": leads["E2Rank over cosine"]["low"] > 0,
        "with documents of other lists it falls below the plain cosine": (
            leads["documents of other lists over cosine"]["high"] < 0
        ),
        f"feedback takes at most {MOST_MS:g} ms a query beyond encoding": slowest <= MOST_MS,
    }
    figures = {
        "chosen on CACM": {
            **best,
            "its own list": own,
            "first stage's weight": weights,
            "settings tried": len(tried),
        },
        "CACM": {"cosine": tried[str(PLAIN)], "E2Rank": max(tried.values())},
        "leads": leads,
        "learned from CACM": {
            name: learned.fit_report_["feedback"][name] for name in ("epochs", "best_epoch")
        },
    }
    for row in rows:
        shown = {name: round(float(value.mean()), 4) for name, value in row.pop("values").items()}
        figures[row.pop("name")] = {**row, "NDCG@10": shown}
    return Claim(checks, figures, [run.seed], ["cacm", *JUDGING])


def lists_of(name: str) -> list[JudgedList]:
    """Return the best 100 by words of every query; any grade above 0 gains 1."""
    return [
        replace(item, grades=(item.grades > 0).astype(float), best=np.ones(len(item.best)))
        for item in judged_lists(name, depth=100)
    ]


def vectors_of(lists: list[JudgedList]) -> list[ListVectors]:
    return list_vectors(encoder(), [item.shortlist for item in lists])


def gain_over(mine: list[np.ndarray], other: list[np.ndarray], run: Run) -> dict[str, float]:
    """Return the mean difference over all queries, and its interval within collections."""
    differences = np.concatenate([a - b for a, b in zip(mine, other, strict=True)])
    strata = np.repeat(np.arange(len(mine)), [len(values) for values in mine])
    low, high = bootstrap(differences[:, None], seed=run.seed, strata=strata)
    figures = {"difference": differences.mean(), "low": low[0], "high": high[0]}
    return {name: round(float(value), 4) for name, value in figures.items()}


def chosen(
    lists: list[JudgedList], vectors: list[ListVectors], orders: tuple[str, ...]
) -> tuple[dict, dict]:
    """Return the best settings on CACM, and the NDCG@10 of all that were tried."""
    grid = itertools.product(orders, (3, 5, 10, 20), (0.2, 0.4, 0.8), (0.0, 0.1), (1.0, 9.0))
    names = ("order", "feedback", "feedback_weight", "others_weight", "temperature")
    options = [PLAIN, *(dict(zip(names, values, strict=True)) for values in grid)]
    tried = {
        str(option): round(
            float(ndcg_by(lists, scores_of(E2Rank(**option), lists, vectors)).mean()), 4
        )
        for option in options
    }
    return max(options, key=lambda option: tried[str(option)]), tried


def scores_of(
    method: E2Rank, lists: list[JudgedList], vectors: list[ListVectors]
) -> list[np.ndarray]:
    """Return the scores of all lists; a document without a vector stands last."""
    pairs = zip(lists, vectors, strict=True)
    reads = [method._read(item.shortlist, of_list) for item, of_list in pairs]
    return [np.nan_to_num(method._list_scores(read), nan=-1.0) for read in reads]


def on(name: str, methods: dict[str, E2Rank], weights: dict, run: Run) -> dict:
    """Return NDCG@10 of every form on one collection, by query."""
    lists = lists_of(name)
    vectors = vectors_of(lists)
    scores, seconds = {}, {}
    for label, method in methods.items():
        started = time.perf_counter()
        scores[label] = scores_of(method, lists, vectors)
        seconds[label] = time.perf_counter() - started
    scores["documents of other lists"] = with_others(methods["E2Rank"], lists, vectors, run)
    for label, weight in weights.items():
        scores[f"{label} with first stage"] = with_prior(lists, scores[label], weight)
    scores["first stage"] = [item.shortlist.prior for item in lists]
    scores["best possible order"] = [item.grades for item in lists]
    values = {label: ndcg_by(lists, of_method) for label, of_method in scores.items()}
    loss = values["cosine"] - values["E2Rank"]
    return {
        "name": name,
        "queries": len(lists),
        "values": values,
        f"share of queries that lose over {HURT}": round(float((loss > HURT).mean()), 4),
        f"share of queries that gain over {HURT}": round(float((loss < -HURT).mean()), 4),
        "ms of feedback a query": round(1000 * seconds["E2Rank"] / len(lists), 3),
    }


def with_others(
    method: E2Rank, lists: list[JudgedList], vectors: list[ListVectors], run: Run
) -> list[np.ndarray]:
    """Return scores where documents drawn from all lists are fed back in place of the first."""
    rng = run.rng("documents of other lists")
    pool = np.concatenate([of_list.documents for of_list in vectors])
    scores = []
    for item, of_list in zip(lists, vectors, strict=True):
        read = method._read(item.shortlist, of_list)
        own = read.weights @ read.vectors.documents[read.first]
        drawn = read.weights @ pool[rng.choice(len(pool), len(read.first), replace=False)]
        query = (read.query + method.feedback_weight * (drawn - own)).astype(np.float32)
        moved: FeedbackList = replace(read, query=query)
        scores.append(np.nan_to_num(method._list_scores(moved), nan=-1.0))
    return scores

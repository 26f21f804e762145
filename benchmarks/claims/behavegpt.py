"""BehaveGPT: group DRO against plain cross-entropy at equal steps, on planted days and Foursquare.

Every judged event is a query with the events of the user before it, at its own time; what was done
before stays in. Recall@5 is weighted (a mean over events) and macro (a mean over behaviours with at
least five judged events). Intervals draw users with all their events. Settings were chosen on
Foursquare's validation visits and on another seed of the days. The reference net costs time of its
own: on the days "cross-entropy, longer" has its passes too; "no reference" weighs groups by their
loss. On Foursquare own frequency (with popularity for ties) and first-order moves are beside them.
"""

import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from claim_tools import SEEDS, difference_interval, is_above, seeded
from scipy.spatial.distance import jensenshannon
from visit_tools import users_of, visits, visits_as_queries

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.moments import DAY_MS
from tailor.data.queries import Queries
from tailor.papers.generative.behavegpt import BehaveGPT
from tailor.worlds.days import ANSWER, COMMON, CUE, NOISE, Days, days

DEPTH = 5
LENGTH = 50
MOST = 20_000  # judged events
LEAST = 5  # judged events of a behaviour that counts in the macro recall
LOST = 0.02  # share of the weighted recall that may be lost
RARER = 0.2  # share by which the recall of rare behaviours must rise
DAYS: dict[str, Any] = {
    "epochs": 16,
    "groups": 0,
    "eta": 0.05,
    "reference_epochs": 16,
    "length": 40,
    "batch_places": 1024,
}
PLACES: dict[str, Any] = {"epochs": 10, "eta": 0.01, "reference_epochs": 5, "length": LENGTH}
RAISING = ("group DRO", "group DRO, no reference")
KINDS = {"common": COMMON, "cues": CUE, "answers": ANSWER, "noise": NOISE}
DRAWS = 5  # days rolled out, and walks, per user
LATE = 12  # last events of a user in the days, which are judged


def measure(run: Run) -> Claim:
    """Planted days with three random states, then Foursquare with one."""
    planted = [on_days(seeded(run, seed)) for seed in SEEDS]
    places = on_foursquare(run)
    plain, dro = (places["recall@5"][name] for name in ("cross-entropy", "group DRO"))
    checks = {
        "days: recall of rare answers a fifth higher, interval above 0, every state": all(
            row["answers"]["group DRO"] >= (1 + RARER) * row["answers"]["cross-entropy"]
            for row in planted
        )
        and is_above(planted, "answers"),
        "Foursquare: macro recall above cross-entropy": is_above([places], "macro"),
        "Foursquare: weighted recall at most 2 % lower": (
            dro["weighted"] >= (1 - LOST) * plain["weighted"]
        ),
        "Foursquare: days rolled out are nearer to what happened than first-order moves": (
            places["divergence of days"]["BehaveGPT"]
            < places["divergence of days"]["first-order moves"]
        ),
    }
    figures = {"days": planted, "foursquare": places}
    return Claim(checks, figures, list(SEEDS), ["days", "foursquare"])


def variants(settings: dict[str, Any]) -> dict[str, BehaveGPT]:
    """Return the two methods that are compared."""
    common = {"patience": None, **settings}
    return {"cross-entropy": BehaveGPT(**{**common, "eta": 0.0}), "group DRO": BehaveGPT(**common)}


def further(settings: dict[str, Any]) -> dict[str, BehaveGPT]:
    """Return cross-entropy with the reference's passes too, and weights without a reference."""
    common = {"patience": None, **settings}
    passes = common["epochs"] + common["reference_epochs"] // 2  # it learns from half of the users
    return {
        "cross-entropy, longer": BehaveGPT(**{**common, "eta": 0.0, "epochs": passes}),
        "group DRO, no reference": BehaveGPT(**{**common, "reference_epochs": 0}),
    }


def fit(methods: dict[str, BehaveGPT], data: Dataset, run: Run) -> dict[str, float]:
    """Fit all methods; return their processor seconds."""
    seconds = {}
    for name, method in methods.items():
        started = time.process_time()
        method.fit(data, run)
        seconds[name] = round(time.process_time() - started, 1)
    return seconds


def on_days(run: Run) -> dict[str, Any]:
    """Judge the last two days of a planted log."""
    world = days(seed=run.seed)
    is_late = world.data.sequences.rows.from_end < LATE
    learned = np.empty(len(is_late), bool)
    learned[world.data.sequences.events] = ~is_late
    queries, targets = visits_as_queries(world.data, np.flatnonzero(is_late), MOST, LENGTH)
    methods = variants(DAYS) | further(DAYS)
    seconds = fit(methods, world.data.cut(learned), run)
    hits = {name: hits_of(method, queries, targets) for name, method in methods.items()}
    kinds = world.kinds[targets]
    is_answer = kinds == ANSWER
    lead = hits["group DRO"] - hits["cross-entropy"]
    users = users_of(queries)
    return {
        "seed": run.seed,
        "events": len(targets),
        "of rare answers": int(is_answer.sum()),
        "weighted": shares_of(hits),
        "answers": shares_of(hits, is_answer),
        "cues": shares_of(hits, kinds == CUE),
        "noise": shares_of(hits, kinds == NOISE),
        "raised by": {name: raised_by(methods[name], world) for name in RAISING},
        "leads": {
            "answers": difference_interval(lead[is_answer], run.seed, clusters=users[is_answer]),
            "all": difference_interval(lead, run.seed, clusters=users),
        },
        "seconds of a fit": seconds,
    }


def raised_by(method: BehaveGPT, world: Days) -> dict[str, float]:
    """Return how many times their share the weights of groups are in the end, by kind."""
    factors = method.net_weights_["group_weights"] / np.maximum(method.shares_, 1e-9)
    kinds = world.kinds[world.data.catalogue.rows(method.items_.ids.tolist())]
    return {name: round(float(factors[kinds == kind].mean()), 3) for name, kind in KINDS.items()}


def on_foursquare(run: Run) -> dict[str, Any]:
    """Judge all test visits of Foursquare."""
    data, (queries, targets) = visits("test", MOST, LENGTH)
    methods = variants(PLACES)
    seconds = fit(methods, data, run)
    hits = {name: hits_of(method, queries, targets) for name, method in methods.items()}
    hits["own frequency"] = hits_of_scores(own_frequency(data, queries), targets)
    moves = first_order_moves(data, queries.catalogue.ids.tolist())
    hits["first-order moves"] = hits_of_scores(ranked_moves(moves, data, queries), targets)
    macro = macro_weights(targets)
    lead = hits["group DRO"] - hits["cross-entropy"]
    users = users_of(queries)
    return {
        "visits": len(targets),
        "places with five visits": int((np.bincount(targets) >= LEAST).sum()),
        "recall@5": {
            name: {
                "weighted": round(float(values.mean()), 4),
                "macro": round(float((values * macro).mean()), 4),
            }
            for name, values in hits.items()
        },
        "leads": {
            "macro": difference_interval(lead * macro, run.seed, clusters=users),
            "weighted": difference_interval(lead, run.seed, clusters=users),
        },
        "raised groups": methods["group DRO"].fit_report_["most_raised_groups"],
        "raised by": methods["group DRO"].fit_report_["raised_by"],
        "reference losses": methods["group DRO"].reference_losses_.round(3).tolist(),
        "divergence of days": divergences(methods["group DRO"], moves, queries, targets, run),
        "seconds of a fit": seconds,
    }


def hits_of(method: Recommender, queries: Queries, targets: np.ndarray) -> np.ndarray:
    """Return (Q,) 1 where the target is among the first five."""
    rows = method.recommend(queries, DEPTH).reindexed(queries.catalogue).rows
    return np.asarray((rows == targets[:, None]).any(axis=1), dtype=float)


def hits_of_scores(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (Q,) 1 where fewer than five scores are above the target's, of equals half."""
    own = scores[np.arange(len(targets)), targets][:, None]
    ranks = 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    return np.asarray(ranks <= DEPTH, dtype=float)


def shares_of(
    hits: dict[str, np.ndarray], mask: np.ndarray | slice = slice(None)
) -> dict[str, float]:
    return {name: round(float(values[mask].mean()), 4) for name, values in hits.items()}


def macro_weights(targets: np.ndarray) -> np.ndarray:
    """Return (Q,) weights with which a mean over visits is one over places with enough visits."""
    counts = np.bincount(targets)
    judged = counts >= LEAST
    weights = len(targets) / (judged.sum() * np.maximum(counts, 1)) * judged
    return np.asarray(weights[targets])


def own_frequency(data: Dataset, queries: Queries) -> np.ndarray:
    """Return (Q, N) counts of the user's own visits, then the popularity."""
    popularity = np.bincount(data.sequences.rows.values, minlength=len(data.catalogue))
    popularity = popularity[data.catalogue.rows(queries.catalogue.ids.tolist())]
    counts = queries.histories.matrix(len(queries.catalogue)).toarray()
    return np.asarray(counts + 0.5 * popularity / popularity.max())


def first_order_moves(data: Dataset, item_ids: list[str]) -> sp.csr_matrix:
    """Return (N, N) how often a place follows another one; the popularity where none does."""
    rows = data.sequences.rows
    order = data.catalogue.rows(item_ids)
    starts = np.flatnonzero(rows.from_end > 0)
    pair = (rows.values[starts], rows.values[starts + 1])
    moves = sp.csr_matrix((np.ones(len(starts)), pair), shape=(len(order),) * 2)[order][:, order]
    popularity = np.bincount(rows.values, minlength=len(order))[order]
    counts = moves.toarray()
    counts[counts.sum(axis=1) == 0] = popularity
    return sp.csr_matrix(counts)


def ranked_moves(moves: sp.csr_matrix, data: Dataset, queries: Queries) -> np.ndarray:
    """Return (Q, N) the moves from the latest place, with the popularity for ties."""
    rows = data.catalogue.rows(queries.catalogue.ids.tolist())
    popularity = np.bincount(data.sequences.rows.values, minlength=len(data.catalogue))[rows]
    return np.asarray(moves[last_rows(queries)].toarray() + 0.5 * popularity / popularity.max())


def last_rows(queries: Queries) -> np.ndarray:
    """Return (Q,) the latest item of each history."""
    return np.asarray(queries.histories.values[queries.histories.offsets[1:] - 1])


def divergences(
    method: BehaveGPT, moves: sp.csr_matrix, queries: Queries, targets: np.ndarray, run: Run
) -> dict[str, float]:
    """Return Jensen-Shannon divergences of the places of a day from those that were visited.

    The day is the one after each user's first judged visit. First-order moves have as many visits
    as there were, and begin with the same visit.
    """
    users = users_of(queries)
    _, first = np.unique(users, return_index=True)
    starts = queries.now_ms[first][users]
    is_day = (queries.now_ms > starts) & (queries.now_ms < starts + DAY_MS)
    visited = Ragged.of([targets[is_day & (users == user)] for user in range(len(first))])
    asked = begun_at(queries, targets, first)
    size = len(queries.catalogue)
    truth = np.bincount(visited.values, minlength=size)
    own, walked, counts = [], [], []
    for draw in range(DRAWS):
        seed = run.seed + draw
        rollouts = method.rollout(asked, 24.0, seeded(run, seed))
        places = [queries.catalogue.rows(list(day.item_ids)) for day in rollouts]
        own.append(divergence(truth, places, size))
        counts.append(sum(map(len, places)))
        rng = seeded(run, seed).rng("moves")
        walks = [
            walk(moves, int(start), int(length), rng)
            for start, length in zip(targets[first], visited.lengths, strict=True)
        ]
        walked.append(divergence(truth, walks, size))
    return {
        "visits": len(visited.values),
        "drawn by BehaveGPT": round(float(np.mean(counts))),
        "BehaveGPT": round(float(np.mean(own)), 4),
        "first-order moves": round(float(np.mean(walked)), 4),
        "each draw": {"BehaveGPT": own, "first-order moves": walked},
    }


def begun_at(queries: Queries, targets: np.ndarray, numbers: np.ndarray) -> Queries:
    """Return queries whose own visit is the last of their history, and the moment that begins."""
    some = queries.take(numbers)
    times_ms = some.columns["times_ms"]
    rows = Ragged.of([[*some.histories[i], targets[n]] for i, n in enumerate(numbers.tolist())])
    stamps = [[*times_ms[i], some.now_ms[i]] for i in range(len(some))]
    return Queries(
        some.catalogue,
        rows,
        some.user_ids,
        {"times_ms": Ragged.of(stamps, np.int64)},
        now_ms=some.now_ms,
    )


def walk(moves: sp.csr_matrix, start: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Return a walk of some moves."""
    rows = []
    for _ in range(length):
        chances = moves[start].toarray()[0]
        start = int(rng.choice(len(chances), p=chances / chances.sum()))
        rows.append(start)
    return np.array(rows, np.int64)


def divergence(truth: np.ndarray, drawn: list[np.ndarray], size: int) -> float:
    """Return the divergence, in bits, of the places drawn from those of a histogram."""
    counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *drawn]), minlength=size)
    return round(float(jensenshannon(truth, counts, base=2) ** 2), 4)

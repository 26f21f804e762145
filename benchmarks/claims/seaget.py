"""SEAGET: Foursquare's given split against counting and the plain transformer; a planted town.

Every judged visit is a query with all visits of the user before it, at its own time; places seen
before stay in. Methods learn from the training visits alone. Counting adds the user's own visits,
those in the same four hours, those after the same place and, for the order of the others, the
popularity; its weights were chosen on the validation visits. So were the epochs, which are the same
for SEAGET and the transformer: both would gain by more (2, 4 and 8 were tried).
"""

from typing import Any

import numpy as np
from claim_tools import SEEDS, difference_interval, is_above, seeded
from visit_tools import users_of, visits, visits_as_queries

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.moments import DAY_MS, HOUR_MS
from tailor.data.queries import Queries
from tailor.papers.retrieval.seaget import BUCKET_HOURS, SEAGET
from tailor.worlds.places import places

VISITS = 3_000  # judged
DEPTH = 100
LENGTH = 100
MARGIN = 0.01  # of Acc@10 that counts as no cost
SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "patience": None,
    "length": LENGTH,
    "lr": 2e-3,
    "dropout": 0.3,
}
COUNTING = {"own": 1.0, "bucket": 4.0, "step": 8.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "SEAGET": {},
    "transformer": {"parts": ("own", "flow", "times"), "closed": "open"},
    "transformer, no times": {"parts": ("own", "flow"), "closed": "open"},
}
WITH_ONE_SEED = ("transformer, no times",)
CLOSED = ("open", "soft", "hard")


def measure(run: Run) -> Claim:
    """Foursquare with three random states, then planted towns."""
    data, judged = visits("test", VISITS, LENGTH)
    counts = count_visits(data, judged)
    given = [on_foursquare(data, judged, counts, seeded(run, seed)) for seed in SEEDS]
    towns = [on_town(seeded(run, seed)) for seed in SEEDS]
    checks = {}
    for figure in ("Acc@10", "MRR"):
        checks[f"Foursquare: {figure} above counting"] = is_above(given, f"{figure} over counting")
        checks[
            f"Foursquare: {figure} above the transformer without popularity, season and mask"
        ] = is_above(given, f"{figure} over transformer")
    label = "closed places over open"
    checks["town: the hard mask recommends fewer places closed at that hour"] = all(
        row["hard"][label]["high"] < 0 < row["open"]["closed share"] for row in towns
    )
    checks["town: the hard mask costs no Acc@10"] = all(
        row["hard"]["Acc@10 over open"]["low"] > -MARGIN for row in towns
    )
    figures = {"foursquare": given, "planted town": towns}
    return Claim(checks, figures, list(SEEDS), ["foursquare", "places"])


def on_foursquare(
    data: Dataset, judged: tuple[Queries, np.ndarray], counts: np.ndarray, run: Run
) -> dict[str, Any]:
    """Judge all variants with one random state, against counting too."""
    queries, targets = judged
    users = users_of(queries)
    ranks = {"counting": ranks_of_scores(counts, targets)}
    for name, settings in VARIANTS.items():
        if name in WITH_ONE_SEED and run.seed:
            continue
        method = SEAGET(**{**SETTINGS, **settings}).fit(data, run)
        ranks[name] = ranks_in_lists(method, queries, targets)
        if name == "SEAGET":
            method.closed = "open"
            ranks["SEAGET, no mask"] = ranks_in_lists(method, queries, targets)
    leads = {}
    for rival in ("counting", "transformer"):
        for figure, values in (("Acc@10", hits_of), ("MRR", reciprocals_of)):
            differences = values(ranks["SEAGET"]) - values(ranks[rival])
            leads[f"{figure} over {rival}"] = difference_interval(
                differences, run.seed, clusters=users
            )
    figures = {name: figures_of(values) for name, values in ranks.items()}
    return {"seed": run.seed, "visits": len(targets), "figures": figures, "leads": leads}


def ranks_in_lists(method: Recommender, queries: Queries, targets: np.ndarray) -> np.ndarray:
    """Return (Q,) ranks of the targets from 1, infinite beyond DEPTH."""
    rows = method.recommend(queries, DEPTH).reindexed(queries.catalogue).rows
    is_target = rows == targets[:, None]
    return np.where(is_target.any(axis=1), is_target.argmax(axis=1) + 1.0, np.inf)


def ranks_of_scores(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (Q,) ranks of targets by scores (Q, N), ties counted half."""
    own = scores[np.arange(len(targets)), targets][:, None]
    return np.asarray(1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2)


def hits_of(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    return np.asarray(ranks <= k, dtype=float)


def reciprocals_of(ranks: np.ndarray) -> np.ndarray:
    return np.asarray(1 / ranks)


def figures_of(ranks: np.ndarray) -> dict[str, float]:
    figures = {f"Acc@{k}": float(hits_of(ranks, k).mean()) for k in (1, 5, 10)}
    figures["MRR"] = float(reciprocals_of(ranks).mean())
    return {name: round(value, 4) for name, value in figures.items()}


def count_visits(data: Dataset, judged: tuple[Queries, np.ndarray]) -> np.ndarray:
    """Return (Q, N) weighted counts of the user's own visits, and the popularity beside."""
    queries, _ = judged
    rows = queries.histories
    hours = queries.columns["times_ms"].values % DAY_MS // HOUR_MS // BUCKET_HOURS
    now = queries.now_ms % DAY_MS // HOUR_MS // BUCKET_HOURS
    last = rows.values[rows.offsets[1:] - 1]
    before = np.r_[-1, rows.values[:-1]]
    before[rows.offsets[:-1]] = -1
    weights = np.full(len(rows.values), float(COUNTING["own"]))
    weights += COUNTING["bucket"] * (hours == now[rows.row_ids])
    weights += COUNTING["step"] * (before == last[rows.row_ids])
    counts = rows.matrix(len(queries.catalogue), weights).toarray()
    popularity = np.bincount(data.sequences.rows.values, minlength=counts.shape[1])
    return np.asarray(counts + 0.5 * popularity / popularity.max())


def on_town(run: Run) -> dict[str, Any]:
    """Judge the last fifth of the visits of a planted town under each form of the mask."""
    world = places(seed=run.seed)
    rows = world.data.sequences.rows
    is_late = rows.from_end < 12
    learned = np.empty(len(is_late), bool)
    learned[world.data.sequences.events] = ~is_late
    queries, targets = visits_as_queries(world.data, np.flatnonzero(is_late), VISITS, LENGTH)
    method = SEAGET(**{**SETTINGS, "epochs": 10}).fit(world.data.cut(learned), run)
    hours = queries.now_ms % DAY_MS // HOUR_MS
    users = users_of(queries)
    ranks, closed_shares = {}, {}
    for closed in CLOSED:
        method.closed = closed
        lists = method.recommend(queries, 10).reindexed(queries.catalogue).rows
        is_place = lists >= 0
        # the truth; the mask knows the hours of visits only, and an hour around them
        is_closed = ~world.is_open[lists, hours[:, None]] & is_place
        closed_shares[closed] = is_closed.sum(axis=1) / np.maximum(is_place.sum(axis=1), 1)
        ranks[closed] = ranks_in_lists(method, queries, targets)
    hits = {closed: hits_of(values) for closed, values in ranks.items()}
    return {"seed": run.seed} | {
        closed: {
            **figures_of(ranks[closed]),
            "closed share": round(float(closed_shares[closed].mean()), 4),
            "closed places over open": difference_interval(
                closed_shares[closed] - closed_shares["open"], run.seed, clusters=users
            ),
            "Acc@10 over open": difference_interval(
                hits[closed] - hits["open"], run.seed, clusters=users
            ),
        }
        for closed in CLOSED
    }

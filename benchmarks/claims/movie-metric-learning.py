"""MovieMetricLearning: films that came after the data, in planted releases and on MovieLens.

Films are judged one by one: the AUC of the scores of customers, who saw it against who did not. Who
goes often sees more of everything, which the cosine cannot know: so customers are compared within
thirds of like activity (`at like activity`), and all with all beside it.
The rivals are the cosine of the same vectors to the customer's decayed mean, and the customer's
number of films of its genres. Settings were looked at on another planted log; nothing was chosen on
MovieLens, which has titles and genres in place of plots. The decay of the cosine is the method's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from claim_tools import SEEDS, Remembering, is_above, seeded
from scipy.stats import spearmanr
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.evaluation.significance import bootstrap
from tailor.metrics.prediction import auc
from tailor.papers.retrieval.movie_metric_learning import MovieMetricLearning
from tailor.text.sentences import unit_length
from tailor.worlds.releases import WEEK_MS, Releases, releases

RUN_WEEKS = 6
LEARNED = 0.7  # share of the weeks of the planted log that is learned from
EVENTS = 0.5  # share of MovieLens' events that is learned from
LEAST_EVENTS = 20  # of a judged customer after that
LEAST_VIEWERS = 5  # of a judged film
DECAY = 0.9  # of the cosine's mean, as the method's own
PLANTED = {"release_days": 7.0 * RUN_WEEKS}
MOVIELENS: dict[str, Any] = {"opening_days": 365.0}
CHECKS = {
    "AUC at like activity above the cosine": "over cosine, at like activity",
    "AUC at like activity above the count of genres": "over genres, at like activity",
    "AUC over all above the count of genres": "over genres, all customers",
}


def measure(run: Run) -> Claim:
    """Planted releases with three random states, then MovieLens with one."""
    planted = [on_releases(releases(seed=seed), seeded(run, seed)) for seed in SEEDS]
    movielens = on_movielens(real("ml-latest-small"), EVENTS, run)
    checks = {f"planted: {text}": is_above(planted, label) for text, label in CHECKS.items()}
    checks |= {f"MovieLens: {text}": is_above([movielens], label) for text, label in CHECKS.items()}
    checks["planted: Spearman of predicted and true audience above .5"] = all(
        row["Spearman of audiences"] > 0.5 for row in planted
    )
    figures = {"planted": planted, "ml-latest-small": movielens}
    return Claim(checks, figures, list(SEEDS), ["releases", "ml-latest-small"])


def encoder() -> Remembering:
    return Remembering(encoder_of(DEFAULT))


def on_releases(world: Releases, run: Run) -> dict[str, Any]:
    """Judge films that came out after most of the weeks, by all customers of the time before."""
    weeks = int((world.end_ms - world.released_ms.min()) // WEEK_MS)
    cut_ms = int(world.released_ms.min() + int(LEARNED * weeks) * WEEK_MS)
    past = world.data.cut((world.data.events["time_ms"] < cut_ms).to_numpy())
    method = MovieMetricLearning(encoder(), **PLANTED).fit(past, run)
    queries = past.queries()
    customers = np.flatnonzero(queries.histories.lengths)
    queries = replace(queries.take(customers), now_ms=np.full(len(customers), cut_ms))
    has_run = world.released_ms <= world.end_ms - RUN_WEEKS * WEEK_MS
    films = np.flatnonzero((world.released_ms >= cut_ms) & has_run)
    seen = world.data.sequences.rows.matrix(len(world.data.catalogue)).toarray()[customers] > 0
    texts = [world.data.item_texts[film] for film in films]
    audiences = method.audience(texts, queries)
    scores = {
        "MovieMetricLearning": np.stack([one.probabilities for one in audiences], axis=1),
        **rival_scores(past, queries, films, method.texts_),
    }
    sizes, viewers = [one.size for one in audiences], seen[:, films].sum(axis=0)
    frequent = world.frequent[customers]
    mask = np.ones((len(customers), len(films)), bool)
    activity = queries.histories.lengths
    return judge_films(seen[:, films], mask, scores, activity, run) | {
        "Spearman of audiences": round(float(spearmanr(sizes, viewers).statistic), 4),
        "expected and true viewers a film": [
            round(float(np.mean(sizes)), 1),
            round(float(viewers.mean()), 1),
        ],
        "AUC of casual and frequent customers": [
            mean_auc(seen[mask][:, films], scores["MovieMetricLearning"][mask])
            for mask in (~frequent, frequent)
        ],
    }


def on_movielens(data: Dataset, share: float, run: Run) -> dict[str, Any]:
    """Judge films first rated after the data, by customers as they were halfway through the rest.

    A customer's films after the halfway point are to be foreseen; films that were not out by then
    do not count for the customer, unless seen.
    """
    times = data.events["time_ms"].to_numpy()
    cut_ms = int(np.quantile(times, share))
    past = data.cut(times < cut_ms)
    method = MovieMetricLearning(encoder(), **MOVIELENS).fit(past, run)
    rows, times_ms = data.sequences.rows, data.sequences.times_ms
    is_after = times_ms.values >= cut_ms
    later = times_ms.keep(is_after)
    customers = np.flatnonzero(later.lengths >= LEAST_EVENTS)
    now_ms = np.array([int(np.median(later[customer])) for customer in customers])
    everything = replace(data.queries().take(customers), now_ms=now_ms)
    queries = everything.before_request()
    first_ms = np.full(len(data.catalogue), np.iinfo(np.int64).max)
    np.minimum.at(first_ms, rows.values, times_ms.values)
    histories, known = everything.histories, queries.histories
    seen = histories.matrix(len(first_ms)).toarray() > 0
    before = known.matrix(len(first_ms)).toarray() > 0
    is_out = first_ms[None, :] <= now_ms[:, None]
    counts = (seen & ~before).sum(axis=0)
    films = np.flatnonzero((first_ms >= cut_ms) & (counts >= LEAST_VIEWERS))
    targets = (seen & ~before)[:, films]
    mask = (targets | (is_out & ~seen)[:, films]) & (known.lengths > 0)[:, None]
    texts = [data.item_texts[film] for film in films]
    audiences = method.audience(texts, queries)
    scores = {
        "MovieMetricLearning": np.stack([one.probabilities for one in audiences], axis=1),
        **rival_scores(data, queries, films, method.texts_),
    }
    return judge_films(targets, mask, scores, known.lengths, run)


def rival_scores(
    data: Dataset, queries: Queries, films: np.ndarray, texts: np.ndarray
) -> dict[str, np.ndarray]:
    """Return (U, F) scores of the rivals for films of the data's catalogue."""
    weights = queries.histories.decayed_matrix(len(texts), DECAY, 50)
    means = unit_length(np.asarray(weights @ texts))
    genres = data.item_table["categories"].fill_null([]).to_list()
    names = {name: column for column, name in enumerate(sorted({n for row in genres for n in row}))}
    has_genre = np.zeros((len(texts), max(len(names), 1)))
    for film, row in enumerate(genres):
        has_genre[film, [names[name] for name in row]] = 1
    counts = queries.histories.matrix(len(texts)) @ has_genre
    shares = has_genre[films] / np.maximum(has_genre[films].sum(axis=1, keepdims=True), 1)
    return {"cosine": means @ texts[films].T, "genres": counts @ shares.T}


def judge_films(
    targets: np.ndarray,
    mask: np.ndarray,
    scores: Mapping[str, np.ndarray],
    activity: np.ndarray,
    run: Run,
) -> dict[str, Any]:
    """Return mean AUCs of films over customers of the mask (U, F), and leads over films.

    `activity` (U,) are the customers' numbers of films before.
    """
    thirds = np.searchsorted(np.quantile(activity, (1 / 3, 2 / 3)), activity)
    everybody = np.zeros(len(activity), int)
    figures: dict[str, Any] = {"customers": len(targets), "films": targets.shape[1]}
    leads = {}
    for label, groups in (("at like activity", thirds), ("all customers", everybody)):
        by_film = {
            name: film_aucs(targets, mask, values, groups) for name, values in scores.items()
        }
        figures[f"mean AUC of a film, {label}"] = {
            name: round(float(np.nanmean(values)), 4) for name, values in by_film.items()
        }
        for name in ("cosine", "genres"):
            differences = by_film["MovieMetricLearning"] - by_film[name]
            leads[f"over {name}, {label}"] = mean_with_interval(differences, run)
    return {"seed": run.seed, **figures, "leads": leads}


def mean_with_interval(differences: np.ndarray, run: Run) -> dict[str, float]:
    differences = differences[np.isfinite(differences)]
    low, high = bootstrap(differences[:, None], seed=run.seed)
    return {
        "difference": round(float(differences.mean()), 4),
        "low": round(float(low[0]), 4),
        "high": round(float(high[0]), 4),
    }


def film_aucs(
    targets: np.ndarray, mask: np.ndarray, values: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Return (F,) the mean AUC over groups of customers, NaN for a film that no group can tell."""
    films = np.full((groups.max() + 1, targets.shape[1]), np.nan)
    for group in range(len(films)):
        for film in range(targets.shape[1]):
            rows = mask[:, film] & (groups == group)
            films[group, film] = film_auc(targets[rows, film], values[rows, film])
    counts = np.isfinite(films).sum(axis=0)
    sums = np.nansum(films, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def film_auc(targets: np.ndarray, values: np.ndarray) -> float:
    """Return the AUC of one film; NaN where all customers saw it, or nobody."""
    return auc(targets.astype(float), values) if 0 < targets.sum() < len(targets) else np.nan


def mean_auc(targets: np.ndarray, values: np.ndarray) -> float:
    films = range(targets.shape[1])
    return round(float(np.nanmean([film_auc(targets[:, f], values[:, f]) for f in films])), 4)

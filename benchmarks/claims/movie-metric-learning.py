"""MovieMetricLearning: films that came after the data, in planted releases and on MovieLens.

Films are judged one by one: the AUC of the scores of customers, who saw it against who did not. Who
goes often sees more of everything, which the cosine cannot know: so customers are compared within
thirds of like activity (`at like activity`), and all with all beside it.
The rivals are the cosine of the same vectors to the customer's decayed mean, the customer's number
of films of its genres, the number of films alone, and the cosine with its logarithm; the weight of
that is chosen on films that came out before the data ends. The method's settings were chosen on
another planted log; nothing of it was chosen on MovieLens, which has titles and genres in place of
plots. The decay of the cosine is the method's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from claim_tools import SEEDS, Remembering, difference_interval, is_above, seeded
from scipy.stats import spearmanr
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
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
LINEAR: dict[str, Any] = {"layers": (), "epochs": 25, "dropout": 0.0}  # few films to learn from
PLANTED: dict[str, Any] = {**LINEAR, "release_days": 7.0 * RUN_WEEKS}
MOVIELENS: dict[str, Any] = {**LINEAR, "opening_days": 365.0}
WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0)  # of the logarithm of events beside the cosine
CHECKS = {
    "AUC at like activity above the cosine": "over cosine, at like activity",
    "AUC at like activity above the count of genres": "over genres, at like activity",
    "AUC over all above the number of events": "over events, all customers",
    "AUC over all above the cosine with activity": "over cosine and events, all customers",
}


@dataclass(frozen=True, eq=False)
class Question:
    """Films that came after the data, and customers as they were before."""

    past: Dataset
    """What may be learned from."""
    queries: Queries
    """The customers, over the catalogue of the data."""
    films: np.ndarray
    """(F,) rows of the films."""
    targets: np.ndarray
    """(U, F) bool: whether a customer saw a film later."""
    mask: np.ndarray
    """(U, F) bool: customers that count for a film."""


def measure(run: Run) -> Claim:
    """Planted releases with three random states, then MovieLens with one."""
    planted = [on_releases(releases(seed=seed), seeded(run, seed)) for seed in SEEDS]
    movielens = on_movielens(real("ml-latest-small"), run)
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
    first_ms = int(world.released_ms.min())
    weeks = int((world.end_ms - first_ms) // WEEK_MS)
    cut_ms, early_ms = (
        first_ms + int(share * weeks) * WEEK_MS for share in (LEARNED, LEARNED * LEARNED)
    )
    question = released(world, cut_ms, world.end_ms)
    method = MovieMetricLearning(encoder(), **PLANTED).fit(question.past, run)
    earlier = released(world, early_ms, cut_ms)
    scores, sizes = method_scores(method, question)
    scores |= rival_scores(question, method.texts_, chosen_weight(earlier, method.texts_))
    viewers = question.targets.sum(axis=0)
    return judge_films(question, scores, run) | {
        "Spearman of audiences": round(float(spearmanr(sizes, viewers).statistic), 4),
        "expected and true viewers a film": [
            round(float(np.mean(sizes)), 1),
            round(float(viewers.mean()), 1),
        ],
    }


def released(world: Releases, start_ms: int, end_ms: int) -> Question:
    """Return the films that came out and ran between two times, and who saw them."""
    log = world.data.cut((world.data.events["time_ms"] < end_ms).to_numpy())
    past = log.cut((log.events["time_ms"] < start_ms).to_numpy())
    queries = past.queries()
    customers = np.flatnonzero(queries.histories.lengths)
    queries = queries.take(customers)
    queries = replace(queries, now_ms=np.full(len(customers), start_ms))
    has_run = world.released_ms <= end_ms - RUN_WEEKS * WEEK_MS
    films = np.flatnonzero((world.released_ms >= start_ms) & has_run)
    seen = log.queries().histories.matrix(len(log.catalogue)).toarray() > 0
    rows = log.users.rows(queries.user_ids.tolist())
    targets = seen[rows][:, films]
    return Question(past, queries, films, targets, np.ones(targets.shape, bool))


def on_movielens(data: Dataset, run: Run) -> dict[str, Any]:
    """Judge films first rated after the data, by customers as they were halfway through the rest."""
    question = rated(data)
    method = MovieMetricLearning(encoder(), **MOVIELENS).fit(question.past, run)
    weight = chosen_weight(rated(question.past), method.texts_)
    scores = method_scores(method, question)[0]
    scores |= rival_scores(question, method.texts_, weight)
    return judge_films(question, scores, run)


def rated(data: Dataset) -> Question:
    """Return the films first rated in the later part of a log, by customers halfway through it.

    A film counts for the customers at whose halfway point it was out, and who had not seen it.
    """
    times = data.events["time_ms"].to_numpy()
    cut_ms = int(np.quantile(times, EVENTS))
    rows, times_ms = data.sequences.rows, data.sequences.times_ms
    later = times_ms.keep(times_ms.values >= cut_ms)
    customers = np.flatnonzero(later.lengths >= LEAST_EVENTS)
    now_ms = np.array([int(np.median(later[customer])) for customer in customers])
    everything = replace(data.queries().take(customers), now_ms=now_ms)
    queries = everything.before_request()
    first_ms = np.full(len(data.catalogue), np.iinfo(np.int64).max)
    np.minimum.at(first_ms, rows.values, times_ms.values)
    seen = everything.histories.matrix(len(first_ms)).toarray() > 0
    before = queries.histories.matrix(len(first_ms)).toarray() > 0
    mask = (first_ms[None, :] <= now_ms[:, None]) & ~before
    mask &= (queries.histories.lengths > 0)[:, None]
    viewers = (seen & mask).sum(axis=0)
    films = np.flatnonzero((first_ms >= cut_ms) & (viewers >= LEAST_VIEWERS))
    past = data.cut(times < cut_ms)
    return Question(past, queries, films, (seen & mask)[:, films], mask[:, films])


def method_scores(
    method: MovieMetricLearning, question: Question
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Return the scores (U, F) of the method by its name, and its sizes of audiences (F,)."""
    texts = [question.past.item_texts[film] for film in question.films]
    audiences = method.audience(texts, question.queries)
    scores = np.stack([one.probabilities for one in audiences], axis=1)
    return {"MovieMetricLearning": scores}, [one.size for one in audiences]


def chosen_weight(question: Question, texts: np.ndarray) -> float:
    """Return the weight of the logarithm of events that helps the cosine most, over all."""
    aucs = []
    for weight in WEIGHTS:
        scores = rival_scores(question, texts, weight)["cosine and events"]
        everybody = np.zeros(len(scores), int)
        aucs.append(np.nanmean(film_aucs(question.targets, question.mask, scores, everybody)))
    return WEIGHTS[int(np.argmax(aucs))]


def rival_scores(question: Question, texts: np.ndarray, weight: float) -> dict[str, np.ndarray]:
    """Return (U, F) scores of the rivals; `weight` is that of activity beside the cosine."""
    histories, films = question.queries.histories, question.films
    weights = histories.decayed_matrix(len(texts), DECAY, 50)
    means = unit_length(np.asarray(weights @ texts))
    cosines = means @ texts[films].T
    genres = question.past.item_table["categories"].fill_null([]).to_list()
    names = {name: column for column, name in enumerate(sorted({n for row in genres for n in row}))}
    has_genre = np.zeros((len(texts), max(len(names), 1)))
    for film, row in enumerate(genres):
        has_genre[film, [names[name] for name in row]] = 1
    counts = histories.matrix(len(texts)) @ has_genre
    shares = has_genre[films] / np.maximum(has_genre[films].sum(axis=1, keepdims=True), 1)
    events = np.log1p(histories.lengths)[:, None]
    return {
        "cosine": cosines,
        "genres": counts @ shares.T,
        "events": np.broadcast_to(events, cosines.shape),
        "cosine and events": cosines + weight * events,
    }


def judge_films(question: Question, scores: Mapping[str, np.ndarray], run: Run) -> dict[str, Any]:
    """Return mean AUCs of films over customers of the mask, and leads over films."""
    targets, mask = question.targets, question.mask
    activity = question.queries.histories.lengths
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
        for name in list(scores)[1:]:
            differences = by_film["MovieMetricLearning"] - by_film[name]
            leads[f"over {name}, {label}"] = mean_with_interval(differences, run)
    return {"seed": run.seed, **figures, "leads": leads}


def mean_with_interval(differences: np.ndarray, run: Run) -> dict[str, float]:
    differences = differences[np.isfinite(differences)]
    return difference_interval(differences, run.seed)


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

"""A planted log of film releases: plots in words, customers with tastes, casual and frequent ones.

Shapes: U customers, F films, T topics, W weeks.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

WEEK_MS = 7 * 86_400_000
TIERS = ("casual", "frequent")
VISITS_PER_WEEK = (0.12, 0.6)  # of each tier
FREQUENT = 0.3  # share of frequent customers
TOPICS = {
    "space": "astronaut rocket comet orbit galaxy alien asteroid moonbase",
    "heist": "vault thief diamond robbery getaway safe disguise alarm",
    "romance": "wedding letter sweetheart kiss promise honeymoon longing waltz",
    "war": "trench battalion sniper bunker convoy armistice regiment siege",
    "horror": "haunted graveyard curse demon cellar scream ritual shadow",
    "sports": "coach stadium boxer marathon trophy league goalkeeper underdog",
    "music": "violin band stage melody singer orchestra rehearsal encore",
    "western": "saloon sheriff cattle outlaw desert stagecoach ranch duel",
}


@dataclass(frozen=True, eq=False)
class Releases:
    """A log of tickets, and the truth. Rows are those of the data's catalogue and users."""

    data: Dataset
    """Tickets; films with plot, genre and release date (`created_ms`)."""
    frequent: np.ndarray
    """(U,) bool: customers of the frequent tier."""
    tastes: np.ndarray
    """(U, T) share of each topic in a customer's taste."""
    plots: np.ndarray
    """(F, T) share of each topic in a film's plot."""
    released_ms: np.ndarray
    """(F,) release dates."""
    end_ms: int
    """The end of the log."""


def releases(
    customers: int = 800,
    films: int = 240,
    weeks: int = 120,
    run_weeks: int = 6,
    seed: int = 0,
    *,
    strength: float = 12.0,
    words: int = 8,
) -> Releases:
    """Make a log of customers who choose among the films in release.

    Films come out evenly over the weeks and run for `run_weeks`. A plot has a main topic, which is
    its genre, and another that only its `words` tell. A customer of the casual or the frequent tier
    goes with a probability of the tier each week, and takes a film not seen yet with a probability
    that grows with exp(`strength` * what taste and plot share). The same arguments give the same
    log. Raises DataError for sizes below 1.
    """
    if min(customers, films, weeks, run_weeks, words) < 1:
        raise DataError(
            f"customers {customers}, films {films}, weeks {weeks}, run_weeks {run_weeks}, words"
            f" {words}: at least 1 each"
        )
    rng = random_of(seed, "releases")
    popularity = rng.permutation(0.7 ** np.arange(len(TOPICS)))
    tastes = rng.dirichlet(0.3 + popularity, size=customers)
    topics = rng.random((films, len(TOPICS))).argsort(axis=1)[:, :2]
    plots = np.zeros((films, len(TOPICS)))
    np.add.at(plots, (np.arange(films)[:, None], topics), np.array([0.6, 0.4]))
    is_frequent = rng.random(customers) < FREQUENT
    week_of = np.arange(films) * weeks // films
    tickets = _tickets(tastes @ plots.T * strength, is_frequent, week_of, weeks, run_weeks, rng)
    user_ids = opaque_ids("u-", customers, seed)
    item_ids = opaque_ids("i-", films, seed)
    released_ms = START_MS + week_of * WEEK_MS
    events = pl.DataFrame(
        {
            "user_id": user_ids[tickets[:, 0]],
            "item_id": item_ids[tickets[:, 1]],
            "time_ms": START_MS
            + tickets[:, 2] * WEEK_MS
            + rng.integers(WEEK_MS, size=len(tickets)),
        }
    ).sort("time_ms")
    texts = _plot_texts(topics, words, rng)
    table = _films_table(item_ids, topics, texts, released_ms)
    data = Dataset({"events": events, "items": table}, f"releases-{seed}")
    films_in_order = np.argsort(data.catalogue.rows(item_ids.to_list()))
    users_in_order = np.argsort(data.users.rows(user_ids.to_list()))
    users_in_order = users_in_order[len(users_in_order) - len(data.users) :]  # some never go
    return Releases(
        data,
        is_frequent[users_in_order],
        tastes[users_in_order],
        plots[films_in_order],
        released_ms[films_in_order],
        int(START_MS + weeks * WEEK_MS),
    )


def _tickets(
    worths: np.ndarray,
    is_frequent: np.ndarray,
    week_of: np.ndarray,
    weeks: int,
    run_weeks: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return (n, 3) customer, film and week of every ticket; `worths` (U, F) are log-odds."""
    customers, films = worths.shape
    seen = np.zeros((customers, films), bool)
    tickets = []
    rates = np.where(is_frequent, VISITS_PER_WEEK[1], VISITS_PER_WEEK[0])
    for week in range(weeks):
        in_release = (week_of <= week) & (week < week_of + run_weeks)
        goes = np.flatnonzero(rng.random(customers) < rates)
        noise = rng.gumbel(size=(len(goes), films))
        values = np.where(in_release & ~seen[goes], worths[goes] + noise, -np.inf)
        chosen = values.argmax(axis=1)
        finds = np.isfinite(values[np.arange(len(goes)), chosen])
        goes, chosen = goes[finds], chosen[finds]
        seen[goes, chosen] = True
        tickets.append(np.c_[goes, chosen, np.full(len(goes), week)])
    return np.concatenate(tickets)


def _plot_texts(topics: np.ndarray, words: int, rng: np.random.Generator) -> list[str]:
    """Return plots in words for two topics (F, 2) of each film."""
    names = list(TOPICS)
    texts = []
    for main, second in topics.tolist():
        main_words = rng.permutation(TOPICS[names[main]].split())[: words - words // 3]
        second_words = rng.permutation(TOPICS[names[second]].split())[: words // 3]
        texts.append(" ".join(rng.permutation([*main_words, *second_words]).tolist()))
    return texts


def _films_table(
    item_ids: pl.Series, topics: np.ndarray, texts: list[str], released_ms: np.ndarray
) -> pl.DataFrame:
    """Return the items table: plot, genre and release date of each film."""
    names = list(TOPICS)
    return pl.DataFrame(
        {
            "item_id": item_ids,
            "text": texts,
            "categories": [[names[main]] for main in topics[:, 0].tolist()],
            "created_ms": released_ms,
        }
    )

"""A planted shop where users search and browse: a session's demand joins a lasting taste.

Shapes: U users, N items, E events.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of
from tailor.worlds.words import SYLLABLES

TOPIC_WORDS, QUERY_WORDS = 6, 2
DAY_MS, MINUTE_MS = 86_400_000, 60_000


@dataclass(frozen=True, eq=False)
class Searches:
    """A log, and the truth that no method may see. Rows are those of the data."""

    data: Dataset
    """Events; searches as texts of kind "query", of the event that they led to."""
    topics: np.ndarray
    """(N,) the topic of each item."""
    styles: np.ndarray
    """(N,) the style of each item."""
    demands: np.ndarray
    """(E,) the topic that the session of each event was about, in the order of the events."""
    words: tuple[tuple[str, ...], ...]
    """The words of each topic."""


def searches(
    users: int = 600,
    styles: int = 6,
    topics: int = 12,
    copies: int = 4,
    sessions: int = 5,
    length: int = 4,
    seed: int = 0,
    *,
    search: float = 0.6,
    loyal: float = 0.85,
) -> Searches:
    """Make a log of users with a taste, whose sessions have a demand each.

    There are `copies` items of every style and topic. A user prefers one style, always; a session
    of `length` events is about one topic. Both hold for an event with probability `loyal` each,
    else chance decides. A share `search` of the sessions begins with a search, which names two of
    the topic's six words; its other events, and other sessions, have no words.

    The same arguments give the same log. Raises DataError for sizes that cannot be.
    """
    sizes = (users, styles, topics, copies, sessions, length)
    if min(sizes) < 1 or topics * TOPIC_WORDS > len(SYLLABLES) ** 2:
        raise DataError(
            f"users {users}, styles {styles}, topics {topics}, copies {copies}, sessions"
            f" {sessions}, length {length}: at least 1 each, and topics at most"
            f" {len(SYLLABLES) ** 2 // TOPIC_WORDS}"
        )
    rng = random_of(seed, "searches")
    words = _words(topics, rng)
    tastes = rng.integers(styles, size=users)
    session, step = _sessions(users, sessions, length, rng)
    topic_of_session = rng.integers(topics, size=(users, sessions + 1))
    demands = np.take_along_axis(topic_of_session, session, axis=1)
    event_topics = _sometimes(demands, topics, loyal, rng)
    event_tastes = np.broadcast_to(tastes[:, None], demands.shape)
    event_styles = _sometimes(event_tastes, styles, loyal, rng)
    copy = rng.integers(copies, size=demands.shape)
    items = (event_topics * styles + event_styles) * copies + copy
    is_drawn = rng.random(demands.shape) < search
    has_query = (step == 0) & is_drawn
    times = START_MS + session * DAY_MS + step * MINUTE_MS
    order = np.argsort(times.ravel(), kind="stable")
    item_ids = np.array(opaque_ids("i-", styles * topics * copies, seed).to_list())
    user_ids = np.array(opaque_ids("u-", users, seed).to_list())
    events = pl.DataFrame(
        {
            "user_id": user_ids.repeat(sessions * length)[order],
            "item_id": item_ids[items.ravel()[order]],
            "time_ms": times.ravel()[order],
        }
    )
    demands = demands.ravel()[order]
    has_query = has_query.ravel()[order]
    demand_words = [words[topic] for topic in demands]
    data = _dataset(events, item_ids, has_query, demand_words, seed, rng)
    numbers = np.argsort(data.catalogue.rows(item_ids.tolist()))  # in the order of the catalogue
    topic_of_item = numbers // (styles * copies)
    style_of_item = numbers // copies % styles
    return Searches(data, topic_of_item, style_of_item, demands, tuple(words))


def _sessions(
    users: int, sessions: int, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (U, L) the session of each event and its step in it.

    A user's first session has begun before the log, so that the last event may be of any step.
    """
    phases = rng.integers(length, size=(users, 1))
    numbers = np.arange(sessions * length) + phases
    session, step = np.divmod(numbers, length)
    return session, step


def _dataset(
    events: pl.DataFrame,
    item_ids: np.ndarray,
    has_query: np.ndarray,
    words: list[tuple[str, ...]],
    seed: int,
    rng: np.random.Generator,
) -> Dataset:
    """Return the data of events (E,); where `has_query`, a text of two `words`."""
    texts = [
        " ".join(rng.choice(words[row], QUERY_WORDS, replace=False))
        for row in np.flatnonzero(has_query).tolist()
    ]
    text = pl.Series(texts, dtype=pl.String)
    queries = events.filter(pl.Series(has_query))
    queries = queries.with_columns(kind=pl.lit("query"), text=text)
    items = pl.DataFrame({"item_id": item_ids})
    tables = {"events": events, "texts": queries, "items": items}
    return Dataset(tables, f"searches-{seed}")


def _words(topics: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Return six invented words a topic, all different."""
    pairs = product(SYLLABLES, repeat=2)
    all_words = np.array(["".join(pair) + "n" for pair in pairs])
    shuffled = rng.permutation(len(all_words))
    numbers = shuffled[: topics * TOPIC_WORDS]
    rows = all_words[numbers].reshape(topics, TOPIC_WORDS)
    return [tuple(row) for row in rows.tolist()]


def _sometimes(
    values: np.ndarray, size: int, probability: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the values, each replaced by any below `size` unless `probability` holds."""
    holds = rng.random(values.shape) < probability
    others = rng.integers(size, size=values.shape)
    return np.where(holds, values, others)

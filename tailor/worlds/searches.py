"""A planted shop where users search and browse: a session's demand joins a lasting taste.

Shapes: U users, N items, E events.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

SYLLABLES = (
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ka",
    "le",
    "mi",
    "no",
    "pu",
    "ra",
    "se",
    "ti",
    "vo",
    "zu",
)
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
    event_styles = _sometimes(np.broadcast_to(tastes[:, None], demands.shape), styles, loyal, rng)
    copy = rng.integers(copies, size=demands.shape)
    items = (event_topics * styles + event_styles) * copies + copy
    has_query = (step == 0) & (rng.random(demands.shape) < search)
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
    demands, has_query = demands.ravel()[order], has_query.ravel()[order]
    data = _dataset(events, item_ids, has_query, [words[topic] for topic in demands], seed, rng)
    numbers = np.argsort(data.catalogue.rows(item_ids.tolist()))  # in the order of the catalogue
    topic_of, style_of = numbers // (styles * copies), numbers // copies % styles
    return Searches(data, topic_of, style_of, demands, tuple(words))


def _sessions(
    users: int, sessions: int, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (U, L) the session of each event and its step in it.

    A user's first session has begun before the log, so that the last event may be of any step.
    """
    phases = rng.integers(length, size=(users, 1))
    session, step = np.divmod(np.arange(sessions * length) + phases, length)
    return session, step


def _dataset(
    events: pl.DataFrame,
    item_ids: np.ndarray,
    has_query: np.ndarray,
    words: list[tuple[str, ...]],
    seed: int,
    rng: np.random.Generator,
) -> Dataset:
    """Return the data of events (E,), with two of their `words` as a text where `has_query`."""
    texts = [
        " ".join(rng.choice(words[row], QUERY_WORDS, replace=False))
        for row in np.flatnonzero(has_query).tolist()
    ]
    queries = events.filter(pl.Series(has_query))
    queries = queries.with_columns(kind=pl.lit("query"), text=pl.Series(texts, dtype=pl.String))
    items = pl.DataFrame({"item_id": item_ids})
    return Dataset({"events": events, "texts": queries, "items": items}, f"searches-{seed}")


def _words(topics: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Return six invented words a topic, all different."""
    numbers = rng.permutation(len(SYLLABLES) ** 2)[: topics * TOPIC_WORDS]
    first, second = np.divmod(numbers, len(SYLLABLES))
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    names = [SYLLABLES[i] + SYLLABLES[j] + "n" for i, j in pairs]
    return [
        tuple(names[start : start + TOPIC_WORDS]) for start in range(0, len(names), TOPIC_WORDS)
    ]


def _sometimes(
    values: np.ndarray, size: int, probability: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the values, each replaced by any below `size` unless `probability` holds."""
    holds = rng.random(values.shape) < probability
    return np.where(holds, values, rng.integers(size, size=values.shape))

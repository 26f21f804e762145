"""Planted logs in which one signal alone decides what comes next, for defaults that must fit all.

Shapes: U people, N items, L events of a person.
"""

from typing import Literal

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError, nearest
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

DAY_MS = 86_400_000
OWN = 5  # items that a person returns to
NEXT = 3  # items that may follow an item
SIGNAL = 0.85  # share of events that follow the signal; the others are any item
SIGNALS = ("repeats", "popularity", "texts", "sequence")


def opposite(
    signal: Literal["repeats", "popularity", "texts", "sequence"],
    people: int = 1_000,
    items: int = 300,
    length: int = 12,
    seed: int = 0,
) -> Dataset:
    """Make a log of `people` with `length` events each, one a day, that one signal decides.

    - "repeats": a person returns to a few items of their own.
    - "popularity": everybody draws from the same skewed distribution.
    - "texts": a person stays with items of one topic, which their titles tell; nobody repeats.
    - "sequence": each item is followed by one of three others.

    A share of .15 of the events are any item. Raises DataError for another signal.
    """
    if signal not in SIGNALS:
        raise DataError(f'there is no signal "{signal}".{nearest(signal, SIGNALS)}')
    rng = random_of(seed, signal)
    topic_count = max(1, items // (2 * length))
    topics = np.arange(items) % topic_count
    drawn = _drawn(signal, people, items, length, topics, rng)
    user_ids = opaque_ids("u-", people, seed)
    item_ids = opaque_ids("i-", items, seed)
    events = pl.DataFrame(
        {
            "user_id": user_ids[np.repeat(np.arange(people), length)],
            "item_id": item_ids[drawn.ravel()],
            "time_ms": (
                START_MS + np.arange(length) * DAY_MS + rng.integers(DAY_MS, size=people)[:, None]
            ).ravel(),
        }
    ).sort("time_ms", maintain_order=True)
    tables = {"events": events}
    words = opaque_ids("w", topic_count, seed)
    if signal == "texts":
        titles = [f"{words[int(topic)]} {n}" for n, topic in enumerate(topics)]
        tables["items"] = pl.DataFrame({"item_id": item_ids, "title": titles})
    return Dataset(tables, f"{signal}-{seed}")


def _drawn(
    signal: str,
    people: int,
    items: int,
    length: int,
    topics: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return (U, L) items."""
    anything = rng.integers(items, size=(people, length))
    if signal == "popularity":
        return np.asarray((rng.random((people, length)) ** 3 * items).astype(np.int64))
    if signal == "repeats":
        own = rng.integers(items, size=(people, OWN))
        signalled = own[np.arange(people)[:, None], rng.integers(OWN, size=(people, length))]
    elif signal == "texts":
        count = int(topics.max()) + 1
        topic = rng.integers(count, size=people)
        places = rng.random((people, items // count)).argsort(axis=1)[:, :length]
        signalled = topic[:, None] + count * places
    else:
        return _walk(rng.integers(items, size=(items, NEXT)), anything, rng)
    return np.where(rng.random((people, length)) < SIGNAL, signalled, anything)


def _walk(followers: np.ndarray, anything: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (U, L) walks over `followers` (N, NEXT); a share of steps are `anything`."""
    walks = anything.copy()
    for step in range(1, anything.shape[1]):
        picked = followers[walks[:, step - 1], rng.integers(NEXT, size=len(walks))]
        follows = rng.random(len(walks)) < SIGNAL
        walks[:, step] = np.where(follows, picked, anything[:, step])
    return walks

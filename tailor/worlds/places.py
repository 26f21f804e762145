"""A planted town: places that open at certain hours, people with favourites.

Shapes: U people, N places, V visits of a person.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, eq=False)
class Places:
    """A log of visits, and when places are open. Rows are those of the data's catalogue."""

    data: Dataset
    """Visits, and places with their coordinates."""
    is_open: np.ndarray
    """(N, 24) bool: whether a place is open in each hour of the day."""


def places(
    people: int = 300,
    items: int = 150,
    visits: int = 60,
    favourites: int = 12,
    open_hours: int = 10,
    seed: int = 0,
) -> Places:
    """Make a log of people who go to open favourites, near ones likelier.

    A place is open for `open_hours` in a row from an hour of its own. A visit begins at any hour;
    the person takes one of `favourites` that is open then, likelier a near one to the last place.
    The same arguments give the same log. Raises DataError for sizes that cannot be.
    """
    if min(people, items, visits, favourites) < 1 or not 1 <= open_hours <= 24:
        raise DataError(
            f"people {people}, items {items}, visits {visits}, favourites {favourites}, open_hours"
            f" {open_hours}: at least 1 each, hours up to 24"
        )
    rng = random_of(seed, "places")
    start = rng.integers(24, size=items)
    is_open = (np.arange(24) - start[:, None]) % 24 < open_hours
    spots = rng.random((items, 2))
    likes = rng.random((people, items)).argsort(axis=1)[:, : min(favourites, items)]
    fondness = rng.gumbel(size=likes.shape)
    hours = np.sort(rng.integers(24 * 90, size=(people, visits)), axis=1)
    last = likes[:, 0]
    chosen = np.empty((people, visits), np.int64)
    for visit in range(visits):
        distance = np.linalg.norm(spots[likes] - spots[last][:, None], axis=2)
        values = fondness - 3 * distance + rng.gumbel(size=likes.shape)
        opened = is_open[likes, (hours[:, visit] % 24)[:, None]]
        best = np.where(opened, values, -np.inf).argmax(axis=1)
        last = likes[np.arange(people), best]
        chosen[:, visit] = np.where(opened.any(axis=1), last, -1)
    return _log(chosen, hours, spots, is_open, seed, rng)


def _log(
    chosen: np.ndarray,
    hours: np.ndarray,
    spots: np.ndarray,
    is_open: np.ndarray,
    seed: int,
    rng: np.random.Generator,
) -> Places:
    """Return the data of visits `chosen` (U, V), -1 for none, and the truth."""
    people, visits = chosen.shape
    user_ids = opaque_ids("u-", people, seed)
    item_ids = opaque_ids("i-", len(spots), seed)
    is_visit = chosen.ravel() >= 0
    times_ms = START_MS - START_MS % DAY_MS + hours.ravel() * HOUR_MS
    times_ms = times_ms + rng.integers(HOUR_MS, size=people * visits)
    events = pl.DataFrame(
        {
            "user_id": user_ids[np.repeat(np.arange(people), visits)[is_visit]],
            "item_id": item_ids[chosen.ravel()[is_visit]],
            "time_ms": times_ms[is_visit],
        }
    ).sort("time_ms")
    table = pl.DataFrame({"item_id": item_ids, "lat": spots[:, 0], "lon": spots[:, 1]})
    data = Dataset({"events": events, "items": table}, f"places-{seed}")
    order = np.argsort(data.catalogue.rows(item_ids.to_list()))
    return Places(data, is_open[order])

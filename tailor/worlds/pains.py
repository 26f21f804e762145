"""Planted logs with one trouble each: new items, new users, random events, rare items, or none.

Shapes: U users, N items, L events of a user.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError, nearest
from tailor.worlds.seeds import START_MS
from tailor.worlds.styles import TOPICS
from tailor.worlds.words import SYLLABLES

DAY_MS = 86_400_000
DAYS = 100
PLANTS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "cold items": {"released": 0.3},
    "cold people": {"newcomers": 0.8},
    "noise": {"random": 0.6},
    "tail": {"rare": 0.5},
}
"""Trouble -> the share of items, users or events that has it."""
LATE = 0.9  # of the time: releases and newcomers come after it, random events before
RELEASED_SHARE = 0.6  # of late events that are of new releases
VISITS = 1  # events of a newcomer
RARE_ITEMS = 80  # of a theme
NICHE = 8  # rare items with a word in common, of which a user likes one set
STRAY = 0.1  # of all events, that are of random items: no log is without them


def pains(
    pain: str = "none",
    users: int = 900,
    themes: int = 24,
    items: int = 18,
    events: int = 8,
    seed: int = 0,
) -> Dataset:
    """Return a log of users who stay within a theme of `items` items, with one planted trouble.

    A title has two words of its theme and one of its own; a tenth of all events is of any item.
    "cold items": part of the items come late, and are chosen then. "cold people": many users come
    late, for one event. "noise": most early events are of any item. "tail": half of the events are
    of a few of many rare items, which share a word. Raises DataError for another trouble.
    """
    if pain not in PLANTS:
        raise DataError(f'no trouble "{pain}".{nearest(pain, PLANTS)}')
    return _Log(users, themes, items, events, np.random.default_rng(seed), **PLANTS[pain]).data(
        f"{pain} {seed}"
    )


class _Log:
    def __init__(
        self,
        users: int,
        themes: int,
        items: int,
        events: int,
        rng: np.random.Generator,
        released: float = 0.0,
        newcomers: float = 0.0,
        random: float = 0.0,
        rare: float = 0.0,
    ) -> None:
        self.rng = rng
        self.users = users
        self.events = events
        self.random = max(random, STRAY)
        self.rare = rare
        self.newcomers = round(newcomers * users)
        self.common = items
        of_theme = items + (RARE_ITEMS if rare else 0)
        self.theme_of_item = np.arange(themes * of_theme) % themes
        number = np.arange(themes * of_theme) // themes  # within the theme
        self.is_rare = number >= items
        self.niche = np.where(self.is_rare, (number - items) // NICHE, -1)
        self.is_released = ~self.is_rare & (number < released * items)

    def data(self, name: str) -> Dataset:
        """Return events and items."""
        rows = [row for user in range(self.users + self.newcomers) for row in self._events(user)]
        ids = np.array([f"thing-{number:04d}" for number in range(len(self.theme_of_item))])
        owners, items, times = (np.array(column) for column in zip(*rows, strict=True))
        events = pl.DataFrame(
            {
                "user_id": [f"user-{owner:04d}" for owner in owners.tolist()],
                "item_id": ids[items].tolist(),
                "time_ms": START_MS + (times * DAYS * DAY_MS).astype(np.int64),
            }
        ).sort("time_ms", maintain_order=True)
        table = pl.DataFrame({"item_id": ids.tolist(), "title": self._titles()})
        return Dataset({"events": events, "items": table}, name)

    def _titles(self) -> list[str]:
        titles = []
        for number, theme in enumerate(self.theme_of_item.tolist()):
            words = self.rng.choice(TOPICS[theme].split(), 2, replace=False)
            niche = int(self.niche[number])
            code = number
            if niche >= 0:
                code = len(self.niche) + theme * RARE_ITEMS // NICHE + niche
            titles.append(f"{words[0]} {words[1]} {_invented_word(code)}")
        return titles

    def _events(self, user: int) -> list[tuple[int, int, float]]:
        """Return user, item and time from 0 to 1 of each event."""
        times = self._times(user)
        theme = int(self.rng.integers(self.theme_of_item.max() + 1))
        niche = int(self.rng.integers(RARE_ITEMS // NICHE))
        liked = (self.theme_of_item == theme) & ((self.niche == niche) | ~self.is_rare)
        rows: list[tuple[int, int, float]] = []
        taken: set[int] = set()
        for time in times.tolist():
            item = self._item(liked, time, taken)
            taken.add(item)
            rows.append((user, item, time))
        return rows

    def _times(self, user: int) -> np.ndarray:
        if user >= self.users:
            return np.sort(self.rng.uniform(LATE, 1, VISITS))
        first = self.rng.uniform(0, 0.1)
        return np.sort([first, *self.rng.uniform(first, 1, self.events - 1)])

    def _item(self, liked: np.ndarray, time: float, taken: set[int]) -> int:
        """Return an item that the user likes (N,), not twice the same, or any item."""
        if self.rng.random() < (self.random if time < LATE else STRAY):
            exists = ~self.is_released | (time >= LATE)
            return int(self.rng.choice(np.flatnonzero(exists)))
        mask = liked & (self.is_rare == (self.rng.random() < self.rare))
        if self.is_released.any():
            wants_release = time >= LATE and self.rng.random() < RELEASED_SHARE
            mask &= self.is_released == wants_release
        pool = np.setdiff1d(np.flatnonzero(mask), list(taken))
        return int(self.rng.choice(pool if len(pool) else np.flatnonzero(mask)))


def _invented_word(number: int) -> str:
    """Return an invented word for a number."""
    digits = [number // 225 % 15, number // 15 % 15, number % 15]
    return "".join(SYLLABLES[digit] for digit in digits)

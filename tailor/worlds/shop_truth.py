"""The truth behind the planted shop: its items, its people, and the worth of every item to every
user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest
from tailor.worlds import words
from tailor.worlds.seeds import random_of

DAY_MS = 86_400_000
START_MS = 1_704_067_200_000  # 2024-01-01 UTC
VIEW, CART, BUY = range(3)
NAMES = words.attribute_names()
GROUP_OF, VALUES = np.array([name.split(": ") for name in NAMES], dtype=object).T
# the first column of each group
FIRST = {group: int(np.argmax(group == GROUP_OF)) for group in dict.fromkeys(GROUP_OF)}
# how much people differ in each
WEIGHTS = {"category": 1.5, "kind": 1.1, "brand": 0.9, "colour": 1.0, "material": 0.8, "style": 1.0}
KINDS_N = len(words.KINDS)
# (kinds,)
CATEGORY_OF = np.array([list(words.CATEGORIES).index(kind.category) for kind in words.KINDS])
CYCLE_OF = np.array([kind.cycle_days for kind in words.KINDS])  # (kinds,)
COUNTRIES = ("NO", "DE", "FR", "GB", "ES", "PL")
AGE_BANDS = ("18-24", "25-34", "35-49", "50-64", "65+")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items as the world knows them; row i of everything is the i-th item made, which no outside id
    reveals.
    """

    kind: np.ndarray
    """(N,) row in words.KINDS."""
    traits: np.ndarray
    """(N, 4) columns of brand, colour, material and style among the attributes."""
    price: np.ndarray
    """(N,)."""
    price_level: np.ndarray
    """(N,) log price within its kind, about unit variance."""
    quality: np.ndarray
    """(N,) what everyone values in it."""
    fame: np.ndarray
    """(N,) how visible it is; no part of its worth."""
    created_ms: np.ndarray
    """(N,)."""
    kind_appeal: np.ndarray
    """(kinds,) what everyone needs more or less."""

    @cached_property
    def columns(self) -> np.ndarray:
        """(N, 6) the attribute columns that are 1 for each item."""
        return np.column_stack(
            [FIRST["category"] + CATEGORY_OF[self.kind], FIRST["kind"] + self.kind, self.traits]
        )


@dataclass(frozen=True, eq=False)
class People:
    """Users as the world knows them. Tastes turn from `start` towards `end`."""

    start: np.ndarray
    """(U, A) float32."""
    end: np.ndarray
    """(U, A) float32."""
    price_sensitivity: np.ndarray
    """(U,) float32."""
    sessions: np.ndarray
    """(U,) int64: sessions started by the user alone, a heavy tail."""
    joined_day: np.ndarray
    """(U,) int64, below 0 for who joined before the log begins."""
    country: np.ndarray
    """(U,) row in COUNTRIES."""
    age_band: np.ndarray
    """(U,) row in AGE_BANDS."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What nobody in the shop knows: tastes over time, and the worth of every item to every user.

    `utilities` is what a perfectly informed adviser would rank by. It leaves out what only moves
    attention: fame and the session so far.
    """

    user_ids: np.ndarray
    """(U,) outside ids."""
    item_ids: np.ndarray
    """(N,) outside ids."""
    people: People
    catalogue: Catalogue
    days: int
    drift: float
    season: float

    attribute_names = NAMES  # (A,) such as "colour: navy"

    @property
    def start_ms(self) -> int:
        return START_MS

    @property
    def end_ms(self) -> int:
        return START_MS + self.days * DAY_MS

    @cached_property
    def attributes(self) -> np.ndarray:
        """(N, A) float32, 1 where the item has the attribute."""
        out = np.zeros((len(self.item_ids), len(NAMES)), dtype=np.float32)
        np.put_along_axis(out, self.catalogue.columns, 1, axis=1)
        return out

    def tastes(
        self, user_ids: Sequence[str], time_ms: int | np.ndarray | None = None
    ) -> np.ndarray:
        """(len(user_ids), A) float32: what each attribute adds to an item's utility, at a time
        (one, or one a user) or at the end.
        """
        rows = known_rows(user_ids, self._user_rows, "user")
        return self.tastes_of(
            rows, np.broadcast_to(self.end_ms if time_ms is None else time_ms, rows.shape)
        )

    def utilities(
        self,
        user_ids: Sequence[str],
        item_ids: Sequence[str] | None = None,
        time_ms: int | np.ndarray | None = None,
    ) -> np.ndarray:
        """(users, items) float32 at a time (one, or one a user) or at the end; all items in the
        order of `item_ids` where none are given.

        Tastes, price, quality, season. Raises DataError for an unknown id.
        """
        users = known_rows(user_ids, self._user_rows, "user")
        items = (
            np.arange(len(self.item_ids))
            if item_ids is None
            else known_rows(item_ids, self._item_rows, "item")
        )
        times = np.broadcast_to(self.end_ms if time_ms is None else time_ms, users.shape)
        made = self.catalogue
        out: np.ndarray = self.tastes_of(users, times) @ self.attributes[items].T  # (U, N)
        out -= np.outer(self.people.price_sensitivity[users], made.price_level[items])
        out += self.kinds_now(times)[:, made.kind[items]] + made.quality[items]
        return out.astype(np.float32, copy=False)

    def best(self, user_id: str, k: int = 10, time_ms: int | None = None) -> list[str]:
        """The k items of highest utility among those on sale at a time, or at the end."""
        time_ms = self.end_ms if time_ms is None else time_ms
        worth = np.where(
            self.catalogue.created_ms <= time_ms,
            self.utilities([user_id], time_ms=time_ms)[0],
            -np.inf,
        )
        order = np.argsort(-worth, kind="stable")[:k]
        best: list[str] = self.item_ids[order[worth[order] > -np.inf]].tolist()
        return best

    def tastes_of(self, users: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
        """(n, A) tastes of user rows at times. A turn by an angle keeps their strength, whatever
        the drift.
        """
        start: np.ndarray = self.people.start[users]
        if not self.drift:
            return start
        angle = (self.drift * np.pi / 2) * np.clip(
            (times_ms - START_MS) / (self.days * DAY_MS), 0, 1
        ).astype(np.float32)[:, None]
        turned: np.ndarray = np.cos(angle) * start + np.sin(angle) * self.people.end[users]
        return turned

    def kinds_now(self, times_ms: np.ndarray) -> np.ndarray:
        """(n, kinds) float32: what the season and general need add to every kind at each time."""
        peak, strength = np.array(list(words.CATEGORIES.values()), dtype=np.float32)[CATEGORY_OF].T
        day = ((times_ms - START_MS) / DAY_MS).astype(np.float32)[:, None]
        wave: np.ndarray = (
            self.season * strength * np.cos((day - peak) * np.float32(2 * np.pi / 365))
        )
        wave += self.catalogue.kind_appeal
        return wave

    @cached_property
    def _user_rows(self) -> Vocabulary:
        return Vocabulary(self.user_ids)

    @cached_property
    def _item_rows(self) -> Vocabulary:
        return Vocabulary(self.item_ids)


def make_catalogue(n: int, days: int, seed: int, launches: float) -> Catalogue:
    rng = random_of(seed, "catalogue")
    kind = np.concatenate(
        [rng.permutation(KINDS_N), rng.integers(0, KINDS_N, max(0, n - KINDS_N))]
    )[:n]
    material = [
        FIRST["material"] + 4 * list(words.MATERIALS).index(one.material) for one in words.KINDS
    ]
    styles = np.where(CYCLE_OF[kind] > 0, words.STYLES_OF_CONSUMABLES, len(words.STYLES))
    brand = rng.integers(0, len(words.BRANDS), n)
    traits = np.column_stack(
        [
            FIRST["brand"] + brand,
            FIRST["colour"] + rng.integers(0, len(words.COLOURS), n),
            np.array(material)[kind] + rng.integers(0, 4, n),
            FIRST["style"] + rng.integers(0, styles),
        ]
    )
    # a brand has its price
    level = 0.6 * rng.standard_normal(len(words.BRANDS))[brand] + 0.8 * rng.standard_normal(n)
    price = (
        np.maximum(
            1, np.round(np.array([one.price for one in words.KINDS])[kind] * np.exp(0.3 * level))
        )
        - 0.05
    )
    fame = np.exp(rng.standard_normal(n))
    quality = 0.4 * rng.standard_normal(n)
    # the first item of a kind was always there
    late = (np.arange(n) >= KINDS_N) & (rng.random(n) < launches)
    day = np.where(late, rng.integers(1, max(2, int(days * 0.9)), n), -rng.integers(1, 700, n))
    return Catalogue(
        kind,
        traits,
        price,
        level.astype(np.float32),
        quality.astype(np.float32),
        fame,
        START_MS + day * DAY_MS,
        0.4 * rng.standard_normal(KINDS_N).astype(np.float32),
    )


def make_people(
    n: int, days: int, seed: int, taste: float, price: float, sessions: float
) -> People:
    rng = random_of(seed, "people")
    segments = rng.standard_normal((12, len(NAMES)), dtype=np.float32)
    country = rng.choice(len(COUNTRIES), n, p=[0.1, 0.3, 0.2, 0.2, 0.1, 0.1])
    age = rng.choice(len(AGE_BANDS), n, p=[0.15, 0.25, 0.3, 0.2, 0.1])
    hints = (
        0.8 * rng.standard_normal((len(COUNTRIES), 12)),
        0.8 * rng.standard_normal((len(AGE_BANDS), 12)),
    )
    leaning = hints[0][country] + hints[1][age]  # (U, 12): what makes country and age worth knowing
    scale = taste * np.array([WEIGHTS[group] for group in GROUP_OF], dtype=np.float32)
    start, end = (
        _tastes(random_of(seed, when), leaning, segments, scale) for when in ("start", "end")
    )
    joined = np.where(
        rng.random(n) < 0.6, -rng.integers(1, 1_000, n), rng.integers(0, max(1, int(days * 0.9)), n)
    )
    there = 1 - np.maximum(joined, 0) / days  # share of the period
    activity = rng.lognormal(-0.5, 1.0, n)  # mean 1
    # .82 is the mean of `there`
    counts = 1 + rng.poisson(np.maximum(sessions - 1, 0) / 0.82 * activity * there)
    sensitivity = price * 0.3 * rng.gamma(2.0, 1.0, n)
    return People(start, end, sensitivity.astype(np.float32), counts, joined, country, age)


def _tastes(
    rng: np.random.Generator, leaning: np.ndarray, segments: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """(U, A): a mixture of two segments, the first one more, and something of one's own."""
    # a draw without replacement by exp(leaning)
    order = np.argsort(-(leaning + rng.gumbel(size=leaning.shape)), axis=1)
    out: np.ndarray = 0.3 * segments[order[:, 1]] + 0.75 * segments[order[:, 0]]
    out += np.float32(0.6) * rng.standard_normal(out.shape, dtype=np.float32)
    out *= scale
    return out


def known_rows(ids: Sequence[str], vocabulary: Vocabulary, what: str) -> np.ndarray:
    rows = vocabulary.rows(ids)
    if (rows < 0).any():
        unknown = list(ids)[int((rows < 0).argmax())]
        raise DataError(
            f'this world has no {what} "{unknown}".{nearest(unknown, vocabulary.ids[:1000])}'
        )
    return rows

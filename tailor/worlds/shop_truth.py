"""Hold the truth behind the shop: items, users, and the utility of every item to every user."""

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
# standard deviation of tastes in each group of attributes
WEIGHTS = {"category": 1.5, "kind": 1.1, "brand": 0.9, "colour": 1.0, "material": 0.8, "style": 1.0}
KINDS_N = len(words.KINDS)
# (kinds,)
CATEGORY_OF = np.array([list(words.CATEGORIES).index(kind.category) for kind in words.KINDS])
CYCLE_OF = np.array([kind.cycle_days for kind in words.KINDS])  # (kinds,)
PRICE_OF = np.array([kind.price for kind in words.KINDS])  # (kinds,)
SEGMENTS = 12
COUNTRIES = ("NO", "DE", "FR", "GB", "ES", "PL")
COUNTRY_SHARES = (0.1, 0.3, 0.2, 0.2, 0.1, 0.1)
AGE_BANDS = ("18-24", "25-34", "35-49", "50-64", "65+")
AGE_SHARES = (0.15, 0.25, 0.3, 0.2, 0.1)
MEAN_PRESENCE = 0.82  # mean share of the period after a user has joined


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items of the world; row i is the i-th item made, which no outside id reveals."""

    kind: np.ndarray
    """(N,) row in words.KINDS."""
    traits: np.ndarray
    """(N, 4) columns of brand, colour, material and style among the attributes."""
    price: np.ndarray
    """(N,)."""
    price_level: np.ndarray
    """(N,) log price within its kind, about unit variance."""
    quality: np.ndarray
    """(N,) utility to every user."""
    fame: np.ndarray
    """(N,) visibility; no part of its utility."""
    created_ms: np.ndarray
    """(N,)."""
    kind_appeal: np.ndarray
    """(kinds,) utility of each kind to every user."""

    @cached_property
    def columns(self) -> np.ndarray:
        """(N, 6) the attribute columns that are 1 for each item."""
        categories = FIRST["category"] + CATEGORY_OF[self.kind]
        kinds = FIRST["kind"] + self.kind
        return np.column_stack([categories, kinds, self.traits])


@dataclass(frozen=True, eq=False)
class Users:
    """Users of the world. Tastes turn from `start` towards `end`."""

    start: np.ndarray
    """(U, A) float32."""
    end: np.ndarray
    """(U, A) float32."""
    price_sensitivity: np.ndarray
    """(U,) float32."""
    sessions: np.ndarray
    """(U,) int64: sessions that are no repeat purchases, heavy-tailed."""
    joined_day: np.ndarray
    """(U,) int64, below 0 for users who joined before the log begins."""
    country: np.ndarray
    """(U,) row in COUNTRIES."""
    age_band: np.ndarray
    """(U,) row in AGE_BANDS."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Tastes over time and utilities, from which the shop's data were made.

    `utilities` is the ranking criterion of a perfectly informed adviser. It leaves out what only
    moves attention: fame and the session so far.
    """

    user_ids: np.ndarray
    """(U,) outside ids."""
    item_ids: np.ndarray
    """(N,) outside ids."""
    users: Users
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
        matrix = np.zeros((len(self.item_ids), len(NAMES)), dtype=np.float32)
        np.put_along_axis(matrix, self.catalogue.columns, 1, axis=1)
        return matrix

    def tastes(
        self, user_ids: Sequence[str], time_ms: int | np.ndarray | None = None
    ) -> np.ndarray:
        """Return (U, A) float32: what each attribute adds to an item's utility.

        At a time (one, or one per user) or at the end.
        """
        rows = known_rows(user_ids, self._user_rows, "user")
        return self.tastes_of(rows, self._times(time_ms, len(rows)))

    def utilities(
        self,
        user_ids: Sequence[str],
        item_ids: Sequence[str] | None = None,
        time_ms: int | np.ndarray | None = None,
    ) -> np.ndarray:
        """Return (users, items) float32 utilities by taste, price, quality and season.

        At a time (one, or one per user) or at the end; of all items in the order of `item_ids`
        where none are named. Raises DataError for an unknown id.
        """
        users = known_rows(user_ids, self._user_rows, "user")
        items = np.arange(len(self.item_ids))
        if item_ids is not None:
            items = known_rows(item_ids, self._item_rows, "item")
        times = self._times(time_ms, len(users))
        catalogue = self.catalogue
        utilities: np.ndarray = self.tastes_of(users, times) @ self.attributes[items].T  # U, N
        utilities -= np.outer(self.users.price_sensitivity[users], catalogue.price_level[items])
        utilities += self.kinds_now(times)[:, catalogue.kind[items]] + catalogue.quality[items]
        return utilities.astype(np.float32, copy=False)

    def best(self, user_id: str, k: int = 10, time_ms: int | None = None) -> list[str]:
        """Return the k items of highest utility among those on sale at a time, or at the end."""
        time_ms = self.end_ms if time_ms is None else time_ms
        utilities = self.utilities([user_id], time_ms=time_ms)[0]
        on_sale = self.catalogue.created_ms <= time_ms
        order = np.argsort(-np.where(on_sale, utilities, -np.inf), kind="stable")[:k]
        best: list[str] = self.item_ids[order[on_sale[order]]].tolist()
        return best

    def tastes_of(self, users: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
        """Return (n, A) tastes of user rows at times.

        A rotation by an angle keeps the strength of tastes, whatever the drift.
        """
        start: np.ndarray = self.users.start[users]
        if not self.drift:
            return start
        elapsed = np.clip((times_ms - START_MS) / (self.days * DAY_MS), 0, 1)
        angles = (self.drift * np.pi / 2) * elapsed.astype(np.float32)[:, None]
        tastes: np.ndarray = np.cos(angles) * start + np.sin(angles) * self.users.end[users]
        return tastes

    def kinds_now(self, times_ms: np.ndarray) -> np.ndarray:
        """Return (n, kinds) float32: what season and general appeal add to every kind."""
        seasons = np.array(list(words.CATEGORIES.values()), dtype=np.float32)
        peaks, strengths = seasons[CATEGORY_OF].T
        days = ((times_ms - START_MS) / DAY_MS).astype(np.float32)[:, None]
        wave: np.ndarray = np.cos((days - peaks) * np.float32(2 * np.pi / 365))
        wave = self.season * strengths * wave
        wave += self.catalogue.kind_appeal
        return wave

    def _times(self, time_ms: int | np.ndarray | None, n: int) -> np.ndarray:
        """Return (n,) times; the end of the period for None."""
        return np.broadcast_to(self.end_ms if time_ms is None else time_ms, (n,))

    @cached_property
    def _user_rows(self) -> Vocabulary:
        return Vocabulary(self.user_ids)

    @cached_property
    def _item_rows(self) -> Vocabulary:
        return Vocabulary(self.item_ids)


def make_catalogue(n: int, days: int, seed: int, launches: float) -> Catalogue:
    """Draw n items, of every kind where there are enough."""
    rng = random_of(seed, "catalogue")
    every_kind = rng.permutation(KINDS_N)
    other_kinds = rng.integers(0, KINDS_N, max(0, n - KINDS_N))
    kinds = np.concatenate([every_kind, other_kinds])[:n]
    brands = rng.integers(0, len(words.BRANDS), n)
    traits = _draw_traits(kinds, brands, rng)
    # a brand has its price level
    brand_levels = 0.6 * rng.standard_normal(len(words.BRANDS))
    levels = brand_levels[brands] + 0.8 * rng.standard_normal(n)
    prices = np.maximum(1, np.round(PRICE_OF[kinds] * np.exp(0.3 * levels))) - 0.05
    fame = np.exp(rng.standard_normal(n))
    quality = 0.4 * rng.standard_normal(n)
    # the first item of a kind is on sale from the start
    is_launch = (np.arange(n) >= KINDS_N) & (rng.random(n) < launches)
    launch_days = rng.integers(1, max(2, int(days * 0.9)), n)
    earlier_days = -rng.integers(1, 700, n)
    created_days = np.where(is_launch, launch_days, earlier_days)
    return Catalogue(
        kind=kinds,
        traits=traits,
        price=prices,
        price_level=levels.astype(np.float32),
        quality=quality.astype(np.float32),
        fame=fame,
        created_ms=START_MS + created_days * DAY_MS,
        kind_appeal=0.4 * rng.standard_normal(KINDS_N).astype(np.float32),
    )


def _draw_traits(kinds: np.ndarray, brands: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (N, 4) attribute columns of brand, colour, material and style."""
    n = len(kinds)
    groups = [list(words.MATERIALS).index(kind.material) for kind in words.KINDS]
    first_materials = FIRST["material"] + 4 * np.array(groups)  # (kinds,)
    styles = np.where(CYCLE_OF[kinds] > 0, words.STYLES_OF_CONSUMABLES, len(words.STYLES))
    colour_columns = FIRST["colour"] + rng.integers(0, len(words.COLOURS), n)
    material_columns = first_materials[kinds] + rng.integers(0, 4, n)
    style_columns = FIRST["style"] + rng.integers(0, styles)
    return np.column_stack(
        [FIRST["brand"] + brands, colour_columns, material_columns, style_columns]
    )


def make_users(n: int, days: int, seed: int, taste: float, price: float, sessions: float) -> Users:
    """Draw n users with tastes, price sensitivity, activity, country and age."""
    rng = random_of(seed, "people")
    segments = rng.standard_normal((SEGMENTS, len(NAMES)), dtype=np.float32)
    countries = rng.choice(len(COUNTRIES), n, p=COUNTRY_SHARES)
    ages = rng.choice(len(AGE_BANDS), n, p=AGE_SHARES)
    country_leaning = 0.8 * rng.standard_normal((len(COUNTRIES), SEGMENTS))
    age_leaning = 0.8 * rng.standard_normal((len(AGE_BANDS), SEGMENTS))
    leaning = country_leaning[countries] + age_leaning[ages]  # U, segments
    scale = taste * np.array([WEIGHTS[group] for group in GROUP_OF], dtype=np.float32)
    has_joined_before = rng.random(n) < 0.6
    days_before = -rng.integers(1, 1_000, n)
    days_after = rng.integers(0, max(1, int(days * 0.9)), n)
    joined_days = np.where(has_joined_before, days_before, days_after)
    presence = 1 - np.maximum(joined_days, 0) / days  # share of the period
    activity = rng.lognormal(-0.5, 1.0, n)  # mean 1
    mean_sessions = np.maximum(sessions - 1, 0) / MEAN_PRESENCE * activity * presence
    session_counts = 1 + rng.poisson(mean_sessions)
    price_sensitivity = price * 0.3 * rng.gamma(2.0, 1.0, n)
    return Users(
        start=_draw_tastes(random_of(seed, "start"), leaning, segments, scale),
        end=_draw_tastes(random_of(seed, "end"), leaning, segments, scale),
        price_sensitivity=price_sensitivity.astype(np.float32),
        sessions=session_counts,
        joined_day=joined_days,
        country=countries,
        age_band=ages,
    )


def _draw_tastes(
    rng: np.random.Generator, leaning: np.ndarray, segments: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Return (U, A): a mixture of two segments and an individual part.

    The first segment weighs more; both are drawn by exp(leaning (U, segments)).
    """
    # a draw without replacement by the Gumbel trick
    order = np.argsort(-(leaning + rng.gumbel(size=leaning.shape)), axis=1)
    tastes: np.ndarray = 0.3 * segments[order[:, 1]] + 0.75 * segments[order[:, 0]]
    tastes += np.float32(0.6) * rng.standard_normal(tastes.shape, dtype=np.float32)
    tastes *= scale
    return tastes


def known_rows(ids: Sequence[str], vocabulary: Vocabulary, noun: str) -> np.ndarray:
    """Return the rows of ids; DataError for an unknown one, with the nearest known id."""
    rows = vocabulary.rows(ids)
    if (rows < 0).any():
        unknown = list(ids)[int((rows < 0).argmax())]
        raise DataError(
            f'this world has no {noun} "{unknown}".{nearest(unknown, vocabulary.ids[:1000])}'
        )
    return rows

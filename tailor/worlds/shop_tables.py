"""Write the shop as tables: events, items, users, reviews and searches."""

import numpy as np
import polars as pl

from tailor.worlds import words
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import (
    AGE_BANDS,
    BUY,
    COUNTRIES,
    DAY_MS,
    FIRST,
    GROUP_OF,
    START_MS,
    VALUES,
    Truth,
)
from tailor.worlds.shop_visits import Visits, worth_of

ACTIONS = ("view", "cart", "buy")
BANDS = ("budget", "middle", "premium")
RATING_BOUNDS = (0.5, 1.7, 2.9, 4.3)  # utilities between which ratings rise
TEXT_SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "kind": pl.String,
    "text": pl.String,
    "time_ms": pl.Int64,
    "rating": pl.Int32,
}


def events_table(truth: Truth, visits: Visits, seed: int) -> pl.DataFrame:
    """Return one row per event, with the price paid as value of a buy."""
    n = len(visits.user)
    session_ids = opaque_ids("s-", int(visits.session.max()) + 1, seed)
    discounts = random_of(seed, "discounts").choice([0, 0, 0, 0.1, 0.2], n)
    prices = np.round(truth.catalogue.price[visits.item] * (1 - discounts), 2)
    is_buy = pl.Series(visits.action == BUY)
    values = pl.select(pl.when(is_buy).then(pl.Series(prices)))[:, 0]
    return pl.DataFrame(
        {
            "event_id": opaque_ids("e-", n, seed),
            "user_id": pl.Series(truth.user_ids, dtype=pl.String).gather(visits.user),
            "item_id": pl.Series(truth.item_ids, dtype=pl.String).gather(visits.item),
            "time_ms": visits.time_ms,
            "action": pl.Series(ACTIONS).gather(visits.action),
            "value": values,
            "session_id": session_ids.gather(visits.session),
        }
    )


def items_table(truth: Truth, seed: int) -> pl.DataFrame:
    """Return one row per item with title, text, categories, price and traits."""
    catalogue = truth.catalogue
    draws = random_of(seed, "titles").random((len(catalogue.kind), 4)).tolist()
    kinds = [words.KINDS[kind] for kind in catalogue.kind]
    traits = _attribute_values(catalogue.traits)
    bands = [BANDS[band] for band in np.digitize(catalogue.price_level, [-0.5, 0.5])]
    titles = map(words.title, kinds, traits, draws)
    texts = map(words.description, kinds, traits, bands, draws)
    trait_columns = zip(*traits, strict=True)
    columns = {
        "item_id": truth.item_ids,
        "title": list(titles),
        "text": list(texts),
        "categories": [[kind.category, kind.name] for kind in kinds],
        "price": catalogue.price,
        "created_ms": catalogue.created_ms,
        **dict(zip(words.GROUPS, map(list, trait_columns), strict=True)),
        "price_band": bands,
    }
    return _sort_by_id(pl.DataFrame(columns), "item_id")


def users_table(truth: Truth) -> pl.DataFrame:
    """Return one row per user with country, age band and time of joining."""
    users = truth.users
    columns = {
        "user_id": truth.user_ids,
        "country": [COUNTRIES[row] for row in users.country],
        "age_band": [AGE_BANDS[row] for row in users.age_band],
        "joined_ms": START_MS + users.joined_day * DAY_MS,
    }
    return _sort_by_id(pl.DataFrame(columns), "user_id")


def texts_table(
    truth: Truth, visits: Visits, seed: int, reviews: float, searches: float
) -> pl.DataFrame:
    """Return reviews and searches in order of time."""
    parts = [
        _reviews(truth, visits, random_of(seed, "reviews"), reviews),
        _searches(truth, visits, random_of(seed, "searches"), searches),
    ]
    table = pl.concat(parts, how="diagonal").sort("time_ms", maintain_order=True)
    return table.with_columns(text_id=opaque_ids("t-", len(table), seed))


def _reviews(truth: Truth, visits: Visits, rng: np.random.Generator, share: float) -> pl.DataFrame:
    """Write at most one review per buy.

    It names the two traits of the item that the user feels most strongly about, and a missing one.
    """
    n = len(visits.user)
    times = visits.time_ms + rng.integers(DAY_MS, 10 * DAY_MS, n)
    is_reviewed = (visits.action == BUY) & (rng.random(n) < share) & (times < truth.end_ms)
    users = visits.user[is_reviewed]
    items = visits.item[is_reviewed]
    times = times[is_reviewed]
    tastes = truth.tastes_of(users, times)
    traits = truth.catalogue.traits[items]
    trait_tastes = np.take_along_axis(tastes, traits, axis=1)  # n, 4
    worth = worth_of(truth, tastes, users, items[:, None])[:, 0]
    ratings = np.digitize(worth + rng.standard_normal(len(items)), RATING_BOUNDS) + 1
    wishes = _wishes(tastes, traits, rng)
    draws = rng.random((len(items), 9)).tolist()
    opinions = _opinions(trait_tastes, traits)
    price_opinions = _price_opinions(truth, users, items)
    kinds = [words.KINDS[kind] for kind in truth.catalogue.kind[items]]
    texts = list(
        map(words.review, kinds, opinions, wishes, ratings.tolist(), price_opinions, draws)
    )
    user_ids = truth.user_ids[users]
    return _texts("review", user_ids, truth.item_ids[items], texts, times, ratings)


def _opinions(trait_tastes: np.ndarray, traits: np.ndarray) -> list[list[tuple[str, str, bool]]]:
    """Return (group, value, liked) of the two traits with the strongest tastes (n, 4)."""
    strongest = np.argsort(-np.abs(trait_tastes), axis=1)[:, :2].tolist()
    opinions = []
    for tastes, values, positions in zip(
        trait_tastes.tolist(), _attribute_values(traits), strongest, strict=True
    ):
        felt = [position for position in positions if abs(tastes[position]) > 0.4]
        opinions.append([(words.GROUPS[i], values[i], tastes[i] > 0) for i in felt])
    return opinions


def _price_opinions(truth: Truth, users: np.ndarray, items: np.ndarray) -> list[int]:
    """Return 1 for a user who finds the price too high, -1 for low, 0 for none."""
    worth = -truth.users.price_sensitivity[users] * truth.catalogue.price_level[items]
    opinions: list[int] = np.select([worth < -0.8, worth > 0.8], [1, -1], 0).tolist()
    return opinions


def _wishes(
    tastes: np.ndarray, traits: np.ndarray, rng: np.random.Generator
) -> list[tuple[str, str] | None]:
    """Return a favourite colour, style or brand that the item lacks, for about half the reviews."""
    wishes: list[tuple[str, str] | None] = [None] * len(tastes)
    drawn_groups = rng.integers(0, 7, len(tastes))
    for number, group in enumerate(("brand", "colour", "style")):
        column = words.GROUPS.index(group)
        rows = np.flatnonzero(drawn_groups == number)
        favourites = FIRST[group] + tastes[rows][:, group == GROUP_OF].argmax(axis=1)
        is_missed = (tastes[rows, favourites] > 0.5) & (traits[rows, column] != favourites)
        values = VALUES[favourites[is_missed]].tolist()
        for row, value in zip(rows[is_missed].tolist(), values, strict=True):
            wishes[row] = (group, value)
    return wishes


def _searches(truth: Truth, visits: Visits, rng: np.random.Generator, share: float) -> pl.DataFrame:
    """Write searches a few seconds before the first view of some sessions.

    They name the item's kind and the two of its traits that the user likes best.
    """
    _, first = np.unique(visits.session, return_index=True)  # events are in order of time
    first = first[rng.random(len(first)) < share]
    users = visits.user[first]
    items = visits.item[first]
    times = visits.time_ms[first] - rng.integers(2_000, 4_900, len(first))
    traits = truth.catalogue.traits[items]
    trait_tastes = np.take_along_axis(truth.tastes_of(users, times), traits, axis=1)
    best = np.argsort(-trait_tastes, axis=1)[:, :2]
    values = _attribute_values(np.take_along_axis(traits, best, axis=1))
    draws = rng.random((len(items), 1)).tolist()
    kinds = [words.KINDS[kind] for kind in truth.catalogue.kind[items]]
    texts = list(map(words.search, kinds, values, draws))
    no_values = np.full(len(texts), None)
    return _texts("query", truth.user_ids[users], no_values, texts, times, no_values)


def _texts(
    kind: str,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
    texts: list[str],
    times_ms: np.ndarray,
    ratings: np.ndarray,
) -> pl.DataFrame:
    """Return a table of texts of one kind."""
    columns = [user_ids, item_ids, [kind] * len(texts), texts, times_ms, ratings]
    return pl.DataFrame(columns, TEXT_SCHEMA)


def _attribute_values(columns: np.ndarray) -> list[list[str]]:
    """Return the values of attribute columns (n, m) as words."""
    values: list[list[str]] = VALUES[columns].tolist()
    return values


def _sort_by_id(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """Sort by id, which carries no information, unlike the order of making."""
    return table.with_columns(pl.col(column).cast(pl.String)).sort(column)

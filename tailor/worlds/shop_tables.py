"""The planted shop as tables: events, items, users, and what people write."""

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


def events_table(truth: Truth, visits: Visits, seed: int) -> pl.DataFrame:
    sessions = opaque_ids("s-", int(visits.session.max()) + 1, seed)
    discount = random_of(seed, "discounts").choice([0, 0, 0, 0.1, 0.2], len(visits.user))
    paid = np.round(truth.catalogue.price[visits.item] * (1 - discount), 2)
    return pl.DataFrame(
        {
            "event_id": opaque_ids("e-", len(visits.user), seed),
            "user_id": pl.Series(truth.user_ids, dtype=pl.String).gather(visits.user),
            "item_id": pl.Series(truth.item_ids, dtype=pl.String).gather(visits.item),
            "time_ms": visits.time_ms,
            "action": pl.Series(ACTIONS).gather(visits.action),
            "value": pl.select(pl.when(pl.Series(visits.action == BUY)).then(pl.Series(paid)))[
                :, 0
            ],
            "session_id": sessions.gather(visits.session),
        }
    )


def items_table(truth: Truth, seed: int) -> pl.DataFrame:
    made = truth.catalogue
    draws = random_of(seed, "titles").random((len(made.kind), 4)).tolist()
    kinds = [words.KINDS[kind] for kind in made.kind]
    values = _values(made.traits)
    bands = [BANDS[band] for band in np.digitize(made.price_level, [-0.5, 0.5])]
    columns = {
        "item_id": truth.item_ids,
        "title": [words.title(*row) for row in zip(kinds, values, draws)],
        "text": [words.description(*row) for row in zip(kinds, values, bands, draws)],
        "categories": [[kind.category, kind.name] for kind in kinds],
        "price": made.price,
        "created_ms": made.created_ms,
        **dict(zip(words.GROUPS, map(list, zip(*values)))),
        "price_band": bands,
    }
    return _by_id(pl.DataFrame(columns), "item_id")


def users_table(truth: Truth) -> pl.DataFrame:
    people = truth.people
    columns = {
        "user_id": truth.user_ids,
        "country": [COUNTRIES[row] for row in people.country],
        "age_band": [AGE_BANDS[row] for row in people.age_band],
        "joined_ms": START_MS + people.joined_day * DAY_MS,
    }
    return _by_id(pl.DataFrame(columns), "user_id")


def texts_table(
    truth: Truth, visits: Visits, seed: int, reviews: float, searches: float
) -> pl.DataFrame:
    frames = [
        _reviews(truth, visits, random_of(seed, "reviews"), reviews),
        _searches(truth, visits, random_of(seed, "searches"), searches),
    ]
    frame = pl.concat(frames, how="diagonal").sort("time_ms", maintain_order=True)
    return frame.with_columns(text_id=opaque_ids("t-", len(frame), seed))


def _reviews(truth: Truth, visits: Visits, rng: np.random.Generator, share: float) -> pl.DataFrame:
    """One review at most for a buy. It names the two traits of the item felt about most strongly,
    and what is missed in it.
    """
    time = visits.time_ms + rng.integers(DAY_MS, 10 * DAY_MS, len(visits.user))
    which = np.flatnonzero(
        (visits.action == BUY) & (rng.random(len(visits.user)) < share) & (time < truth.end_ms)
    )
    user, item, time = visits.user[which], visits.item[which], time[which]
    tastes = truth.tastes_of(user, time)
    traits = truth.catalogue.traits[item]
    felt = np.take_along_axis(tastes, traits, axis=1)  # (n, 4)
    strongest = np.argsort(-np.abs(felt), axis=1)[:, :2]
    worth = worth_of(truth, tastes, user, item[:, None])[:, 0]
    rating = np.digitize(worth + rng.standard_normal(len(item)), [0.5, 1.7, 2.9, 4.3]) + 1
    price = -truth.people.price_sensitivity[user] * truth.catalogue.price_level[item]
    tone = np.where(price < -0.8, 1, np.where(price > 0.8, -1, 0))
    texts = [
        words.review(
            words.KINDS[kind],
            [(words.GROUPS[t], values[t], feel[t] > 0) for t in two if abs(feel[t]) > 0.4],
            wish,
            *rest,
        )
        for kind, values, feel, two, wish, *rest in zip(
            truth.catalogue.kind[item].tolist(),
            _values(traits),
            felt.tolist(),
            strongest.tolist(),
            _wishes(tastes, traits, rng),
            rating.tolist(),
            tone.tolist(),
            rng.random((len(item), 9)).tolist(),
        )
    ]
    return _texts("review", truth.user_ids[user], truth.item_ids[item], texts, time, rating)


def _wishes(
    tastes: np.ndarray, traits: np.ndarray, rng: np.random.Generator
) -> list[tuple[str, str] | None]:
    """For about half of the reviews a favourite colour, style or brand that the item lacks, or
    none.
    """
    out: list[tuple[str, str] | None] = [None] * len(tastes)
    group = rng.integers(0, 7, len(tastes))
    for number, name in ((0, "brand"), (1, "colour"), (2, "style")):
        column = words.GROUPS.index(name)
        rows = np.flatnonzero(group == number)
        best = FIRST[name] + tastes[rows][:, name == GROUP_OF].argmax(axis=1)
        rows_of_wish = (tastes[rows, best] > 0.5) & (traits[rows, column] != best)
        for row, value in zip(rows[rows_of_wish].tolist(), VALUES[best[rows_of_wish]].tolist()):
            out[row] = (name, value)
    return out


def _searches(truth: Truth, visits: Visits, rng: np.random.Generator, share: float) -> pl.DataFrame:
    """A few seconds before a session's first view: its kind and the two traits of it that the user
    likes best.
    """
    _, first = np.unique(visits.session, return_index=True)  # events stand in order of time
    first = first[rng.random(len(first)) < share]
    user, item, time = (
        visits.user[first],
        visits.item[first],
        visits.time_ms[first] - rng.integers(2_000, 4_900, len(first)),
    )
    traits = truth.catalogue.traits[item]
    liked = np.argsort(-np.take_along_axis(truth.tastes_of(user, time), traits, axis=1), axis=1)[
        :, :2
    ]
    wanted = _values(np.take_along_axis(traits, liked, axis=1))
    draws = rng.random((len(item), 1)).tolist()
    texts = [
        words.search(words.KINDS[kind], *row)
        for kind, *row in zip(truth.catalogue.kind[item].tolist(), wanted, draws)
    ]
    nothing = np.full(len(texts), None)
    return _texts("query", truth.user_ids[user], nothing, texts, time, nothing)


def _texts(
    kind: str,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
    texts: list[str],
    time: np.ndarray,
    rating: np.ndarray,
) -> pl.DataFrame:
    return pl.DataFrame(
        [user_ids, item_ids, [kind] * len(texts), texts, time, rating],
        {
            "user_id": pl.String,
            "item_id": pl.String,
            "kind": pl.String,
            "text": pl.String,
            "time_ms": pl.Int64,
            "rating": pl.Int32,
        },
    )


def _values(columns: np.ndarray) -> list[list[str]]:
    """The words of attribute columns (n, m)."""
    out: list[list[str]] = VALUES[columns].tolist()
    return out


def _by_id(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Rows in order of the id, which tells nothing, instead of the order in which the world made
    them.
    """
    return frame.with_columns(pl.col(column).cast(pl.String)).sort(column)

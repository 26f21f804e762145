"""A planted shop of searches whose orders hang on two look-ups in the history.

Shapes: U people, N items, L events of a history.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of
from tailor.worlds.words import SYLLABLES

MINUTE_MS = 60_000
CLICKS = 2  # of a request


@dataclass(frozen=True, eq=False)
class Hops:
    """A log to learn from, and requests of other people with what they bought."""

    data: Dataset
    """Views without a request; requests with clicks, carts and orders; titles name values."""
    queries: list[Query]
    """Requests of people who are not in the log."""
    orders: list[str]
    """The item that each of the requests led to."""
    carts: list[frozenset[str]]
    """The items that are right after one look-up; the order is one of them."""
    is_rare: np.ndarray
    """(requests,) bool: the request names its genre by a rare word."""


def hops(
    people: int = 1_000,
    asked: int = 300,
    values: tuple[int, int, int] = (6, 6, 6),
    length: int = 12,
    seed: int = 0,
    *,
    rare: float = 0.0,
    rare_words: int = 20,
    deeper: float = 1.0,
) -> Hops:
    """Make a log of `people` people who viewed items and searched once, and `asked` others.

    There is an item of every genre, maker and colour; `values` are their numbers. A person views
    `length` items at random, then asks for a genre. Clicked are two items of the genre. Put into
    the cart is one of the genre and of the maker of their last item of that genre. Ordered is the
    one of these whose colour is that of their last other item of the maker.

    - `rare`: share of requests that name the genre by one of `rare_words` words a genre, which no
      title has.
    - `deeper`: probability that a request goes on from a click to a cart, and from there to an
      order; where it does not, nothing is known of what would have been ordered.

    The same arguments give the same log. Raises DataError for sizes that cannot be.
    """
    numbers = sum(values) + rare_words * values[0]
    if min(people, asked, *values, rare_words) < 1 or length < 2 or numbers > len(SYLLABLES) ** 3:
        raise DataError(
            f"people {people}, asked {asked}, values {values}, rare_words {rare_words}, length"
            f" {length}: at least 1 each, a length of 2, and at most {len(SYLLABLES) ** 3} words"
        )
    rng = random_of(seed, "hops")
    total = people + asked
    kinds = np.array(list(product(*map(range, values))))  # N, 3
    histories, genres, orders = _chains(total, kinds, values[0], length, rng)
    words = _words(numbers, rng)
    texts, is_rare = _texts(genres, words, values, rare, rare_words, rng)
    titles = [
        f"{words[g]} {words[values[0] + m]} {words[sum(values[:2]) + c]}" for g, m, c in kinds
    ]
    item_ids = np.array(opaque_ids("i-", len(kinds), seed).to_list())
    times = START_MS + MINUTE_MS * np.arange(total * (length + 1)).reshape(total, -1)  # U, L + 1
    queries = [
        Query(
            history=History(
                tuple(item_ids[histories[person]].tolist()),
                times_ms=tuple(times[person, :-1].tolist()),
            ),
            text=texts[person],
            time_ms=int(times[person, -1]),
        )
        for person in range(people, total)
    ]
    log = slice(0, people)
    tables = _tables(histories[log], times[log], texts[log], orders[log], kinds, deeper, rng)
    users = np.array(opaque_ids("u-", people, seed).to_list())
    tables = {name: _named(table, users, item_ids) for name, table in tables.items()}
    tables["items"] = pl.DataFrame({"item_id": item_ids, "title": titles})
    right = orders[people:]
    same_pair = (kinds[right, None, :2] == kinds[None, :, :2]).all(axis=2)  # asked, N
    return Hops(
        Dataset(tables, f"hops-{seed}"),
        queries,
        item_ids[right].tolist(),
        [frozenset(item_ids[row].tolist()) for row in same_pair],
        is_rare[people:],
    )


def _words(numbers: int, rng: np.random.Generator) -> list[str]:
    """Return distinct words of three syllables."""
    syllables = list(product(SYLLABLES, repeat=3))
    drawn = rng.permutation(len(syllables))[:numbers]
    return ["".join(syllables[number]) for number in drawn.tolist()]


def _texts(
    genres: np.ndarray,
    words: list[str],
    values: tuple[int, int, int],
    rare: float,
    rare_words: int,
    rng: np.random.Generator,
) -> tuple[list[str], np.ndarray]:
    """Return the search text of each person, and (U,) bool: which are rare words."""
    is_rare = rng.random(len(genres)) < rare
    drawn = rng.integers(rare_words, size=len(genres))
    numbers = np.where(is_rare, sum(values) + genres * rare_words + drawn, genres)
    return [words[number] for number in numbers.tolist()], is_rare


def _chains(
    people: int, kinds: np.ndarray, genres: int, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return histories (U, L), genres asked (U,) and orders (U,); items are rows of `kinds`.

    Everybody asks for a genre that their history tells the order of.
    """
    row_of = {kind: row for row, kind in enumerate(map(tuple, kinds.tolist()))}
    histories: list[np.ndarray] = []
    genres_asked: list[int] = []
    orders: list[int] = []
    while len(orders) < people:
        history = rng.integers(len(kinds), size=length)
        genre = int(rng.integers(genres))
        kind = _order_of(kinds[history], genre)
        if kind is not None:
            histories.append(history)
            genres_asked.append(genre)
            orders.append(row_of[kind])
    return np.array(histories), np.array(genres_asked), np.array(orders)


def _order_of(history: np.ndarray, genre: int) -> tuple[int, int, int] | None:
    """Return genre, maker and colour of the order after a history (L, 3); None where none is."""
    of_genre = np.flatnonzero(history[:, 0] == genre)
    if not len(of_genre):
        return None
    last = history[of_genre[-1]]
    maker = int(last[1])
    others = np.flatnonzero((history[:, 1] == maker) & (history != last).any(axis=1))
    return (genre, maker, int(history[others[-1], 2])) if len(others) else None


def _tables(
    histories: np.ndarray,
    times: np.ndarray,
    texts: list[str],
    orders: np.ndarray,
    kinds: np.ndarray,
    deeper: float,
    rng: np.random.Generator,
) -> dict[str, pl.DataFrame]:
    """Return events and requests, with people and items by their rows."""
    people, length = histories.shape
    views = {
        "user": np.repeat(np.arange(people), length),
        "item": histories.ravel(),
        "time_ms": times[:, :-1].ravel(),
    }
    frames = [pl.DataFrame(views).with_columns(action=pl.lit("view"), request_id=pl.lit(None))]
    of_genre = kinds[orders, None, 0] == kinds[None, :, 0]  # U, N
    of_maker = of_genre & (kinds[orders, None, 1] == kinds[None, :, 1])
    depth = (rng.random((people, 2)) < deeper).cumprod(axis=1).sum(axis=1)  # deepest action
    choices = [("click", 0, _any_of(of_genre, rng)) for _ in range(CLICKS)]
    choices += [("cart", 1, _any_of(of_maker, rng)), ("order", 2, orders)]
    for step, (action, at_least, items) in enumerate(choices):
        users = np.flatnonzero(depth >= at_least)
        columns = {"user": users, "item": items[users], "time_ms": times[users, -1] + 1 + step}
        named = [f"r-{user}" for user in users.tolist()]
        frame = pl.DataFrame(columns).with_columns(
            action=pl.lit(action), request_id=pl.Series(named, dtype=pl.String)
        )
        frames.append(frame)
    names = [f"r-{user}" for user in range(people)]
    requests = {"request_id": names, "user": np.arange(people), "time_ms": times[:, -1]}
    events = pl.concat([frame.cast({"request_id": pl.String}) for frame in frames])
    return {
        "events": events.sort("time_ms", maintain_order=True),
        "requests": pl.DataFrame(requests).with_columns(text=pl.Series(texts, dtype=pl.String)),
    }


def _any_of(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (U,) a random item of each row of `mask` (U, N)."""
    return np.asarray((mask * rng.random(mask.shape)).argmax(axis=1))


def _named(table: pl.DataFrame, users: np.ndarray, items: np.ndarray) -> pl.DataFrame:
    """Return a table with ids in place of the rows of people and items."""
    columns = {"user_id": users[table["user"].to_numpy()]}
    if "item" in table.columns:
        columns["item_id"] = items[table["item"].to_numpy()]
    return pl.DataFrame(columns).hstack(table.drop("user", "item", strict=False))

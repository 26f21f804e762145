"""A planted stream of likes and dislikes in which items change their worth at known times.

Shapes: n rows, N items, P periods between jumps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

ROW_MS = 60_000  # from one event to the next
TASTE = 1.0  # standard deviation of the effect of a taste on a kind of item, in log-odds


@dataclass(frozen=True, eq=False)
class Stream:
    """A log, and the truth that no method may see."""

    data: Dataset
    """Events with the value 1 or 0, items with their kind, users with their taste."""
    effects: np.ndarray
    """(N, P) what an item adds to the log-odds in each period; rows as in the catalogue."""
    probabilities: np.ndarray
    """(n,) probability that the value of an event is 1."""
    jumps: np.ndarray
    """(P - 1,) number of the event at which each period but the first begins."""


def stream(
    people: int = 400,
    items: int = 100,
    rows: int = 40_000,
    jumps: Sequence[float] = (0.55, 0.7, 0.8, 0.9),
    share: float = 0.5,
    size: float = 1.5,
    seed: int = 0,
    *,
    kinds: int = 8,
    tastes: int = 4,
) -> Stream:
    """Make a stream of `rows` events of people and items drawn at random.

    The log-odds of a 1 are the effect of the person's taste on the item's kind, plus the effect of
    the item. At each of `jumps`, which are shares of the stream, a `share` of the items get a new
    effect, drawn with the standard deviation `size`. The same arguments give the same stream.
    Raises DataError for sizes that cannot be.
    """
    _check_sizes((people, items, rows, kinds, tastes), jumps, share)
    rng = random_of(seed, "stream")
    kind_of_item = rng.integers(kinds, size=items)
    taste_of_person = rng.integers(tastes, size=people)
    likings = rng.normal(0.0, TASTE, (tastes, kinds))
    effects = _effects(items, len(jumps), share, size, random_of(seed, "jumps"))
    starts = np.round(np.array(jumps) * rows).astype(np.int64)
    person = rng.integers(people, size=rows)
    item = rng.integers(items, size=rows)
    period = np.searchsorted(starts, np.arange(rows), side="right")
    liking = likings[taste_of_person[person], kind_of_item[item]]
    probabilities = 1 / (1 + np.exp(-liking - effects[item, period]))
    values = (rng.random(rows) < probabilities).astype(np.float64)
    user_ids = opaque_ids("u-", people, seed)
    item_ids = opaque_ids("i-", items, seed)
    tables = {
        "events": _events(user_ids[person], item_ids[item], values),
        "items": _named("item_id", item_ids, "kind", kind_of_item),
        "users": _named("user_id", user_ids, "taste", taste_of_person),
    }
    data = Dataset(tables, f"stream-{seed}")
    ordered = np.empty_like(effects)
    ordered[data.catalogue.rows(item_ids.to_list())] = effects
    return Stream(data, ordered, probabilities, starts)


def _check_sizes(sizes: Sequence[int], jumps: Sequence[float], share: float) -> None:
    """Raise DataError for sizes, jumps and shares that cannot be."""
    is_ordered = bool((np.diff([0.0, *jumps, 1.0]) > 0).all())
    if min(sizes) < 1 or not is_ordered or not 0 <= share <= 1:
        raise DataError(
            f"people, items, rows, kinds and tastes are {sizes}: at least 1 each; jumps"
            f" {tuple(jumps)}: ascending, between 0 and 1; share {share}: 0 to 1"
        )


def _events(user_ids: pl.Series, item_ids: pl.Series, values: np.ndarray) -> pl.DataFrame:
    """Return events, each a minute after the one before it."""
    times = START_MS + ROW_MS * np.arange(len(values))
    columns = {"user_id": user_ids, "item_id": item_ids, "time_ms": times, "value": values}
    return pl.DataFrame(columns)


def _named(key: str, ids: pl.Series, name: str, numbers: np.ndarray) -> pl.DataFrame:
    """Return a table of ids with one column, whose values are the name and a number."""
    values = [f"{name} {number}" for number in numbers.tolist()]
    return pl.DataFrame({key: ids, name: values})


def _effects(
    items: int, jumps: int, share: float, size: float, rng: np.random.Generator
) -> np.ndarray:
    """Return (N, P) effects; a share of the items, drawn anew, changes at each jump."""
    effects = np.empty((items, jumps + 1))
    effects[:, 0] = rng.normal(0.0, size, items)
    for jump in range(jumps):
        is_changed = rng.permutation(items) < round(share * items)
        fresh = rng.normal(0.0, size, items)
        effects[:, jump + 1] = np.where(is_changed, fresh, effects[:, jump])
    return effects

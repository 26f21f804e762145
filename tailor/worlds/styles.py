"""A planted log of style segments, whose users like the same values of items."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

GROUPS = ("brand", "colour", "style")
DAY_MS = 86_400_000


@dataclass(frozen=True, eq=False)
class Styles:
    """A log, and the segment of each user that it was made from."""

    data: Dataset
    segments: dict[str, int]


def styles(
    users: int = 1_200,
    items: int = 600,
    segments: int = 5,
    events: int = 10,
    seed: int = 0,
    *,
    values: int = 8,
    taste: float = 2.0,
) -> Styles:
    """Make a log of users who choose items by the values that their segment likes.

    Every item has one of `values` values in each of three groups. A segment likes two values of a
    group; an item with m liked values is exp(taste * m) times as likely to be chosen. Users choose
    between 2 and 2 * `events` - 2 items.
    """
    rng = random_of(seed, "styles")
    item_values = rng.integers(values, size=(items, len(GROUPS)))
    likes = np.zeros((segments, len(GROUPS), values), bool)
    for segment in range(segments):
        for group in range(len(GROUPS)):
            likes[segment, group, rng.choice(values, 2, replace=False)] = True
    fame = rng.permutation(1 / np.arange(1, items + 1) ** 0.5)
    user_ids = opaque_ids("u-", users, seed).to_list()
    item_ids = np.array(opaque_ids("i-", items, seed).to_list(), dtype=object)
    segment_of = rng.integers(segments, size=users)
    rows = []
    for user, segment in zip(user_ids, segment_of.tolist(), strict=True):
        matches = likes[segment, np.arange(len(GROUPS)), item_values].sum(axis=1)
        worth = fame * np.exp(taste * matches)
        n = int(rng.integers(2, 2 * events - 1))
        chosen = rng.choice(items, min(n, items), replace=False, p=worth / worth.sum())
        rows += [
            (user, item_ids[item], START_MS + number * DAY_MS)
            for number, item in enumerate(chosen.tolist())
        ]
    events_table = pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")
    traits = {
        name: [f"{name} {value}" for value in item_values[:, column].tolist()]
        for column, name in enumerate(GROUPS)
    }
    table = pl.DataFrame({"item_id": item_ids.tolist(), **traits})
    data = Dataset({"events": events_table, "items": table}, f"styles {seed}")
    return Styles(data, dict(zip(user_ids, segment_of.tolist(), strict=True)))

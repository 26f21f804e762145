"""Make a log of ratings that depend on pairs of field values, by a factorization machine."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

MINUTE_MS = 60_000
USER_FIELDS = ("region", "trade")
ITEM_FIELDS = ("maker", "material")


@dataclass(frozen=True, eq=False)
class Crossed:
    """A log (value 1 liked, 0 not) and its true probabilities, which no method may see."""

    data: Dataset
    probabilities: np.ndarray
    """(events,) probability that each event was a 1."""


def crossed(
    events: int = 50_000,
    users: int = 2_000,
    items: int = 500,
    values: int = 8,
    linear: float = 0.5,
    pairs: float = 1.0,
    seed: int = 0,
) -> Crossed:
    """Make events of users with a region and a trade and items with a maker and a material.

    Each field has `values` values. The log-odds of liking are the sum of one number for each of the
    four values (standard deviation `linear` in all) and one for each pair of a user's value with an
    item's, an inner product of vectors of 4 numbers (`pairs` in all). With `pairs` 0 no crossing of
    fields can help. The same arguments give the same log. Raises DataError for sizes below 1.
    """
    if min(events, users, items, values) < 1 or linear < 0 or pairs < 0:
        raise DataError(
            f"events {events}, users {users}, items {items}, values {values}: at least 1 each;"
            " linear and pairs at least 0"
        )
    rng = random_of(seed, "crossed")
    user_values = rng.integers(values, size=(users, 2))
    item_values = rng.integers(values, size=(items, 2))
    effects = rng.normal(0, linear / 2, (4, values))
    vectors = rng.normal(0, 1, (4, values, 4))
    event_users = rng.integers(users, size=events)
    event_items = rng.integers(items, size=events)
    codes = np.hstack([user_values[event_users], item_values[event_items]]).T  # 4, events
    linear_part = np.sum([effects[field][code] for field, code in enumerate(codes)], axis=0)
    region, trade, maker, material = (vectors[field][code] for field, code in enumerate(codes))
    # four inner products of vectors of 4: variance 16
    products = ((region + trade) * (maker + material)).sum(axis=1)
    probabilities = 1 / (1 + np.exp(-linear_part - pairs / 4 * products))
    user_ids = opaque_ids("u-", users, seed)
    item_ids = opaque_ids("i-", items, seed)
    log = pl.DataFrame(
        {
            "user_id": user_ids[event_users],
            "item_id": item_ids[event_items],
            "time_ms": START_MS + MINUTE_MS * np.arange(events),
            "value": (rng.random(events) < probabilities).astype(float),
        }
    )
    tables = {
        "events": log,
        "users": fields_table(
            "user_id", user_ids, dict(zip(USER_FIELDS, user_values.T, strict=True))
        ),
        "items": fields_table(
            "item_id", item_ids, dict(zip(ITEM_FIELDS, item_values.T, strict=True))
        ),
    }
    return Crossed(Dataset(tables, f"crossed-{seed}", {"liked": "value = 1"}), probabilities)


def fields_table(id_name: str, ids: pl.Series, codes: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """Return a table of ids and named field values, from the codes (n,) of each field."""
    columns = {name: [f"{name} {code}" for code in codes[name].tolist()] for name in codes}
    return pl.DataFrame({id_name: ids, **columns})

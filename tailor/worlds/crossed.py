"""A planted log of ratings in which who likes what depends on pairs of values: a factorization
machine made it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

MINUTE_MS = 60_000
USER_FIELDS, ITEM_FIELDS = ("region", "trade"), ("maker", "material")


@dataclass(frozen=True, eq=False)
class Crossed:
    """What the log has (`data`: value 1 liked, 0 not), and the probability that each event had,
    which no method may see.
    """

    data: Dataset
    probabilities: np.ndarray
    """(events,)."""


def crossed(
    events: int = 50_000,
    users: int = 2_000,
    items: int = 500,
    values: int = 8,
    linear: float = 0.5,
    pairs: float = 1.0,
    seed: int = 0,
) -> Crossed:
    """People of a region and a trade meet items of a maker and a material, `values` of each; the
    same arguments, the same log.

    The log-odds of liking are the sum of a number of each of the four values (standard deviation
    `linear` in all) and of one of each pair of a person's value with an item's, an inner product of
    vectors of 4 numbers (`pairs` in all). With `pairs` 0 no crossing of fields can help. Raises
    DataError for sizes below 1.
    """
    if min(events, users, items, values) < 1 or linear < 0 or pairs < 0:
        raise DataError(
            f"events {events}, users {users}, items {items}, values {values}: at least 1 each;"
            " linear and pairs at least 0"
        )
    rng = random_of(seed, "crossed")
    of_user, of_item = rng.integers(values, size=(users, 2)), rng.integers(values, size=(items, 2))
    numbers = rng.normal(0, linear / 2, (4, values))
    vectors = rng.normal(0, 1, (4, values, 4))
    who, what = rng.integers(users, size=events), rng.integers(items, size=events)
    met = [of_user[who, 0], of_user[who, 1], of_item[what, 0], of_item[what, 1]]
    alone = np.sum([numbers[at][value] for at, value in enumerate(met)], axis=0)
    a, b, c, d = (vectors[at][value] for at, value in enumerate(met))  # events, 4
    together = ((a + b) * (c + d)).sum(axis=1)  # four inner products of vectors of 4: variance 16
    p = 1 / (1 + np.exp(-alone - pairs / 4 * together))
    user_ids, item_ids = opaque_ids("u-", users, seed), opaque_ids("i-", items, seed)
    log = pl.DataFrame(
        {
            "user_id": user_ids[who],
            "item_id": item_ids[what],
            "time_ms": START_MS + MINUTE_MS * np.arange(events),
            "value": (rng.random(events) < p).astype(float),
        }
    )
    people = pl.DataFrame(
        {
            "user_id": user_ids,
            **{name: _named(name, of_user[:, at]) for at, name in enumerate(USER_FIELDS)},
        }
    )
    things = pl.DataFrame(
        {
            "item_id": item_ids,
            **{name: _named(name, of_item[:, at]) for at, name in enumerate(ITEM_FIELDS)},
        }
    )
    return Crossed(
        Dataset(
            {"events": log, "users": people, "items": things},
            f"crossed-{seed}",
            {"liked": "value = 1"},
        ),
        p,
    )


def _named(name: str, codes: np.ndarray) -> list[str]:
    return [f"{name} {code}" for code in codes.tolist()]

"""A shop of four kinds of things, which their titles name."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset

KINDS = ("tea kettle", "garden hose", "violin string", "snow boot")


def shop(
    users: int = 120,
    each: int = 8,
    seed: int = 0,
    mark: str = "",
    extra: Sequence[tuple[str, str]] = (),
) -> Dataset:
    """Everybody stays with one kind of thing; the last item of every kind was chosen by nobody.
    `mark` makes the ids another shop's, `extra` are further items.
    """
    rng = np.random.default_rng(seed)
    items = [
        (f"{mark}{kind.split()[0]}{i}", f"{kind} model {i}") for kind in KINDS for i in range(each)
    ] + list(extra)
    events = []
    for user in range(users):
        kind = KINDS[user % len(KINDS)].split()[0]
        events += [
            (f"u{user}", f"{mark}{kind}{i}", 1000 * at)
            for at, i in enumerate(rng.permutation(each - 1)[:5])
        ]
    return Dataset(
        {
            "events": pl.DataFrame(events, schema=["user_id", "item_id", "time_ms"], orient="row"),
            "items": pl.DataFrame(items, schema=["item_id", "title"], orient="row"),
        }
    )

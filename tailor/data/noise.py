"""Add events to a log: random ones, or copies of its own."""

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError


def with_random_events(data: Dataset, share: float, rng: np.random.Generator) -> Dataset:
    """Return the data with random events added, `share` of the present number.

    Each copies an event drawn by chance, with an item drawn uniformly: users are as active as
    before. Raises DataError for a share below 0.
    """
    added = _drawn_events(data, share, rng)
    items = data.catalogue.ids[rng.integers(len(data.catalogue), size=len(added))]
    return _joined(data, added.with_columns(item_id=pl.Series(items.tolist(), dtype=pl.String)))


def with_repeated_events(data: Dataset, share: float, rng: np.random.Generator) -> Dataset:
    """Return the data with copies of its own events added: as many, and nothing random."""
    return _joined(data, _drawn_events(data, share, rng))


def _drawn_events(data: Dataset, share: float, rng: np.random.Generator) -> pl.DataFrame:
    if share < 0:
        raise DataError(f"share is {share}: events can only be added, so from 0 on")
    events = data.events.drop("event_id", strict=False)  # an id names one event
    return events[rng.integers(max(len(events), 1), size=round(share * len(events)))]


def _joined(data: Dataset, added: pl.DataFrame) -> Dataset:
    """Return events, items and users with further events; other tables would not fit them."""
    tables = {name: data.tables[name] for name in ("items", "users") if name in data.tables}
    events = pl.concat([data.events.drop("event_id", strict=False), added])
    return Dataset(
        {"events": events, **tables}, data.name, catalogue=data.catalogue, users=data.users
    )

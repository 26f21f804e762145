"""Parts that programs about visits share: Foursquare's visits as queries, and who asks."""

import numpy as np
import polars as pl
from shared_data import foursquare

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries

COLUMNS = ("user_id", "item_id", "time_ms")


def visits(part: str, most: int, length: int) -> tuple[Dataset, tuple[Queries, np.ndarray]]:
    """Return Foursquare's training data, and visits of "valid" or "test" with their places.

    Each is a query at its own time, with the visits before it; validation visits are among those
    before a test visit.
    """
    names = ("train", "valid") if part == "valid" else ("train", "valid", "test")
    frames = [foursquare(name).with_columns(part=pl.lit(name)) for name in names]
    everything = pl.concat(frames)
    items = everything.select("item_id", "lat", "lon").unique("item_id", maintain_order=True)
    log = Dataset({"events": everything.select(*COLUMNS, "part"), "items": items}, "foursquare")
    train = Dataset({"events": foursquare("train").select(COLUMNS), "items": items}, "foursquare")
    is_part = (log.events["part"] == part).to_numpy()[log.sequences.events]
    return train, visits_as_queries(log, np.flatnonzero(is_part), most, length)


def visits_as_queries(
    log: Dataset, positions: np.ndarray, most: int, length: int
) -> tuple[Queries, np.ndarray]:
    """Return events at positions of the sequences as queries, and their items.

    `most` of them are drawn; each has the `length` latest events before it.
    """
    rows, times_ms = log.sequences.rows, log.sequences.times_ms
    positions = positions[rows.from_start[positions] > 0]
    positions = np.sort(np.random.default_rng(0).permutation(positions)[:most])
    lengths = np.minimum(rows.from_start[positions], length)
    recent = Ragged.of_lengths(lengths, np.zeros(int(lengths.sum()), np.int64))
    places_before = np.repeat(positions - lengths, lengths) + recent.from_start
    queries = Queries(
        log.catalogue,
        recent.with_values(rows.values[places_before]),
        log.users.ids[rows.row_ids[positions]],
        {"times_ms": recent.with_values(times_ms.values[places_before])},
        now_ms=times_ms.values[positions],
    )
    return queries, rows.values[positions]


def users_of(queries: Queries) -> np.ndarray:
    """Return (Q,) the number of the user of each query."""
    return np.unique(queries.user_ids.astype(str), return_inverse=True)[1]

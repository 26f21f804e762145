"""Lists that users were shown, with what they chose from them and what they had chosen before."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.examples import request_queries, shown_only
from tailor.data.queries import Queries


@dataclass(frozen=True, eq=False)
class ShownLists:
    """R lists of at most K items, by time of their request."""

    queries: Queries
    """(R,) the requests, with the events before each as histories, texts and contexts."""
    rows: np.ndarray
    """(R, K) int32 item rows of the data's catalogue in the order shown; -1 after the last."""
    is_chosen: np.ndarray
    """(R, K) bool: an event names the request and the item."""
    propensities: np.ndarray
    """(R, K) probability with which each item was put there; NaN where the log has none."""

    @classmethod
    def of(cls, data: Dataset, length: int) -> "ShownLists":
        """Return the lists of a log; histories hold the last `length` events.

        There are none without impressions, requests with user and time, or events with times.
        """
        requests = _timed_requests(data)
        if not len(requests) or not data.has_times:
            return cls._empty(data)
        impressions = _shown_impressions(data)
        impressions = impressions.join(requests.select("request_id", "request"), on="request_id")
        impressions = impressions.sort("request", "position", maintain_order=True)
        request = impressions["request"].to_numpy()
        lengths = np.bincount(request, minlength=len(requests))
        starts = np.cumsum(lengths) - lengths
        cells = (request, np.arange(len(request)) - starts[request])
        shape = (len(requests), int(lengths.max(initial=0)))
        rows = np.full(shape, -1, np.int32)
        rows[cells] = data.catalogue.codes(impressions["item_id"])
        is_chosen = np.zeros(shape, dtype=bool)
        is_chosen[cells] = _chosen(data, impressions)
        propensities = np.full(shape, np.nan)
        propensities[cells] = impressions["propensity"].to_numpy()
        queries = request_queries(data, requests.drop("request"), length)
        return cls(queries, rows, is_chosen, propensities)

    @classmethod
    def _empty(cls, data: Dataset) -> "ShownLists":
        none = np.zeros((0, 0))
        queries = data.queries([])
        return cls(queries, none.astype(np.int32), none.astype(bool), none)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> "ShownLists":
        """Return the lists with these numbers, in this order."""
        parts = (self.rows[rows], self.is_chosen[rows], self.propensities[rows])
        return ShownLists(self.queries.take(rows), *parts)


def _timed_requests(data: Dataset) -> pl.DataFrame:
    """Return requests with user and time that something was shown for, oldest first.

    The column `request` numbers them.
    """
    table = data.tables.get("requests")
    schema = {"request_id": pl.String, "user_id": pl.String, "time_ms": pl.Int64}
    requests = pl.DataFrame(schema=schema)
    is_complete = table is not None and set(schema) <= set(table.columns)
    if table is not None and is_complete and "impressions" in data.tables:
        requests = table.drop_nulls(schema)
        requests = requests.unique("request_id", keep="first")
        impressions = _shown_impressions(data)
        requests = requests.join(impressions, on="request_id", how="semi")
        requests = requests.sort("time_ms", "request_id")
    return requests.with_columns(request=pl.int_range(pl.len()))


def _shown_impressions(data: Dataset) -> pl.DataFrame:
    """Return request_id, item_id, position and propensity of what was really shown."""
    impressions = shown_only(data.tables["impressions"])
    if "position" not in impressions.columns:
        impressions = impressions.with_columns(position=pl.lit(0))
    if "propensity" not in impressions.columns:
        impressions = impressions.with_columns(propensity=pl.lit(None))
    propensity = pl.col("propensity").cast(pl.Float64)
    return impressions.select("request_id", "item_id", "position", propensity)


def _chosen(data: Dataset, impressions: pl.DataFrame) -> np.ndarray:
    """Return (n,) bool: whether an event names the impression's request and item."""
    if "request_id" not in data.events.columns:
        return np.zeros(len(impressions), dtype=bool)
    keys = ["request_id", "item_id"]
    choices = data.events.select(keys).drop_nulls().unique().with_columns(chosen=pl.lit(True))
    joined = impressions.join(choices, on=keys, how="left", maintain_order="left")
    return joined["chosen"].fill_null(False).to_numpy()

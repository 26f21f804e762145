"""Estimate what a recommender would have earned, from a log of what another one showed.

The log must hold the probabilities (propensities) of what was shown; no user is shown a list of the
new recommender.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError
from tailor.evaluation.significance import bootstrap
from tailor.metrics.off_policy import (
    doubly_robust,
    effective_sample_size,
    importance_weights,
    inverse_propensity,
    self_normalised,
)

NEEDS = {
    "requests": ("request_id", "user_id", "time_ms"),
    "impressions": ("request_id", "position", "item_id", "propensity"),
}
ENOUGH = 100  # effective sample size below which an estimate says next to nothing
COVERED = 0.9  # share of the recommender's places below which a note says so
DRAWS = 1000
BLOCK = 2048  # requests answered in one call


@dataclass(frozen=True)
class Value:
    """Rewards per list with a 95 % interval over users."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """Estimated value of a recommender from a log; values are rewards per list."""

    requests: int
    """Number of replayed requests of known users."""
    logged: Value
    """Value of the lists that were shown."""
    ips: Value
    """Inverse propensity: unbiased, wide interval."""
    snips: float
    """Self-normalised inverse propensity."""
    dr: Value
    """Doubly robust, with each place's mean reward as model: unbiased, narrower interval."""
    agreement: float
    """Share of places where the recommender has the item that was shown there."""
    covered: float
    """Mean weight of a place: about 1 where the log could have shown all that the recommender
    would, less by the share that it could not.
    """
    sample: float
    """Effective sample size, in places."""
    notes: tuple[str, ...] = ()
    """Reasons to doubt the estimate."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def estimate(
    data: Dataset,
    method: Recommender,
    reward: str | None = None,
    keep_seen: bool = False,
    most: int = 20_000,
    run: Run = Run(),
) -> Estimate:
    """Replay up to `most` requests of known users and weight what was shown.

    Each request is answered from the events before it. A place's reward is 1 where an event names
    the request and the item, and meets the condition `reward` (in the language of labels). Raises
    DataError for data without requests, impressions with propensities, or events that name
    requests.
    """
    impressions, requests = _read_log(data)
    drawn_rows = np.sort(run.rng("requests").permutation(len(requests))[:most])
    requests = requests[drawn_rows.tolist()].with_columns(request=pl.int_range(pl.len()))
    places = _rewarded_places(data, impressions, requests, reward)
    request = places["request"].to_numpy()
    position = places["position"].to_numpy().astype(np.int64) - 1
    rewards = places["reward"].to_numpy()
    propensities = places["propensity"].to_numpy()
    width = int(position.max(initial=0)) + 1
    lists = _replay(data, method, requests, width, keep_seen, run)
    shown_rows = lists.catalogue.codes(places["item_id"])
    chosen_rows = lists.rows[request, position]
    agrees = ((chosen_rows == shown_rows) & (shown_rows >= 0)).astype(float)
    weights = importance_weights(agrees, propensities)
    mean_rewards = np.bincount(position, rewards) / np.maximum(np.bincount(position), 1)
    expected = mean_rewards[position]
    expected_target = expected * (chosen_rows >= 0)
    place_values = {
        "logged": rewards,
        "ips": inverse_propensity(rewards, weights),
        "dr": doubly_robust(rewards, weights, expected, expected_target),
    }
    values = _values_per_list(place_values, request, requests["user_id"].to_numpy(), run.seed)
    return Estimate(
        requests=len(requests),
        logged=values["logged"],
        ips=values["ips"],
        snips=self_normalised(rewards, weights, position),
        dr=values["dr"],
        agreement=float(agrees.mean()),
        covered=float(weights.mean()),
        sample=effective_sample_size(weights),
        notes=tuple(_doubts(propensities, weights, rewards)),
    )


def _rewarded_places(
    data: Dataset, impressions: pl.DataFrame, requests: pl.DataFrame, reward: str | None
) -> pl.DataFrame:
    """Return the impressions of the requests with a column reward, 1 where chosen."""
    events = data.events
    if reward is not None:
        events = events.filter(pl.Series(data.where(reward)))
    chosen = events.select("request_id", "item_id").unique().with_columns(reward=pl.lit(1.0))
    return (
        impressions.join(requests.select("request_id", "request"), on="request_id")
        .join(chosen, on=["request_id", "item_id"], how="left")
        .with_columns(pl.col("reward").fill_null(0.0))
        .sort("request", "position")
    )


def _values_per_list(
    place_values: dict[str, np.ndarray], request: np.ndarray, users: np.ndarray, seed: int
) -> dict[str, Value]:
    """Return mean and interval of the sum of values (n,) per list; users (R,) are clusters."""
    columns = [np.bincount(request, values, len(users)) for values in place_values.values()]
    list_values = np.stack(columns, axis=1)  # requests, estimators
    lows, highs = bootstrap(list_values, DRAWS, seed=seed, clusters=users)
    return {
        name: Value(float(list_values[:, i].mean()), float(lows[i]), float(highs[i]))
        for i, name in enumerate(place_values)
    }


def _read_log(data: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return impressions with a propensity, and the requests of known users they belong to."""
    for table, columns in NEEDS.items():
        present = data.tables[table].columns if table in data.tables else []
        missing = [name for name in columns if name not in present]
        if missing:
            raise DataError(
                f'data set "{data.name}" has no {table}.{missing[0]}: an estimate needs a log of'
                " what was shown, to whom, when and how likely"
            )
    if "events" not in data.tables or "request_id" not in data.events.columns:
        raise DataError(
            f'data set "{data.name}": no event names the request that it came of'
            " (events.request_id): nothing shown is known to have been chosen"
        )
    impressions = data.tables["impressions"].select(NEEDS["impressions"])
    impressions = impressions.filter(pl.col("propensity") > 0)
    requests = (
        data.tables["requests"]
        .select(NEEDS["requests"])
        .drop_nulls()
        .join(impressions.select("request_id").unique(), on="request_id", how="semi")
    )
    if not len(requests):
        raise DataError(
            f'data set "{data.name}" holds no list that was shown to a known person with a'
            " propensity"
        )
    return impressions, requests


def _replay(
    data: Dataset, method: Recommender, requests: pl.DataFrame, k: int, keep_seen: bool, run: Run
) -> Rankings:
    """Answer each request from the events before it, with lists of k places."""
    queries = _queries_at(data, requests)
    if not keep_seen:
        queries = queries.without_history()
    starts = range(0, len(queries), BLOCK)
    lists = []
    for start in run.progress(starts, "asking again", len(starts)):
        rankings = method.recommend(queries[start : start + BLOCK], k)
        lists.append(_padded(Rankings.of(rankings).reindexed(data.catalogue), k))
    return Rankings.stack(lists)


def _queries_at(data: Dataset, requests: pl.DataFrame) -> Queries:
    """Return one query per request with the user's events before its time."""
    sequences = data.sequences
    if sequences.times_ms is None:
        raise DataError(
            f'data set "{data.name}" has no times: what was known at a request cannot be told'
        )
    user_rows = data.users.codes(requests["user_id"])
    request_ms = requests["time_ms"].to_numpy()
    starts = sequences.rows.offsets[np.maximum(user_rows, 0)]
    lengths = [
        int(np.searchsorted(sequences.times_ms[user], time_ms)) if user >= 0 else 0
        for user, time_ms in zip(user_rows.tolist(), request_ms.tolist(), strict=True)
    ]
    offsets = np.r_[0, np.cumsum(lengths)]
    positions = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Queries(
        data.catalogue,
        Ragged(offsets, sequences.rows.values[positions]),
        requests["user_id"].to_numpy().astype(object),
        {"times_ms": Ragged(offsets, sequences.times_ms.values[positions])},
        now_ms=request_ms,
    )


def _padded(lists: Rankings, k: int) -> Rankings:
    """Return the item rows only, k places wide."""
    rows = np.full((len(lists), k), -1, np.int32)
    rows[:, : lists.rows.shape[1]] = lists.rows
    return Rankings(lists.catalogue, rows, np.zeros(rows.shape, np.float32))


def _doubts(propensities: np.ndarray, weights: np.ndarray, rewards: np.ndarray) -> list[str]:
    """Return reasons to doubt the estimate."""
    doubts = []
    sample = effective_sample_size(weights)
    highest_coverage = weights.mean() + 3 * weights.std() / np.sqrt(len(weights))
    if (propensities == 1).all():
        doubts.append(
            "nothing was left to chance (every propensity is 1): what the logged model never shows"
            " cannot be known; serve with --explore"
        )
    elif highest_coverage < COVERED:
        doubts.append(
            f"the log could have shown about {weights.mean():.0%} of what the recommender would"
            " show: of the rest nothing is known, and the values speak for what was covered"
        )
    if sample < ENOUGH:
        doubts.append(
            f"the recommender and the log agree on so little that it is worth {sample:.0f} places:"
            " wait for more requests, or explore more"
        )
    if not rewards.any():
        doubts.append("nothing that was shown was chosen: send events with their request_id")
    return doubts

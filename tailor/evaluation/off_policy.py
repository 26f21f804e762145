"""What a recommender would have earned, judged by a log of what another one showed with known
probabilities, before anybody is shown a list of it.
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
ENOUGH = 100  # effective sample size, below which an estimate says next to nothing
COVERED = 0.9  # of the recommender's places, below which a note says so
DRAWS = 1000
BLOCK = 2048  # requests answered at a time


@dataclass(frozen=True)
class Value:
    """Rewards a list, and a 95 % interval over people."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What the log says of a recommender; all values are rewards a list."""

    requests: int
    """Of known people, replayed."""
    logged: Value
    """Of what was shown."""
    ips: Value
    """Inverse propensity: unbiased, wide."""
    snips: float
    """self-normalised."""
    dr: Value
    """Inverse propensity around each place's mean reward: unbiased, narrower."""
    agreement: float
    """Share of places where the recommender puts what was shown there."""
    covered: float
    """Mean weight of a place: about 1 where the log could have shown all that the recommender
    would; less by the share it could not.
    """
    sample: float
    """Effective sample size, in places."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate(
    data: Dataset,
    method: Recommender,
    reward: str | None = None,
    keep_seen: bool = False,
    most: int = 20_000,
    run: Run = Run(),
) -> Estimate:
    """Replay up to `most` requests of known people, each with the events there were before it, and
    weigh what was shown.

    A place's reward is 1 where an event names the request and the item (and meets the condition
    `reward`, in the language of labels). Lists are asked for without chance. Raises DataError for
    data without requests, impressions with propensities, or events that name requests.
    """
    shown, asked = _log(data)
    events = data.events
    if reward is not None:
        events = events.filter(pl.Series(data.where(reward)))
    chosen = events.select("request_id", "item_id").unique().with_columns(reward=pl.lit(1.0))
    drawn = np.sort(run.rng("requests").permutation(len(asked))[:most])
    asked = asked[drawn.tolist()].with_columns(at=pl.int_range(pl.len()))
    rows = (
        shown.join(asked.select("request_id", "at"), on="request_id")
        .join(chosen, on=["request_id", "item_id"], how="left")
        .sort("at", "position")
    )
    at, place = rows["at"].to_numpy(), rows["position"].to_numpy().astype(np.int64) - 1
    rewards, logged = rows["reward"].fill_null(0.0).to_numpy(), rows["propensity"].to_numpy()
    lists = _answers(data, method, asked, int(place.max(initial=0)) + 1, keep_seen, run)
    there = lists.catalogue.codes(rows["item_id"])
    target = ((lists.rows[at, place] == there) & (there >= 0)).astype(float)
    weights = importance_weights(target, logged)
    mean = np.bincount(place, rewards) / np.maximum(np.bincount(place), 1)
    fits = (lists.rows[at, place] >= 0).astype(float)
    per_place = {
        "logged": rewards,
        "ips": inverse_propensity(rewards, weights),
        "dr": doubly_robust(rewards, weights, mean[place], mean[place] * fits),
    }
    per_list = np.stack(
        [np.bincount(at, values, len(asked)) for values in per_place.values()], axis=1
    )
    low, high = bootstrap(per_list, DRAWS, seed=run.seed, clusters=asked["user_id"].to_numpy())
    values = {
        name: Value(float(per_list[:, i].mean()), float(low[i]), float(high[i]))
        for i, name in enumerate(per_place)
    }
    sample = effective_sample_size(weights)
    return Estimate(
        len(asked),
        values["logged"],
        values["ips"],
        self_normalised(rewards, weights, place),
        values["dr"],
        float(target.mean()),
        float(weights.mean()),
        sample,
        tuple(_doubts(logged, weights, rewards)),
    )


def _log(data: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Impressions with a propensity, and the requests of known people that they belong to, with
    times.
    """
    for table, columns in NEEDS.items():
        lacking = [
            name
            for name in columns
            if table not in data.tables or name not in data.tables[table].columns
        ]
        if lacking:
            raise DataError(
                f'data set "{data.name}" has no {table}.{lacking[0]}: an estimate needs a log of'
                " what was shown, to whom, when and how likely"
            )
    if "events" not in data.tables or "request_id" not in data.events.columns:
        raise DataError(
            f'data set "{data.name}": no event names the request that it came of'
            " (events.request_id): nothing shown is known to have been chosen"
        )
    shown = data.tables["impressions"].select(NEEDS["impressions"]).filter(pl.col("propensity") > 0)
    asked = (
        data.tables["requests"]
        .select(NEEDS["requests"])
        .drop_nulls()
        .join(shown.select("request_id").unique(), on="request_id", how="semi")
    )
    if not len(asked):
        raise DataError(
            f'data set "{data.name}" holds no list that was shown to a known person with a'
            " propensity"
        )
    return shown, asked


def _answers(
    data: Dataset, method: Recommender, asked: pl.DataFrame, k: int, keep_seen: bool, run: Run
) -> Rankings:
    """What the method answers to each request, from the events before it."""
    whole, user = data.sequences, data.users.codes(asked["user_id"])
    if whole.times_ms is None:
        raise DataError(
            f'data set "{data.name}" has no times: what was known at a request cannot be told'
        )
    when = asked["time_ms"].to_numpy()
    start = whole.rows.offsets[np.maximum(user, 0)]
    known = [
        int(np.searchsorted(whole.times_ms[u], t)) if u >= 0 else 0
        for u, t in zip(user.tolist(), when.tolist(), strict=True)
    ]
    offsets = np.r_[0, np.cumsum(known)]
    events = np.repeat(start - offsets[:-1], known) + np.arange(offsets[-1])
    times = Ragged(offsets, whole.times_ms.values[events])
    queries = Queries(
        data.catalogue,
        Ragged(offsets, whole.rows.values[events]),
        asked["user_id"].to_numpy().astype(object),
        {"times_ms": times},
        now_ms=when,
    )
    queries = queries if keep_seen else queries.without_history()
    blocks = [
        method.recommend(queries[i : i + BLOCK], k)
        for i in run.progress(
            range(0, len(queries), BLOCK), "asking again", -(-len(queries) // BLOCK)
        )
    ]
    lists = [Rankings.of(one).reindexed(data.catalogue) for one in blocks]
    return Rankings.stack([_padded(one, k) for one in lists])


def _padded(lists: Rankings, k: int) -> Rankings:
    """The rows alone, k places wide."""
    rows = np.full((len(lists), k), -1, np.int32)
    rows[:, : lists.rows.shape[1]] = lists.rows
    return Rankings(lists.catalogue, rows, np.zeros(rows.shape, np.float32))


def _doubts(logged: np.ndarray, weights: np.ndarray, rewards: np.ndarray) -> list[str]:
    out, sample = [], effective_sample_size(weights)
    if (logged == 1).all():
        out.append(
            "nothing was left to chance (every propensity is 1): what the logged model never shows"
            " cannot be known; serve with --explore"
        )
    elif weights.mean() + 3 * weights.std() / np.sqrt(len(weights)) < COVERED:
        out.append(
            f"the log could have shown about {weights.mean():.0%} of what the recommender would"
            " show: of the rest nothing is known, and the values speak for what was covered"
        )
    if sample < ENOUGH:
        out.append(
            f"the recommender and the log agree on so little that it is worth {sample:.0f} places:"
            " wait for more requests, or explore more"
        )
    if not rewards.any():
        out.append("nothing that was shown was chosen: send events with their request_id")
    return out

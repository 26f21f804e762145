"""Measure what profiles are worth: lists with them, without them, and with another user's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailor.core.methods import Recommender
from tailor.data.arrays import Ragged
from tailor.data.nouns import Profile
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError
from tailor.evaluation.significance import bootstrap
from tailor.metrics.ranking import hits, ndcg, relevant_counts


@dataclass(frozen=True)
class Lift:
    """The gain of NDCG@k by profiles, over users with a profile that says something."""

    users: int
    with_profile: float
    without_profile: float
    gain: tuple[float, float, float]
    """With less without: mean, and the bounds of its 95 % interval."""
    swap: tuple[float, float, float]
    """With another user's profile, less without: the swap test says that this must not gain."""

    @property
    def is_helpful(self) -> bool:
        """True where profiles help, and more than another user's."""
        return self.gain[1] > 0 and self.swap[0] < self.gain[0]

    def plain(self) -> dict[str, Any]:
        """Return the lift as values that JSON can write."""
        return {
            "users": self.users,
            "with profile": round(self.with_profile, 5),
            "without profile": round(self.without_profile, 5),
            "gain": [round(value, 5) for value in self.gain],
            "swapped gain": [round(value, 5) for value in self.swap],
        }


def lift(
    recommender: Recommender,
    queries: Queries,
    targets: Ragged,
    profiles: Sequence[Profile],
    k: int = 10,
    candidates: Rankings | None = None,
    seed: int = 0,
) -> Lift:
    """Return how much profiles raise NDCG@k of a fitted recommender that reads `Query.profile`.

    `targets` hold rows of the queries' catalogue, `profiles` one a query. Users whose profile has
    neither words nor facts are left out; each of the others gets the profile of the next one in the
    swap test. Raises DataError for fewer than two users.
    """
    says = [i for i, profile in enumerate(profiles) if profile.text or profile.facts]
    if len(says) < 2 or len(profiles) != len(queries):
        raise DataError(
            f"{len(profiles)} profiles for {len(queries)} queries, of which {len(says)} say"
            " something: give one each, at least two that do"
        )
    rows = np.array(says)
    user_profiles = [profiles[i] for i in says]
    swapped = user_profiles[1:] + user_profiles[:1]
    batch = queries.take(rows)
    batch_targets = targets.take(rows)
    lists = None if candidates is None else candidates.take(rows)
    nothing = [Profile(profile.user_id) for profile in user_profiles]
    values = [
        _values(recommender, batch.with_profiles(shown), batch_targets, k, lists)
        for shown in (
            user_profiles,
            nothing,
            [replace(p, user_id=o.user_id) for p, o in zip(swapped, user_profiles, strict=True)],
        )
    ]
    return Lift(
        len(says),
        float(np.nanmean(values[0])),
        float(np.nanmean(values[1])),
        _interval(values[0] - values[1], seed),
        _interval(values[2] - values[1], seed),
    )


def _values(
    recommender: Recommender, queries: Queries, targets: Ragged, k: int, lists: Rankings | None
) -> np.ndarray:
    """Return (U,) NDCG@k."""
    answers = recommender.recommend(queries, k, lists).reindexed(queries.catalogue)
    is_hit = hits(answers.rows, targets.offsets, targets.values)
    return ndcg(is_hit, relevant_counts(targets.offsets, targets.values), k)


def _interval(differences: np.ndarray, seed: int) -> tuple[float, float, float]:
    low, high = bootstrap(differences[:, None], seed=seed)
    return float(np.nanmean(differences)), float(low[0]), float(high[0])

"""Measure how much profiles help a recommender with what users did later.

The swap test: with another user's profile the recommender must do worse than with one's own. A
profile that helps either way says nothing of the user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tailor.core.methods import Recommender
from tailor.data.nouns import Profile
from tailor.data.queries import Rankings
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.evaluation.significance import bootstrap
from tailor.llm.prompts import estimated_tokens, profile_text
from tailor.metrics.battery import per_user


@dataclass(frozen=True)
class Difference:
    """A mean difference per user, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray, seed: int = 0) -> "Difference":
        """Return the mean of values (U,), users drawn with replacement."""
        low, high = bootstrap(values[:, None], seed=seed)
        return cls(*(round(float(value), 5) for value in (np.nanmean(values), low[0], high[0])))


class Qualities(NamedTuple):
    """NDCG@k of every user's list, (U,) each."""

    without: np.ndarray
    """Without a profile."""
    with_own: np.ndarray
    """With the user's profile."""
    with_other: np.ndarray
    """With another user's profile."""
    tokens: np.ndarray
    """Tokens of the user's profile."""


@dataclass(frozen=True)
class Lift:
    """Gain of a recommender by profiles, over none and over another user's."""

    without: float
    """Mean NDCG@k without a profile."""
    gain: Difference
    """Own profile over none."""
    swapped: Difference
    """Another user's profile over none."""
    over_swapped: Difference
    """Own profile over another user's."""
    users: int
    tokens: float
    """Mean tokens of a profile."""

    @classmethod
    def of(cls, values: Qualities, seed: int = 0) -> "Lift":
        """Return the mean gains of users, drawn with replacement for their intervals."""
        return cls(
            round(float(np.nanmean(values.without)), 5),
            Difference.of(values.with_own - values.without, seed),
            Difference.of(values.with_other - values.without, seed),
            Difference.of(values.with_own - values.with_other, seed),
            len(values.without),
            round(float(values.tokens.mean()), 1),
        )

    @property
    def per_100_tokens(self) -> float:
        """Gain for every 100 tokens of profile."""
        return self.gain.mean / self.tokens * 100 if self.tokens else 0.0

    @property
    def passes_swap(self) -> bool:
        """True if own profiles help, and more than another user's."""
        return self.gain.low > 0 and self.over_swapped.low > 0


def lift(
    profiles: Sequence[Profile],
    recommender: Recommender,
    split: Split,
    part: str = "test",
    k: int = 10,
    seed: int = 0,
    candidates: Rankings | None = None,
) -> Lift:
    """Return the lift of profiles, one for each query of a split's part, in their order.

    The recommender reads `Query.profile`, and orders `candidates` where they are given. Items of
    the history are not recommended. Users whose profile says nothing count as well: they lose
    nothing and gain nothing.
    """
    return Lift.of(qualities(profiles, recommender, split, part, k, seed, candidates), seed)


def qualities(
    profiles: Sequence[Profile],
    recommender: Recommender,
    split: Split,
    part: str = "test",
    k: int = 10,
    seed: int = 0,
    candidates: Rankings | None = None,
) -> Qualities:
    """Return what `lift` compares, user by user, so that several data sets can be taken together.

    Raises DataError where profiles and queries differ in number, or nobody can be swapped.
    """
    queries, targets = split.queries(part)
    if len(profiles) != len(queries):
        raise DataError(f"{len(profiles)} profiles for {len(queries)} users: give one each")
    if len(queries) < 2:
        raise DataError("profiles of one user cannot be swapped: at least two are needed")
    queries = queries.without_history()
    other = swapped(len(profiles), seed)

    def quality(chosen: Sequence[Profile | None]) -> np.ndarray:
        lists = recommender.recommend(queries.with_profiles(chosen), k, candidates)
        rows = lists.reindexed(queries.catalogue).rows
        return per_user(rows, targets.offsets, targets.values, (k,), ("NDCG",))[f"NDCG@{k}"]

    return Qualities(
        quality([None] * len(profiles)),
        quality(profiles),
        quality([profiles[i] for i in other]),
        np.array([estimated_tokens(profile_text(profile)) for profile in profiles], float),
    )


def swapped(n: int, seed: int = 0) -> list[int]:
    """Return whose profile each of n users gets: each one's once, and nobody's own."""
    order = np.random.default_rng(seed).permutation(n)
    other = np.empty(n, np.int64)
    other[order] = np.roll(order, 1)
    return other.tolist()

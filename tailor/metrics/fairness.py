"""Whether groups of people are served alike, and groups of items shown alike. Values (U,) per user,
NaN where undefined; groups are names (U,).
"""

from typing import NamedTuple

import numpy as np


class GroupFigures(NamedTuple):
    """One entry a group, in order of their names, and what differs between them."""

    names: list[str]
    users: np.ndarray
    """(G,) for whom the value is defined."""
    means: np.ndarray
    """(G,) NaN for a group without such users."""
    difference: float
    """Highest mean - lowest; 0 is equal."""
    ratio: float
    """Lowest / highest; 1 is equal, NaN where the highest is 0."""
    deviation: float
    """Mean absolute deviation of the groups' means from their mean; 0 is equal."""


def by_group(values: np.ndarray, groups: np.ndarray) -> GroupFigures:
    """Means of a per-user metric by group; groups without a defined value are named, with NaN, and
    left out of the differences.

    All differences are NaN where fewer than two groups have values. Intervals by group:
    `significance.bootstrap` of each group's values.
    """
    names, code = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    defined = ~np.isnan(values)
    users = np.bincount(code[defined], minlength=len(names))
    sums = np.bincount(code[defined], values[defined], minlength=len(names))
    means = np.where(users > 0, sums / np.maximum(users, 1), np.nan)
    known = means[users > 0]
    if len(known) < 2:
        return GroupFigures(names.tolist(), users, means, *[float("nan")] * 3)
    low, high = float(known.min()), float(known.max())
    return GroupFigures(
        names.tolist(),
        users,
        means,
        high - low,
        low / high if high > 0 else float("nan"),
        float(np.abs(known - known.mean()).mean()),
    )


def exposure_disparity(shown: np.ndarray, available: np.ndarray) -> float:
    """Standard deviation / mean over item groups of P(shown | group) (RSP; Zhu et al. 2020). 0 is
    equal; NaN for fewer than 2 groups.

    `shown`, `available` (G,) how many list places went to the group, and how many could have: items
    of the group that a user had not seen.
    """
    return _relative_spread(shown, available)


def recall_disparity(found: np.ndarray, relevant: np.ndarray) -> float:
    """Standard deviation / mean over item groups of P(shown | group, relevant), that is recall
    (REO; Zhu et al. 2020). 0 is equal.

    `found`, `relevant` (G,) relevant items of the group in lists, and in all; a group without
    relevant items is left out.
    """
    return _relative_spread(found, relevant)


def _relative_spread(above: np.ndarray, below: np.ndarray) -> float:
    rates = above[below > 0] / below[below > 0]
    return (
        float(rates.std() / rates.mean()) if len(rates) > 1 and rates.mean() > 0 else float("nan")
    )

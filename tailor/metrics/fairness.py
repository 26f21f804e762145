"""Compare groups of users, and exposure of groups of items.

Values (U,) per user, NaN where undefined; groups are names (U,).
"""

from typing import NamedTuple

import numpy as np


class GroupFigures(NamedTuple):
    """Figures by group, in order of their names, and the differences between groups."""

    names: list[str]
    users: np.ndarray
    """(G,) number of users with a defined value."""
    means: np.ndarray
    """(G,) NaN for a group without such users."""
    difference: float
    """Highest mean - lowest; 0 is equal."""
    ratio: float
    """Lowest / highest; 1 is equal, NaN where the highest is 0."""
    deviation: float
    """Mean absolute deviation of the groups' means from their mean; 0 is equal."""


def by_group(values: np.ndarray, groups: np.ndarray) -> GroupFigures:
    """Return means of a per-user metric by group.

    Groups without a defined value have NaN and do not count in the differences, which are NaN for
    fewer than two groups with values. Intervals by group: `significance.bootstrap` of each group's
    values.
    """
    names, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    is_defined = ~np.isnan(values)
    users = np.bincount(codes[is_defined], minlength=len(names))
    sums = np.bincount(codes[is_defined], values[is_defined], minlength=len(names))
    means = np.where(users > 0, sums / np.maximum(users, 1), np.nan)
    defined_means = means[users > 0]
    if len(defined_means) < 2:
        return GroupFigures(names.tolist(), users, means, *[float("nan")] * 3)
    low = float(defined_means.min())
    high = float(defined_means.max())
    return GroupFigures(
        names=names.tolist(),
        users=users,
        means=means,
        difference=high - low,
        ratio=low / high if high > 0 else float("nan"),
        deviation=float(np.abs(defined_means - defined_means.mean()).mean()),
    )


def exposure_disparity(exposed: np.ndarray, available: np.ndarray) -> float:
    """Relative spread over item groups of P(shown | group) (RSP; Zhu et al. 2020).

    Standard deviation / mean. `exposed`, `available` (G,): list places that went to the group, and
    that could have (its items that a user had not seen). 0 is equal; NaN for fewer than 2 groups.
    """
    return _relative_spread(exposed, available)


def recall_disparity(recalled: np.ndarray, relevant: np.ndarray) -> float:
    """Relative spread over item groups of recall (REO; Zhu et al. 2020).

    Standard deviation / mean. `recalled`, `relevant` (G,): relevant items of the group in lists,
    and in all; a group without relevant items is left out. 0 is equal.
    """
    return _relative_spread(recalled, relevant)


def _relative_spread(counts: np.ndarray, totals: np.ndarray) -> float:
    rates = counts[totals > 0] / totals[totals > 0]
    if len(rates) < 2 or not rates.mean() > 0:
        return float("nan")
    return float(rates.std() / rates.mean())

"""Estimate the value of another policy from a log of what one policy showed.

Rewards are weighted by how likely each policy was to show the item. One row per place of a list
that was shown: `rewards` (n,) what it earned; `logged` (n,) the probability that the logging policy
put this item there; `target` (n,) the same of the policy to estimate. Places are assumed
independent: an item at one does not change what another earns (the item-position model; Li et al.
2018, "Offline Evaluation of Ranking Policies with Click Models"). Nothing is known of items that
the logging policy never shows.
"""

import numpy as np


def importance_weights(
    target: np.ndarray, logged: np.ndarray, most: float | None = None
) -> np.ndarray:
    """Return (n,) target / logged, clipped at `most`, which trades variance for bias.

    Raises ValueError for probabilities out of range.
    """
    if not ((logged > 0) & (logged <= 1)).all() or not ((target >= 0) & (target <= 1)).all():
        raise ValueError(
            "logged probabilities must be above 0 and at most 1, target probabilities from 0 to 1"
        )
    weights = target / logged
    return weights if most is None else np.minimum(weights, most)


def inverse_propensity(rewards: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (n,) weight times reward (Horvitz and Thompson 1952).

    The mean over lists of their sums estimates the policy's value: unbiased, of large variance.
    """
    return np.asarray(weights * rewards)


def self_normalised(rewards: np.ndarray, weights: np.ndarray, places: np.ndarray) -> float:
    """Sum over places of the weighted mean reward there (Swaminathan and Joachims 2015).

    `places` (n,) ints. Never outside what places can earn; slightly biased, of smaller variance.
    NaN where a place has no weight at all.
    """
    n = int(places.max(initial=-1)) + 1
    is_used = np.bincount(places, minlength=n) > 0
    weight_sums = np.bincount(places, weights, n)[is_used]
    reward_sums = np.bincount(places, weights * rewards, n)[is_used]
    if not len(weight_sums) or not (weight_sums > 0).all():
        return float("nan")
    return float((reward_sums / weight_sums).sum())


def doubly_robust(
    rewards: np.ndarray, weights: np.ndarray, expected: np.ndarray, expected_target: np.ndarray
) -> np.ndarray:
    """Return (n,) a reward model's expectation, corrected by weighted residuals.

    `expected` (n,) of the item shown, `expected_target` (n,) of the target policy at the place.
    Unbiased where either propensities or model are right (Dudik et al. 2011). With the place's mean
    reward as `expected`, the model knows places only, which still removes most of the variance.
    """
    return np.asarray(expected_target + weights * (rewards - expected))


def effective_sample_size(weights: np.ndarray) -> float:
    """(sum of weights)^2 / sum of squared weights (Kish 1965). 0 without weights.

    The number of equally weighted places that carry as much information.
    """
    squares = float((weights**2).sum())
    return float(weights.sum() ** 2 / squares) if squares else 0.0

"""What another policy would have earned, from a log of what one policy showed: by weighing what was
shown by how likely each would have shown it.

One row a place of a list that was shown: `rewards` (n,) what came of it, `logged` (n,) the
probability that the logging policy put this item there, `target` (n,) the same of the policy that
is asked about. Places are taken to earn by themselves: what stands at one does not change what
another earns (the item-position model; Li et al. 2018, "Offline Evaluation of Ranking Policies with
Click Models"). What the logging policy never shows cannot be known.
"""

import numpy as np


def importance_weights(
    target: np.ndarray, logged: np.ndarray, most: float | None = None
) -> np.ndarray:
    """(n,) target / logged, at most `most` where given, which trades variance for bias. Raises
    ValueError for probabilities out of range.
    """
    if not ((logged > 0) & (logged <= 1)).all() or not ((target >= 0) & (target <= 1)).all():
        raise ValueError(
            "logged probabilities must be above 0 and at most 1, target probabilities from 0 to 1"
        )
    weights = target / logged
    return weights if most is None else np.minimum(weights, most)


def inverse_propensity(rewards: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n,) weight times reward; the mean of their sums over lists is the policy's value (Horvitz
    and Thompson 1952). Unbiased, of large variance.
    """
    return np.asarray(weights * rewards)


def self_normalised(rewards: np.ndarray, weights: np.ndarray, places: np.ndarray) -> float:
    """The sum over places of the weighted mean reward there; NaN where a place has no weight at all
    (Swaminathan and Joachims 2015).

    `places` (n,) ints. Never outside what places can earn; a little biased, of smaller variance.
    """
    n = int(places.max(initial=-1)) + 1
    total = np.bincount(places, weights, n)[np.bincount(places, minlength=n) > 0]
    earned = np.bincount(places, weights * rewards, n)[np.bincount(places, minlength=n) > 0]
    return float((earned / total).sum()) if len(total) and (total > 0).all() else float("nan")


def doubly_robust(
    rewards: np.ndarray, weights: np.ndarray, expected: np.ndarray, expected_target: np.ndarray
) -> np.ndarray:
    """(n,) what a model of the reward expects of the target policy at the place, corrected by
    weight times (reward - what it expected of the item shown).

    Unbiased where either propensities or model are right (Dudik et al. 2011). With `expected` the
    place's mean reward the model knows places alone, which takes most of the variance that comes
    from how many weights there happen to be.
    """
    return np.asarray(expected_target + weights * (rewards - expected))


def effective_sample_size(weights: np.ndarray) -> float:
    """(sum of weights)^2 / sum of squared weights: as many equally weighted places would tell as
    much (Kish 1965). 0 without weights.
    """
    squares = float((weights**2).sum())
    return float(weights.sum() ** 2 / squares) if squares else 0.0

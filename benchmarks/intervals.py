"""Do the intervals cover as often as they say, and do the tests err as often as they say? Simulated
experiments with known truth.

    python benchmarks/intervals.py [--experiments 2000]

Values look like NDCG@10 of an offline test: most users 0, the rest between .29 and 1. Every
experiment draws new users; the truth is known by construction.
"""

import argparse
import json

import numpy as np
from writing import write_result

from tailor.evaluation.comparing import compare
from tailor.evaluation.report import Report, Result
from tailor.evaluation.significance import bootstrap, bootstrap_over_seeds, detectable, wilson

DISCOUNTS = 1 / np.log2(np.arange(2, 12))
DRAWS = 1000  # of a bootstrap here; the default of 2,000 is not needed to count how often it covers
USERS = 400
# experiments that the size of the planted lead rests on: 300 left it uncertain by 2 %, and the
# power by .02
PILOTS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=2000)
    n = parser.parse_args().experiments
    figures = {
        "experiments": n,
        "users": USERS,
        "coverage of 95 % intervals": coverage(n),
        "false positives of compare at 5 %": false_positives(n),
        "planted lead of the detectable size found (stated power .8)": {
            f"{users} users": power(n, users) for users in (USERS, 2000)
        },
    }
    print(json.dumps(figures, indent=1))
    print(write_result("intervals", 0, "python benchmarks/intervals.py", figures))


def ndcgs(
    rng: np.random.Generator, shape: tuple[int, ...], hit: float | np.ndarray = 0.2
) -> np.ndarray:
    """NDCG@10 of one target each: with chance `hit` it stands at a rank that is more often early
    than late.
    """
    rank = np.minimum(rng.geometric(0.3, shape) - 1, 9)
    return np.where(rng.random(shape) < hit, DISCOUNTS[rank], 0.0)


def mean_gain() -> float:
    chance = 0.3 * 0.7 ** np.arange(10)
    chance[9] = 0.7**9  # what is later stands last
    return float(chance @ DISCOUNTS)


def coverage(n: int) -> dict:
    rng = np.random.default_rng(0)
    covered: dict[str, list[bool]] = {
        name: []
        for name in (
            "users",
            "clusters of rows",
            "strata",
            "users and repeats",
            "Wilson, rate of few",
        )
    }
    for at in range(n):
        low, high = bootstrap(ndcgs(rng, (USERS, 1)), DRAWS, seed=at)
        covered["users"].append(bool(low[0] <= 0.2 * mean_gain() <= high[0]))
        # every user has a rate of their own, five rows each
        own = np.repeat(rng.beta(1, 4, USERS), 5)
        low, high = bootstrap(
            ndcgs(rng, (5 * USERS,), own)[:, None],
            DRAWS,
            seed=at,
            clusters=np.repeat(np.arange(USERS), 5),
        )
        covered["clusters of rows"].append(bool(low[0] <= 0.2 * mean_gain() <= high[0]))
        strata = np.repeat([0, 1], [USERS // 4, USERS - USERS // 4])
        low, high = bootstrap(
            ndcgs(rng, (USERS,), np.where(strata == 0, 0.6, 0.1))[:, None],
            DRAWS,
            seed=at,
            strata=strata,
        )
        covered["strata"].append(bool(low[0] <= (0.25 * 0.6 + 0.75 * 0.1) * mean_gain() <= high[0]))
        repeats = (
            rng.normal(0, 0.1, (10, 1)) + rng.normal(0, 1, (1, 100)) + rng.normal(0, 0.5, (10, 100))
        )
        low_s, high_s = bootstrap_over_seeds(repeats, 300, seed=at)
        covered["users and repeats"].append(low_s <= 0 <= high_s)
        low_w, high_w = wilson(int(rng.binomial(150, 0.04)), 150)
        covered["Wilson, rate of few"].append(low_w <= 0.04 <= high_w)
    return {name: share(values) for name, values in covered.items()}


def share(values: list[bool]) -> dict[str, float | list[float]]:
    return {
        "share": round(float(np.mean(values)), 4),
        "interval": [round(one, 4) for one in wilson(sum(values), len(values))],
    }


def report(values: dict[str, np.ndarray]) -> Report:
    users = [str(at) for at in range(len(next(iter(values.values()))))]
    results = {
        (name, "removed"): Result({"NDCG@10": one}, {}, 0.0, "train")
        for name, one in values.items()
    }
    return Report({"hash": ""}, "test", users, {}, results, 0.0)


def false_positives(n: int) -> dict:
    """Two systems of one quality, whose users' values go together; then five such beside a
    baseline, where any false alarm counts.
    """
    out: dict[str, list[bool]] = {}
    for kind in ("permutation", "bootstrap", "t", "wilcoxon"):
        rng = np.random.default_rng(1)
        found = [
            compare(report(alike(rng, 2)), "0", seed=at, kind=kind)[0].is_significant
            for at in range(n)
        ]
        out[f"two systems, {kind}"] = found
    rng = np.random.default_rng(2)
    out["five systems beside a baseline, any (Holm)"] = [
        any(one.is_significant for one in compare(report(alike(rng, 6)), "0", seed=at))
        for at in range(n)
    ]
    return {name: share(values) for name, values in out.items()}


def alike(rng: np.random.Generator, systems: int) -> dict[str, np.ndarray]:
    """Users are easy or hard for all systems alike."""
    easy = rng.beta(1, 4, USERS)
    return {str(one): ndcgs(rng, (USERS,), easy) for one in range(systems)}


def power(n: int, users: int) -> dict:
    """The better system finds the item for some more users: by so many that its true lead is what
    `detectable` says of such runs, on average.
    """
    rng = np.random.default_rng(3)
    shift, lead = 0.05, 0.0
    for _ in range(4):  # the spread of the differences grows with the lead itself
        pilots = [led(rng, shift, users) for _ in range(PILOTS)]
        lead = float(np.mean([(one["1"] - one["0"]).mean() for one in pilots]))
        wanted = float(np.mean([detectable(one["1"] - one["0"]) for one in pilots]))
        shift *= wanted / lead
    found = [
        compare(report(led(rng, shift, users)), "0", seed=at)[0].is_significant for at in range(n)
    ]
    return {
        "true lead": round(lead, 4),
        "detectable": round(wanted, 4),
        "mean of the baseline": round(0.2 * mean_gain(), 4),
        **share(found),
    }


def led(rng: np.random.Generator, shift: float, users: int) -> dict[str, np.ndarray]:
    easy = rng.beta(1, 4, users)
    return {"0": ndcgs(rng, (users,), easy), "1": ndcgs(rng, (users,), np.minimum(easy + shift, 1))}


if __name__ == "__main__":
    main()

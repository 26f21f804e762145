"""NBPO: planted logs of pairs of interests, of which some leave no event.

Lists are judged against all that a user likes, logged or not, without the items of the history. All
four likelihoods have the same factors, negatives and early stopping. Penalties were chosen on the
validation part of another log, for each likelihood among 1e-4, 1e-3 and 1e-2.
"""

from typing import Any

import numpy as np
from claim_tools import difference_interval, fit_all, is_above, is_not_below, seeded
from scipy.special import expit

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import Split, last_out
from tailor.papers.retrieval.nbpo import NBPO
from tailor.worlds.interests import Interests, interests

FIVE_SEEDS = (0, 1, 2, 3, 4)
WORLD = {
    "people": 400,
    "items": 300,
    "length": 30,
    "visits": 1,  # what is shown would tell of hidden likes
    "slate": 1,
    "together": 0.9,
}
HIDDEN = 0.4
K = 10
METHODS = {
    "NBPO": {"likelihood": "released"},
    "NBPO, exact": {"likelihood": "exact"},
    "BPO": {"likelihood": "no flips", "l2": 1e-2},
    "BPR": {"likelihood": "pairs"},
}
RIVALS = ("BPO", "BPR")


def measure(run: Run) -> Claim:
    """Five planted logs that hide 40 % of the liked groups, and three that hide none."""
    planted = [on_interests(HIDDEN, seeded(run, seed)) for seed in FIVE_SEEDS]
    open_logs = [on_interests(0.0, seeded(run, seed)) for seed in FIVE_SEEDS[:3]]
    checks = {
        f"NDCG@10 of true likes above {rival}": is_above(planted, f"over {rival}")
        for rival in RIVALS
    }
    checks["flips go with the true ones, correlation above .3"] = all(
        row["correlations"]["NBPO"]["of flips"] > 0.3 for row in planted
    )
    checks["nothing hidden: not below BPO and BPR"] = all(
        is_not_below(open_logs, f"over {rival}") for rival in RIVALS
    )
    figures = {"40 % hidden": planted, "nothing hidden": open_logs}
    return Claim(checks, figures, list(FIVE_SEEDS), ["interests"])


def on_interests(hidden: float, run: Run) -> dict[str, Any]:
    """Judge all likelihoods against true likes on one log."""
    world = interests(**WORLD, hidden=hidden, seed=run.seed)
    split = last_out(world.data)
    methods = fit_all({name: NBPO(**settings) for name, settings in METHODS.items()}, split, run)
    likes, is_hidden = true_likes(world, split)
    values = {name: true_ndcg(method, split, likes) for name, method in methods.items()}
    leads = {}
    for rival in RIVALS:
        differences = values["NBPO"] - values[rival]
        leads[f"over {rival}"] = difference_interval(differences, run.seed)
    return {
        "seed": run.seed,
        "NDCG@10 of true likes": {
            name: round(float(ndcg.mean()), 4) for name, ndcg in values.items()
        },
        "leads": leads,
        "correlations": {
            name: correlations(methods[name], split, likes, is_hidden)
            for name in ("NBPO", "NBPO, exact")
        },
    }


def true_likes(world: Interests, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return (U, N) bool of the test users: liked items outside the history, and hidden ones.

    A like is hidden where at most one event of the item's group was logged, which may be noise.
    """
    queries, _ = split.queries("test")
    users = world.data.users.rows(queries.user_ids.tolist())
    likes = world.likes[users][:, world.groups]
    likes &= queries.histories.matrix(likes.shape[1]).toarray() == 0
    rows = world.data.sequences.rows
    counts = np.zeros(world.likes.shape)
    np.add.at(counts, (rows.row_ids, world.groups[rows.values]), 1)
    return likes, likes & (counts[users] <= 1)[:, world.groups]


def true_ndcg(method: NBPO, split: Split, likes: np.ndarray) -> np.ndarray:
    """Return (U,) NDCG@10 of lists without the history, every liked item being relevant."""
    queries, _ = split.queries("test")
    lists = method.recommend(queries.without_history(), K).reindexed(split.data.catalogue)
    is_liked = np.take_along_axis(likes, lists.rows, axis=1)
    discounts = 1 / np.log2(np.arange(K) + 2)
    return np.asarray(is_liked @ discounts / discounts.sum())


def correlations(
    method: NBPO, split: Split, likes: np.ndarray, is_hidden: np.ndarray
) -> dict[str, float]:
    """Return Pearson's correlations of learned and true probabilities of items without an event.

    That of flips is over liked items, whose group is hidden or not; that of hidden likes over all.
    """
    queries, _ = split.queries("test")
    flips = expit(method._products("flips", queries.histories.distinct()))
    mask = queries.histories.matrix(likes.shape[1]).toarray() == 0
    hidden_likes = method.hidden_likes(queries)
    out = {"of hidden likes": float(np.corrcoef(hidden_likes[mask], likes[mask])[0, 1])}
    if is_hidden.any():
        out["of flips"] = float(np.corrcoef(flips[likes], is_hidden[likes])[0, 1])
    return {name: round(value, 4) for name, value in out.items()}

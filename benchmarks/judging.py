"""Lists that other programs made, judged by our protocol."""

import numpy as np

from tailor.data.splits import Split
from tailor.evaluation.significance import bootstrap
from tailor.metrics.ranking import PER_USER, hits, relevant_counts

METRICS = ("HR", "NDCG")


def judged(split: Split, rows: np.ndarray) -> dict[str, float]:
    """HR@10 and NDCG@10 of (U, 10) item rows of the data set's catalogue, one list a user of the
    test part.
    """
    return {
        metric: round(float(np.mean(values)), 4)
        for metric, values in _per_user(split, rows).items()
    }


def intervals(split: Split, rows: np.ndarray) -> dict[str, list[float]]:
    """The 95 % interval over users of each figure of `judged`."""
    per_user = _per_user(split, rows)
    low, high = bootstrap(np.stack(list(per_user.values()), axis=1))
    return {
        metric: [round(float(a), 4), round(float(b), 4)]
        for metric, a, b in zip(per_user, low, high, strict=True)
    }


def seen_share(split: Split, rows: np.ndarray) -> float:
    """Share of the places of (U, 10) lists that hold an item of the user's history; 0 where these
    were left out as agreed.
    """
    histories, base = split.queries("test")[0].histories, len(split.data.catalogue)
    keys = np.arange(len(rows))[:, None] * base + rows
    return (
        float(np.isin(keys[rows >= 0], histories.row_ids * base + histories.values).mean())
        if (rows >= 0).any()
        else 0.0
    )


def _per_user(split: Split, rows: np.ndarray) -> dict[str, np.ndarray]:
    _, targets = split.queries("test")
    found, relevant = (
        hits(rows, targets.offsets, targets.values),
        relevant_counts(targets.offsets, targets.values),
    )
    return {f"{metric}@10": PER_USER[metric](found, relevant, 10) for metric in METRICS}

"""Judged collections as shortlists: DL19's BM25 lists, Cranfield, CACM and NPL with our BM25.

Texts, queries and judgements are read from the shared data; nothing is learned here.
"""

from collections.abc import Sequence

import numpy as np
from shared_data import dl19, judged

from tailor.evaluation.significance import bootstrap
from tailor.reranking.judged_lists import JudgedList, judged_lists_of, ndcg_by, ndcg_of
from tailor.reranking.shortlist import blended

__all__ = [
    "JudgedList",
    "above",
    "best_prior_weight",
    "judged_lists",
    "ndcg_by",
    "ndcg_of",
    "with_prior",
]


def judged_lists(name: str, depth: int = 50) -> list[JudgedList]:
    """Return the lists of "dl19", "cranfield", "cacm" or "npl", best first by BM25.

    DL19 has the 20 passages that come with it; queries without a judgement above 0 are left out.
    """
    data = dl19() if name == "dl19" else judged(name, depth)
    return judged_lists_of(data, depth)


def with_prior(
    lists: Sequence[JudgedList], scores: Sequence[np.ndarray], weight: float
) -> list[np.ndarray]:
    """Return the scores (n,) of each list blended with its first stage's."""
    pairs = zip(scores, lists, strict=True)
    return [blended(values, item.shortlist.prior, weight) for values, item in pairs]


def best_prior_weight(
    lists: Sequence[JudgedList], scores: Sequence[np.ndarray], weights: Sequence[float]
) -> float:
    """Return the first stage's weight whose blend has the highest nDCG@10; the first of several."""
    return max(weights, key=lambda weight: ndcg_by(lists, with_prior(lists, scores, weight)).mean())


def above(a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return by how much a is above b (Q,), and the 95 % interval over queries."""
    low, high = bootstrap((a - b)[:, None], seed=seed)
    interval = {"low": round(float(low[0]), 4), "high": round(float(high[0]), 4)}
    return {"difference": round(float((a - b).mean()), 4), **interval}

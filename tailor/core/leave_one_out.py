"""Explain a number by what it would be without each event.

Asked again without an event, a method says itself what the event adds; weights of attention do not.
"""

from collections.abc import Sequence

import numpy as np

from tailor.data.nouns import Evidence, Explanation
from tailor.data.queries import Queries

EXPLAINED = 20  # latest events that an explanation considers


def leave_one_out(query: Queries, left_out: np.ndarray) -> Queries:
    """Return one query as it is, then once without each of the events at these positions."""
    count = len(query.histories.values)
    kept = np.ones((len(left_out) + 1, count), dtype=bool)
    kept[np.arange(1, len(kept)), left_out] = False
    return query.take(np.zeros(len(kept), dtype=np.int64)).keep_events(kept.ravel())


def by_cause(item_ids: Sequence[str], causes: np.ndarray, parts: np.ndarray) -> list[Explanation]:
    """Return the explanations of K items' scores by the items that caused them.

    `parts` (n, K) are what events add to the scores, `causes` (n,) the ids of their items. Parts of
    the same item are added; the largest share comes first.
    """
    distinct = list(dict.fromkeys(causes.tolist()))
    if len(distinct) < len(causes):
        row_of = {cause: row for row, cause in enumerate(distinct)}
        summed = np.zeros((len(distinct), parts.shape[1]))
        np.add.at(summed, [row_of[cause] for cause in causes.tolist()], parts)
        parts = summed
    totals = parts.sum(axis=0)
    shares = parts / np.where(totals == 0, 1, totals)
    order = np.argsort(-shares, axis=0, kind="stable")
    counts = np.count_nonzero(parts, axis=0).tolist()
    explanations = []
    for k, (item_id, count) in enumerate(zip(item_ids, counts, strict=True)):
        best = order[:count, k]
        pairs = zip(best.tolist(), shares[best, k].tolist(), strict=True)
        evidence = tuple([Evidence("item", distinct[row], share) for row, share in pairs])
        explanations.append(Explanation(item_id, evidence))
    return explanations

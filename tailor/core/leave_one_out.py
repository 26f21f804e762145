"""Explain a number by what it would be without each event.

Asked again without an event, a method says itself what the event adds; weights of attention do not.
"""

from collections.abc import Sequence

import numpy as np

from tailor.data.nouns import Evidence, Explanation
from tailor.data.queries import Queries

EXPLAINED = 20  # latest events that an explanation considers


def without_each_event(query: Queries, length: int) -> tuple[Queries, np.ndarray]:
    """Return one query with its last `length` events, then without each of the latest.

    Also returns the items of the events left out, EXPLAINED at most, as rows of the catalogue.
    """
    recent = query.keep_events(query.histories.from_end < length)
    events = recent.histories.values
    left_out = np.arange(max(len(events) - EXPLAINED, 0), len(events))
    kept = np.ones((len(left_out) + 1, len(events)), dtype=bool)
    kept[np.arange(1, len(kept)), left_out] = False
    variants = recent.take(np.zeros(len(kept), dtype=np.int64)).keep_events(kept.ravel())
    return variants, events[left_out]


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

"""Explanations put to the test: what happens to an item when the evidence named for it is taken out
of the history.

Nothing here believes an explanation: every figure comes from asking the method again. A history is
taken apart by item, with all events of that item; `Query.exclude` stays as it was, so that what is
taken out of the history does not come back as a recommendation.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.nouns import Evidence, Explanation, History, Query, Ranking
from tailor.data.queries import Rankings
from tailor.errors import DataError, ModelError

NOW = Run()
DEPTH = 100  # places looked at; an item below them counts as gone
DRAWS = 10  # random removals an explanation is compared with
COVER = 0.5  # the strongest evidence, up to this share of the score, is what is taken out
LATEST = 200  # items of a history that are left out one by one
# sets of items that are all tried before the search for a counterfactual turns greedy: any history
# of up to 8 items
TRIES = 256


@dataclass(frozen=True)
class RankDrop:
    """Where an item stands with the whole history, without its evidence, and without as many random
    other events.

    Ranks start at 1; None: not among the first `DEPTH`. Random removals are given one by one.
    """

    figure: float
    """In [-1, 1]: 1: gone without the evidence, unmoved without others; 0: as without others; below
    0: others matter more.
    """
    removed: tuple[str, ...]
    """The evidence taken out."""
    rank: int | None
    score: float | None
    rank_without: int | None
    score_without: float | None
    ranks_random: tuple[int | None, ...]
    scores_random: tuple[float | None, ...]


@dataclass(frozen=True)
class Counterfactual:
    """The items of the history without which an item would not be among the first k."""

    item_id: str
    k: int
    removed: tuple[str, ...]
    """Empty: there are none, or the item is not among the first k anyway."""
    rank: int | None
    """With the whole history, among the first k."""
    is_smallest: bool
    """Every smaller set was tried; else a smaller one may exist."""

    @property
    def is_found(self) -> bool:
        return bool(self.removed)


def remove_items(query: Query, item_ids: Iterable[str]) -> Query:
    """The same query from a history without these items; whatever it excludes stays excluded."""
    gone = set(item_ids)
    return _keeping(query, [at for at, one in enumerate(query.history.item_ids) if one not in gone])


def _keeping(query: Query, places: Sequence[int]) -> Query:
    old = query.history
    columns = {
        name: None if (given := getattr(old, name)) is None else tuple(given[at] for at in places)
        for name in ("times_ms", "actions", "values", "texts")
    }
    return replace(query, history=History(tuple(old.item_ids[at] for at in places), **columns))


def item_positions(
    method: Recommender, queries: Sequence[Query], item_ids: Sequence[str], depth: int = DEPTH
) -> list[tuple[int, float] | None]:
    """For every query, rank and score of its item in a ranking of the whole catalogue; None: not
    among the first `depth`.
    """
    if not queries:
        return []
    lists = Rankings.of(method.recommend(list(queries), depth))
    hits = (lists.rows >= 0) & (lists.rows == lists.catalogue.rows(item_ids)[:, None])
    at = np.where(hits.any(axis=1), hits.argmax(axis=1), -1).tolist()
    return [
        None if place < 0 else (place + 1, float(lists.scores[i, place]))
        for i, place in enumerate(at)
    ]


def leave_one_out(
    method: Recommender, query: Query, item_ids: Sequence[str], depth: int = DEPTH
) -> list[Explanation]:
    """Explanations of these items by any recommender: how much of its score an item loses when one
    item of the history is taken out.

    Scores are compared among the items of one list, the first `depth` and those asked for. Only
    losses count, and shares add up to 1; an item that loses nothing has no evidence. Of a long
    history, the latest `LATEST` items are tried.
    """
    causes = list(dict.fromkeys(reversed(query.history.item_ids)))[:LATEST]
    if not causes or not item_ids:
        return [Explanation(one) for one in item_ids]
    join_names = method.recommend([query], depth)[0].ids
    together = tuple(dict.fromkeys((*join_names, *item_ids)))
    only = Ranking(together, np.arange(len(together), 0, -1, dtype=np.float32))
    asked = [query, *(remove_items(query, (cause,)) for cause in causes)]
    answers = method.recommend(asked, len(together), [only] * len(asked))
    scores = [dict(zip(one.ids, one.scores.tolist(), strict=True)) for one in answers]
    floor = min((min(one.values()) for one in scores if one), default=0.0)
    floor = min(floor, 0.0)  # what is not answered any more has lost all
    out = []
    for item_id in item_ids:
        full = scores[0].get(item_id, floor)
        lost = np.array([max(full - one.get(item_id, floor), 0.0) for one in scores[1:]])
        shares = lost / lost.sum() if lost.sum() > 0 else lost
        order = np.argsort(-shares, kind="stable").tolist()
        out.append(
            Explanation(
                item_id,
                tuple(
                    Evidence("item", causes[at], float(shares[at]))
                    for at in order
                    if shares[at] > 0
                ),
            )
        )
    return out


def explain_rankings(
    method: Recommender, queries: Sequence[Query], rankings: Sequence[Ranking]
) -> list[list[Explanation]]:
    """What the method itself says, or what leaving one out shows where it cannot explain."""
    if method.explains():
        # a pipeline can explain, but perhaps not with these parts
        with contextlib.suppress(ModelError):
            return method.explain(queries, rankings)
    return [leave_one_out(method, queries[i], ranking.ids) for i, ranking in enumerate(rankings)]


# --- faithfulness
# --------------------------------------------------------------------------------------------------------------


def strongest_evidence(
    query: Query, explanation: Explanation, cover: float = COVER
) -> tuple[str, ...]:
    """The items of the history that the explanation names first, up to `cover` of the score; the
    last of them may go beyond.
    """
    known = set(query.history.item_ids)
    named = [
        one
        for one in explanation.evidence
        if one.kind == "item" and one.id in known and one.share > 0
    ]
    before = np.cumsum([0.0, *(one.share for one in named)])[:-1]
    return tuple(one.id for one, sofar in zip(named, before, strict=True) if sofar < cover)


def rank_drops(
    method: Recommender,
    queries: Sequence[Query],
    explanations: Sequence[Explanation],
    run: Run = NOW,
    draws: int = DRAWS,
    cover: float = COVER,
) -> list[RankDrop | None]:
    """`faithfulness` for many queries in one go, one explanation a query."""
    if draws < 1 or not 0 < cover <= 1:
        raise DataError(
            f"draws is {draws}, cover {cover}: draws from 1, cover above 0 and at most 1"
        )
    asked: list[Query] = []
    items: list[str] = []
    # explanation's place, what is removed, where its queries start, how many random ones
    plans = []
    for i, explanation in enumerate(explanations):
        query = queries[i]
        named = strongest_evidence(query, explanation, cover)
        random = _random_removals(query, named, explanation.item_id, run, draws)
        if not random:
            continue
        plans.append((i, named, len(asked), len(random)))
        asked += [query, remove_items(query, named), *random]
        items += [explanation.item_id] * (2 + len(random))
    found = item_positions(method, asked, items)
    out: list[RankDrop | None] = [None] * len(explanations)
    for i, named, start, n in plans:
        places = found[start : start + 2 + n]
        if any(places):
            out[i] = _fall(named, places[0], places[1], places[2:])
    return out


def faithfulness(
    method: Recommender,
    query: Query,
    explanation: Explanation,
    run: Run = NOW,
    draws: int = DRAWS,
    cover: float = COVER,
) -> RankDrop | None:
    """How far the item falls without the evidence, against how far it falls without as many random
    other events.

    An item at rank r stands at 1 / log2(1 + r), the discount of NDCG; below the first `DEPTH` it
    stands at 0. The figure is the mean standing without random events minus the standing without
    the evidence, divided by the highest of the two and the full standing; in [-1, 1]. The evidence
    taken out is the strongest, up to `cover` of the score. None where there is nothing to compare:
    the explanation names no item of the history, no other event is left to draw, or the item is
    always below the first `DEPTH`. All draws are made where they are no more than `draws`; else
    they are keyed by (seed, request id, item).
    """
    return rank_drops(method, [query], [explanation], run, draws, cover)[0]


def with_faithfulness(
    method: Recommender,
    queries: Sequence[Query],
    explanations: Sequence[Sequence[Explanation]],
    run: Run = NOW,
    draws: int = DRAWS,
) -> list[list[Explanation]]:
    """The same explanations with `Explanation.faithfulness` filled in."""
    flat = [(queries[i], one) for i, of_query in enumerate(explanations) for one in of_query]
    figures = iter(
        rank_drops(method, [query for query, _ in flat], [one for _, one in flat], run, draws)
    )
    return [
        [
            replace(one, faithfulness=None if (fall := next(figures)) is None else fall.figure)
            for one in of_query
        ]
        for of_query in explanations
    ]


def _random_removals(
    query: Query, named: Sequence[str], item_id: str, run: Run, draws: int
) -> list[Query]:
    """The query without as many other events as `named` has, several times; fewer where there are
    not as many.
    """
    evidence = set(named)
    others = [at for at, one in enumerate(query.history.item_ids) if one not in evidence]
    n = min(len(query.history) - len(others), len(others))
    if not n:
        return []
    if math.comb(len(others), n) <= draws:
        sets: list[Sequence[int]] = list(itertools.combinations(others, n))
    else:
        rng = run.rng("faithfulness", query.request_id or "", query.user_id or "", item_id)
        sets = [rng.choice(others, n, replace=False).tolist() for _ in range(draws)]
    every = np.arange(len(query.history))
    return [_keeping(query, np.delete(every, gone).tolist()) for gone in sets]


def _fall(
    named: tuple[str, ...],
    full: tuple[int, float] | None,
    evidence: tuple[int, float] | None,
    random: Sequence[tuple[int, float] | None],
) -> RankDrop:
    ours, theirs = _height(evidence), float(np.mean([_height(one) for one in random]))
    top = max(ours, theirs, _height(full))
    parts = [(None, None) if one is None else one for one in (full, evidence, *random)]
    ranks, scores = [rank for rank, _ in parts], [score for _, score in parts]
    return RankDrop(
        (theirs - ours) / top,
        named,
        ranks[0],
        scores[0],
        ranks[1],
        scores[1],
        tuple(ranks[2:]),
        tuple(scores[2:]),
    )


def _height(standing: tuple[int, float] | None) -> float:
    return 0.0 if standing is None else 1 / math.log2(1 + standing[0])


# --- counterfactuals
# -----------------------------------------------------------------------------------------------------------


def counterfactual(
    method: Recommender, query: Query, item_id: str, k: int = 10, tries: int = TRIES
) -> Counterfactual:
    """The smallest set of the history's items without which `item_id` would not be among the first
    k.

    Sets are tried from small to large while all sets of a size fit into `tries`: what is found
    there is the smallest (of equally small ones, the one that says most for the item). Beyond,
    items are taken out in the order of what they contribute until the item is gone, and then those
    that can be spared are put back, `tries` of them looked at. Every answer has been seen to hold
    by asking the method.
    """
    base = item_positions(method, [query], [item_id], k)[0]
    causes = _by_contribution(method, query, item_id) if base else []
    if base is None or not causes:
        return Counterfactual(item_id, k, (), base[0] if base else None, True)

    def is_gone(sets: Sequence[Sequence[str]]) -> list[bool]:
        return [
            one is None
            for one in item_positions(
                method, [remove_items(query, gone) for gone in sets], [item_id] * len(sets), k
            )
        ]

    left = tries
    for size in range(1, len(causes) + 1):
        left -= math.comb(len(causes), size)
        if left < 0:
            return Counterfactual(item_id, k, _greedy(causes, is_gone, tries), base[0], False)
        sets = list(itertools.combinations(causes, size))  # strongest first
        gone = is_gone(sets)
        if any(gone):
            return Counterfactual(item_id, k, sets[gone.index(True)], base[0], True)
    return Counterfactual(item_id, k, (), base[0], True)


def _greedy(
    causes: Sequence[str], is_gone: Callable[[Sequence[Sequence[str]]], list[bool]], tries: int
) -> tuple[str, ...]:
    """The first so many causes whose absence moves the item (found by doubling and halving),
    without those that can be spared.
    """
    sizes = [*(2**n for n in range((len(causes) - 1).bit_length())), len(causes)]
    gone = is_gone([causes[:n] for n in sizes])
    if not any(gone):
        return ()
    at = gone.index(True)
    low, high = (sizes[at - 1] if at else 0), sizes[at]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_gone([causes[:middle]])[0] else (middle, high)
    kept = list(causes[:high])
    for one in kept[::-1][:tries]:  # the weakest is spared first
        fewer = [other for other in kept if other != one]
        if fewer and is_gone([fewer])[0]:
            kept = fewer
    return tuple(kept)


def _by_contribution(method: Recommender, query: Query, item_id: str) -> list[str]:
    """All items of the history: those that the explanation names, strongest first, then the others,
    latest first.
    """
    only = Ranking((item_id,), np.ones(1, np.float32))
    reasons = explain_rankings(method, [query], [only])[0][0]
    known = dict.fromkeys(reversed(query.history.item_ids))
    named = [one.id for one in reasons.evidence if one.kind == "item" and one.id in known]
    return list(dict.fromkeys((*named, *known)))

"""Test explanations by removing the evidence they name from the history.

Every figure comes from asking the method again; no explanation is taken on trust. Removing an item
removes all its events. `Query.exclude` stays as it was, so that a removed item does not come back
as a recommendation.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.nouns import Evidence, Explanation, History, Query, Ranking
from tailor.data.queries import Rankings
from tailor.errors import DataError, ModelError

NOW = Run()
DEPTH = 100  # ranks that are looked at; an item below them counts as gone
DRAWS = 10  # random removals that an explanation is compared with
COVER = 0.5  # the strongest evidence, up to this share of the score, is removed
LATEST = 200  # items of a history that are left out one by one
# sets of items that are tried before the search for a counterfactual turns greedy: all sets of any
# history of up to 8 items
TRIES = 256

Position = tuple[int, float] | None  # rank from 1 and score of an item; None below the depth


@dataclass(frozen=True)
class RankDrop:
    """Ranks of an item with the whole history, without its evidence, and without random events.

    As many random other events are removed as the evidence has. Ranks start at 1; None means below
    the first `DEPTH`.
    """

    figure: float
    """From -1 to 1. 1: gone without the evidence, unmoved without others; 0: as without others;
    below 0: others matter more.
    """
    removed: tuple[str, ...]
    """Item ids of the evidence that was removed."""
    rank: int | None
    score: float | None
    rank_without: int | None
    score_without: float | None
    ranks_random: tuple[int | None, ...]
    """One rank per random removal."""
    scores_random: tuple[float | None, ...]


@dataclass(frozen=True)
class Counterfactual:
    """Items of the history without which an item would not be among the first k."""

    item_id: str
    k: int
    removed: tuple[str, ...]
    """Empty: there are none, or the item is not among the first k anyway."""
    rank: int | None
    """Rank with the whole history, among the first k."""
    is_smallest: bool
    """True if every smaller set was tried; else a smaller one may exist."""

    @property
    def is_found(self) -> bool:
        return bool(self.removed)


def remove_items(query: Query, item_ids: Iterable[str]) -> Query:
    """Return the query with a history without these items; its excluded items stay excluded."""
    removed = set(item_ids)
    events = [i for i, item_id in enumerate(query.history.item_ids) if item_id not in removed]
    return _keep_events(query, events)


def _keep_events(query: Query, positions: Sequence[int]) -> Query:
    """Return the query with only these positions of its history."""
    history = query.history
    columns = {}
    for name in ("times_ms", "actions", "values", "texts"):
        column = getattr(history, name)
        columns[name] = None if column is None else tuple(column[i] for i in positions)
    item_ids = tuple(history.item_ids[i] for i in positions)
    return replace(query, history=History(item_ids, **columns))


def item_positions(
    method: Recommender, queries: Sequence[Query], item_ids: Sequence[str], depth: int = DEPTH
) -> list[Position]:
    """Return rank and score of one item per query in a ranking of the whole catalogue.

    None for an item that is not among the first `depth`.
    """
    if not queries:
        return []
    lists = Rankings.of(method.recommend(list(queries), depth))
    wanted_rows = lists.catalogue.rows(item_ids)[:, None]
    is_item = (lists.rows >= 0) & (lists.rows == wanted_rows)
    columns = np.where(is_item.any(axis=1), is_item.argmax(axis=1), -1).tolist()
    return [
        None if column < 0 else (column + 1, float(lists.scores[i, column]))
        for i, column in enumerate(columns)
    ]


def leave_one_out(
    method: Recommender, query: Query, item_ids: Sequence[str], depth: int = DEPTH
) -> list[Explanation]:
    """Explain items by the score they lose when one item of the history is removed.

    Works for any recommender. Scores are compared within one list of the first `depth` items and
    those in question. Only losses count; shares add up to 1; an item that loses nothing has no
    evidence. Of a long history, the latest `LATEST` items are tried.
    """
    causes = list(dict.fromkeys(reversed(query.history.item_ids)))[:LATEST]
    if not causes or not item_ids:
        return [Explanation(item_id) for item_id in item_ids]
    first_ids = method.recommend([query], depth)[0].ids
    candidate_ids = tuple(dict.fromkeys((*first_ids, *item_ids)))
    descending = np.arange(len(candidate_ids), 0, -1, dtype=np.float32)
    candidates = Ranking(candidate_ids, descending)
    queries = [query, *(remove_items(query, (cause,)) for cause in causes)]
    rankings = method.recommend(queries, len(candidate_ids), [candidates] * len(queries))
    scores = [dict(zip(ranking.ids, ranking.scores.tolist(), strict=True)) for ranking in rankings]
    lowest = min((min(by_id.values()) for by_id in scores if by_id), default=0.0)
    lowest = min(lowest, 0.0)  # an item that is not returned any more has lost all
    explanations = []
    for item_id in item_ids:
        full = scores[0].get(item_id, lowest)
        losses = [max(full - by_id.get(item_id, lowest), 0.0) for by_id in scores[1:]]
        explanations.append(Explanation(item_id, _evidence(causes, np.array(losses))))
    return explanations


def _evidence(causes: Sequence[str], losses: np.ndarray) -> tuple[Evidence, ...]:
    """Return the causes with a loss, largest first, with their shares of all losses (c,)."""
    shares = losses / losses.sum() if losses.sum() > 0 else losses
    order = np.argsort(-shares, kind="stable").tolist()
    return tuple(Evidence("item", causes[i], float(shares[i])) for i in order if shares[i] > 0)


def explain_rankings(
    method: Recommender, queries: Sequence[Query], rankings: Sequence[Ranking]
) -> list[list[Explanation]]:
    """Return the method's own explanations, or those of `leave_one_out` if it has none."""
    if method.explains():
        # a pipeline can explain, but perhaps not with these parts
        with contextlib.suppress(ModelError):
            return method.explain(queries, rankings)
    return [leave_one_out(method, queries[i], ranking.ids) for i, ranking in enumerate(rankings)]


# ---- faithfulness


def strongest_evidence(
    query: Query, explanation: Explanation, cover: float = COVER
) -> tuple[str, ...]:
    """Return the history's items that the explanation names first, up to `cover` of the score.

    The last of them may go beyond.
    """
    history = set(query.history.item_ids)
    item_ids = []
    covered = 0.0
    for evidence in explanation.evidence:
        is_item = evidence.kind == "item" and evidence.id in history
        if is_item and evidence.share > 0 and covered < cover:
            item_ids.append(evidence.id)
            covered += evidence.share
    return tuple(item_ids)


class _Removal(NamedTuple):
    """Queries that test one explanation, as a slice of all queries of a batch."""

    explanation: int
    """Index of the explanation."""
    removed: tuple[str, ...]
    start: int
    """Index of the whole query; the one without evidence and the random ones follow."""
    stop: int


def rank_drops(
    method: Recommender,
    queries: Sequence[Query],
    explanations: Sequence[Explanation],
    run: Run = NOW,
    draws: int = DRAWS,
    cover: float = COVER,
) -> list[RankDrop | None]:
    """Return `faithfulness` for many queries at once, one explanation per query."""
    if draws < 1 or not 0 < cover <= 1:
        raise DataError(
            f"draws is {draws}, cover {cover}: draws from 1, cover above 0 and at most 1"
        )
    batch: list[Query] = []
    item_ids: list[str] = []
    removals: list[_Removal] = []
    for i, explanation in enumerate(explanations):
        query = queries[i]
        removed = strongest_evidence(query, explanation, cover)
        random = _random_removals(query, removed, explanation.item_id, run, draws)
        if random:
            stop = len(batch) + 2 + len(random)
            removals.append(_Removal(i, removed, len(batch), stop))
            batch += [query, remove_items(query, removed), *random]
            item_ids += [explanation.item_id] * (2 + len(random))
    positions = item_positions(method, batch, item_ids)
    drops: list[RankDrop | None] = [None] * len(explanations)
    for removal in removals:
        with_all, without_evidence, *without_random = positions[removal.start : removal.stop]
        if any((with_all, without_evidence, *without_random)):
            drops[removal.explanation] = _rank_drop(
                removal.removed, with_all, without_evidence, without_random
            )
    return drops


def faithfulness(
    method: Recommender,
    query: Query,
    explanation: Explanation,
    run: Run = NOW,
    draws: int = DRAWS,
    cover: float = COVER,
) -> RankDrop | None:
    """Compare an item's drop without its evidence with that without random other events.

    The height of an item at rank r is 1 / log2(1 + r), the discount of NDCG, and 0 below the first
    `DEPTH`. The figure is the mean height without random events minus the height without the
    evidence, divided by the highest of the two and the full height; from -1 to 1. The strongest
    evidence up to `cover` of the score is removed. None where there is nothing to compare: the
    explanation names no item of the history, no other event is left to draw, or the item is always
    below the first `DEPTH`. All random removals are tried where they are no more than `draws`; else
    they are drawn by (seed, request id, user id, item).
    """
    return rank_drops(method, [query], [explanation], run, draws, cover)[0]


def with_faithfulness(
    method: Recommender,
    queries: Sequence[Query],
    explanations: Sequence[Sequence[Explanation]],
    run: Run = NOW,
    draws: int = DRAWS,
) -> list[list[Explanation]]:
    """Return the explanations with `Explanation.faithfulness` filled in."""
    pairs = [(queries[i], entry) for i, entries in enumerate(explanations) for entry in entries]
    drops = rank_drops(
        method, [query for query, _ in pairs], [entry for _, entry in pairs], run, draws
    )
    figures = iter([None if drop is None else drop.figure for drop in drops])
    return [
        [replace(entry, faithfulness=next(figures)) for entry in entries]
        for entries in explanations
    ]


def _random_removals(
    query: Query, evidence: Sequence[str], item_id: str, run: Run, draws: int
) -> list[Query]:
    """Return queries without as many other events as the evidence has.

    Fewer events where the history has not as many others.
    """
    evidence_ids = set(evidence)
    item_ids = query.history.item_ids
    others = [i for i, other_id in enumerate(item_ids) if other_id not in evidence_ids]
    n = min(len(item_ids) - len(others), len(others))
    if not n:
        return []
    removals: list[Sequence[int]]
    if math.comb(len(others), n) <= draws:
        removals = list(itertools.combinations(others, n))
    else:
        rng = run.rng("faithfulness", query.request_id or "", query.user_id or "", item_id)
        removals = [rng.choice(others, n, replace=False).tolist() for _ in range(draws)]
    positions = np.arange(len(item_ids))
    return [_keep_events(query, np.delete(positions, removal).tolist()) for removal in removals]


def _rank_drop(
    removed: tuple[str, ...],
    with_all: Position,
    without_evidence: Position,
    without_random: Sequence[Position],
) -> RankDrop:
    """Return the drop of an item from its positions."""
    evidence_height = _height(without_evidence)
    random_height = float(np.mean([_height(position) for position in without_random]))
    highest = max(evidence_height, random_height, _height(with_all))
    rank, score = with_all or (None, None)
    rank_without, score_without = without_evidence or (None, None)
    return RankDrop(
        figure=(random_height - evidence_height) / highest,
        removed=removed,
        rank=rank,
        score=score,
        rank_without=rank_without,
        score_without=score_without,
        ranks_random=tuple(None if entry is None else entry[0] for entry in without_random),
        scores_random=tuple(None if entry is None else entry[1] for entry in without_random),
    )


def _height(position: Position) -> float:
    """Return the discount of NDCG at a rank, 0 for None."""
    return 0.0 if position is None else 1 / math.log2(1 + position[0])


# ---- counterfactuals


def counterfactual(
    method: Recommender, query: Query, item_id: str, k: int = 10, tries: int = TRIES
) -> Counterfactual:
    """Find the smallest set of the history's items that keeps an item among the first k.

    Sets are tried from small to large while all sets of a size fit into `tries`; a set found so is
    the smallest (of equally small ones, the strongest evidence). Beyond, items are removed in order
    of their contribution until the item is gone, and those that are not needed are put back, with
    `tries` attempts. Every result was confirmed by asking the method.
    """
    position = item_positions(method, [query], [item_id], k)[0]
    if position is None:
        return Counterfactual(item_id, k, (), None, True)
    causes = _items_by_contribution(method, query, item_id)

    def is_gone(sets: Sequence[Sequence[str]]) -> list[bool]:
        queries = [remove_items(query, removed) for removed in sets]
        positions = item_positions(method, queries, [item_id] * len(sets), k)
        return [position is None for position in positions]

    tries_left = tries
    for size in range(1, len(causes) + 1):
        tries_left -= math.comb(len(causes), size)
        if tries_left < 0:
            removed = _remove_greedily(causes, is_gone, tries)
            return Counterfactual(item_id, k, removed, position[0], False)
        sets = list(itertools.combinations(causes, size))  # strongest first
        gone = is_gone(sets)
        if any(gone):
            return Counterfactual(item_id, k, sets[gone.index(True)], position[0], True)
    return Counterfactual(item_id, k, (), position[0], True)


def _remove_greedily(
    causes: Sequence[str], is_gone: Callable[[Sequence[Sequence[str]]], list[bool]], tries: int
) -> tuple[str, ...]:
    """Return the shortest prefix of causes that removes the item, without unneeded ones.

    The length is found by doubling, then by bisection.
    """
    sizes = [*(2**n for n in range((len(causes) - 1).bit_length())), len(causes)]
    gone = is_gone([causes[:n] for n in sizes])
    if not any(gone):
        return ()
    first = gone.index(True)
    low = sizes[first - 1] if first else 0
    high = sizes[first]
    while high - low > 1:
        middle = (low + high) // 2
        if is_gone([causes[:middle]])[0]:
            high = middle
        else:
            low = middle
    removed = list(causes[:high])
    for cause in removed[::-1][:tries]:  # the weakest is put back first
        fewer = [other for other in removed if other != cause]
        if fewer and is_gone([fewer])[0]:
            removed = fewer
    return tuple(removed)


def _items_by_contribution(method: Recommender, query: Query, item_id: str) -> list[str]:
    """Return all items of the history: the evidence, strongest first, then the latest."""
    candidates = Ranking((item_id,), np.ones(1, np.float32))
    explanation = explain_rankings(method, [query], [candidates])[0][0]
    latest_first = dict.fromkeys(reversed(query.history.item_ids))
    evidence_ids = [
        evidence.id
        for evidence in explanation.evidence
        if evidence.kind == "item" and evidence.id in latest_first
    ]
    return list(dict.fromkeys((*evidence_ids, *latest_first)))

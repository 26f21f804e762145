"""Fusion: several recommenders vote."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import scipy.sparse as sp

from tailor.core.costs import Cost, Stopwatch, stand_in
from tailor.core.methods import Recommender, ScoringRecommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split, inner_cut
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError
from tailor.pipeline.joining import one_catalogue, part_names

BLOCK = 2048  # queries fused at a time
SAMPLE = 512  # queries that an estimate asks
CELLS = 2_000_000  # queries times items whose sums are found at a time
TUNING_PAIRS = 6_000_000  # (target, candidate) pairs looked at while weights are learned
# the vote for an item that a part names and scores 0: no entry of a sparse matrix would mean that
# it is not named
LEAST = 1e-9
STEP = 20  # weights are learned in steps of 1 / STEP


@dataclass(eq=False)
class Fuse(Recommender):
    """Adds up what several recommenders say, each scaled to at most 1 per query and given a weight.

    "score" fusion divides each part's scores by its best one for the query (CombSUM, Fox and Shaw
    1994, with weights); "rank" fusion uses 1 / (rank_constant + rank) (reciprocal rank fusion,
    Cormack et al. 2009). Weights are learned on validation by NDCG@10: a walk over weights in steps
    of .05, or given.
    """

    parts: list[Recommender] = field(default_factory=list)
    kind: Literal["score", "rank"] = "score"
    weights: tuple[float, ...] | None = None
    """One a part; left out: learned."""
    depth: int = 200
    """Items asked of each part."""
    rank_constant: float = 60.0
    exclude_history: bool = True
    """While weights are learned: whether items of the history may be answered."""

    parts_: list[Recommender] = field(init=False, repr=False)
    weights_: list[float] = field(init=False, repr=False)
    """Sums to 1."""

    def __post_init__(self) -> None:
        if not self.parts or not all(isinstance(part, Recommender) for part in self.parts):
            raise ModelError(f"Fuse.parts is {self.parts!r}: it must be recommenders, at least one")
        given = self.weights
        if given is not None and not (
            len(given) == len(self.parts) and min(given) >= 0 and sum(given) > 0
        ):
            raise ModelError(
                f"Fuse.weights {self.weights}: one a part ({len(self.parts)}), none negative, not"
                " all 0"
            )
        if self.depth < 1:
            raise ModelError(f"Fuse.depth is {self.depth}: it must be at least 1")

    @classmethod
    def tiny(cls) -> Self:
        return build(
            {"class": "Fuse", "parts": [{"class": "CoVisitation"}, {"class": "TextNeighbours"}]},
            cls,
        )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        def fitted(on: Dataset) -> list[Recommender]:
            steps = run.progress(
                [clone(part) for part in self.parts], "fitting parts", len(self.parts)
            )
            return [part.fit(on, run, valid if on is data else None) for part in steps]

        if self.weights is not None:
            self.parts_, given = fitted(data), np.array(self.weights) / sum(self.weights)
            self.weights_, self.fit_report_ = given.tolist(), {"weights": "given"}
            return
        cut = valid or inner_cut(data, run.seed)
        if cut is None:
            self.parts_, self.weights_ = fitted(data), [1 / len(self.parts)] * len(self.parts)
            self.fit_report_ = {"weights": "equal: nobody has the 3 events needed to learn them"}
            return
        self.parts_ = fitted(data if valid else cut.train)
        self.weights_, score = self._learned(cut, run)
        names = part_names(self.parts)
        self.fit_report_ = {
            "weights": dict(zip(names, self.weights_, strict=True)),
            "validation_ndcg@10": round(score, 5),
            "learned_on": "validation" if valid else "an inner cut, then refitted",
        }
        if valid is None:
            self.parts_ = fitted(data)

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """The parts in turn, twice where weights are learned on an inner cut, and the learning by
        the time that it takes of a few queries.
        """
        stand_ins = [stand_in(clone(part), data, run, valid) for part in self.parts]
        self.parts_, self.weights_ = (
            [part for part, _ in stand_ins],
            list(self.weights or [1 / len(self.parts)] * len(self.parts)),
        )
        names = part_names(self.parts)
        cut = None if self.weights is not None else valid or inner_cut(data, run.seed)
        costs = [
            (name, cost.times(2 if cut is not None and valid is None else 1))
            for name, (_, cost) in zip(names, stand_ins, strict=True)
        ]
        if cut is not None:
            costs.append(("weights", self._estimate_learning(cut, run)))
        return Cost.in_turn(costs)

    def _estimate_learning(self, cut: Split, run: Run) -> Cost:
        watch = Stopwatch()
        queries, targets = cut.queries("valid")
        before = watch.lap()
        some, problem = np.sort(run.rng("fusion").permutation(len(queries))[:SAMPLE]), _Problem()
        self._ask(queries, targets.distinct(), some, problem)
        share = min(
            len(queries) / max(len(some), 1),
            (TUNING_PAIRS * len(some) / max(problem.pairs, 1) + BLOCK) / max(len(some), 1),
        )
        asking = watch.lap() * share
        problem.best_weights(len(self.parts))
        held = (problem.pairs * share) * (4 * len(self.parts) + 9)
        return Cost(before + asking + watch.lap() * share, 0, 2 * held)

    def restrict(self, queries: Queries) -> Queries:
        for part in self.parts_:
            queries = part.restrict(queries)
        return queries

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        blocks = []
        for start in range(0, len(queries), BLOCK):
            some = None if candidates is None else candidates[start : start + BLOCK]
            blocks.append(self._fused(queries[start : start + BLOCK], k, some))
        return (
            Rankings.stack([block.reindexed(blocks[0].catalogue) for block in blocks])
            if blocks
            else Rankings.empty(Vocabulary([]), 0, k)
        )

    def _fused(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        parts, weights = self._voters()
        lists, notes = self._lists(parts, queries, max(k, self.depth), candidates)
        catalogue, rows, scores = (
            lists[0].catalogue,
            _side_by_side([part.rows for part in lists], -1),
            _side_by_side([part.scores for part in lists], -np.inf),
        )
        votes, size = self._scaled(rows, scores), max(1, CELLS // max(len(catalogue), 1))
        found = [
            _together(rows[i : i + size], votes[i : i + size], weights, len(catalogue), k)
            for i in range(0, len(queries), size)
        ]
        best, sums = (np.concatenate([one[i] for one in found]) for i in range(2))
        columns = dict(
            zip(
                part_names(parts), np.concatenate([own for _, _, own in found], axis=1), strict=True
            )
        )
        short = (
            {i: notes[i] for i in np.flatnonzero(best[:, -1] < 0).tolist() if i in notes}
            if notes
            else {}
        )
        return Rankings(catalogue, best, sums, f"fused {self.kind}", columns, short)

    def _voters(self) -> tuple[list[Recommender], list[float]]:
        """The parts that have a weight, and their weights."""
        voting = [
            (part, weight)
            for part, weight in zip(self.parts_, self.weights_, strict=True)
            if weight > 0
        ]
        return [part for part, _ in voting], [weight for _, weight in voting]

    def _lists(
        self,
        parts: Sequence[Recommender],
        queries: Queries,
        depth: int,
        candidates: Rankings | None,
    ) -> tuple[list[Rankings], dict[int, tuple[str, ...]]]:
        """The parts' lists over one catalogue, and what the parts say of each query."""
        first = parts[0]
        if isinstance(first, ScoringRecommender) and all(
            isinstance(part, ScoringRecommender) and part.items_.is_within(first.items_)
            for part in parts
        ):
            queries = queries.reindexed(first.items_)  # looked up once, not by every part
        lists = one_catalogue([part.recommend(queries, depth, candidates) for part in parts])
        notes: dict[int, tuple[str, ...]] = {}
        for part in lists:
            notes |= {i: notes.get(i, ()) + note for i, note in part.notes.items()}
        return lists, notes

    def _votes(
        self,
        parts: Sequence[Recommender],
        queries: Queries,
        depth: int,
        candidates: Rankings | None,
    ) -> tuple[Vocabulary, list[sp.csr_matrix]]:
        """The catalogue, and one (Q, N) sparse matrix of scaled scores a part."""
        lists, _ = self._lists(parts, queries, depth, candidates)
        catalogue = lists[0].catalogue
        return catalogue, [
            part.ragged().matrix(
                len(catalogue), self._scaled(part.rows, part.scores)[part.rows >= 0]
            )
            for part in lists
        ]

    def _scaled(self, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(..., K) float32: the best item of every list at 1; what stands where a list has no item
        means nothing.
        """
        if self.kind == "rank":
            ranks = np.arange(1, rows.shape[-1] + 1, dtype=np.float32)
            return np.broadcast_to(
                (self.rank_constant + 1) / (self.rank_constant + ranks), rows.shape
            )
        there = rows >= 0
        low = np.where(there, scores, 0).min(
            axis=-1, initial=0, keepdims=True
        )  # 0 unless scores are negative: then they are moved up to 0 first
        high = np.where(there, scores, -np.inf).max(axis=-1, initial=-np.inf, keepdims=True)
        spread = np.where(high > low, high - low, 1)
        return np.maximum((scores - low) / spread, LEAST).astype(np.float32)

    def _learned(self, cut: Split, run: Run) -> tuple[list[float], float]:
        queries, targets = cut.queries("valid")
        targets = targets.distinct()
        chosen = run.rng("fusion").permutation(len(queries))
        problem = _Problem()
        for start in run.progress(
            range(0, len(chosen), BLOCK), "learning weights", -(-len(chosen) // BLOCK)
        ):
            self._ask(queries, targets, np.sort(chosen[start : start + BLOCK]), problem)
            if problem.pairs > TUNING_PAIRS:
                break
        return problem.best_weights(len(self.parts))

    def _ask(
        self, queries: Queries, targets: Ragged, some: np.ndarray, problem: "_Problem"
    ) -> None:
        """Add to `problem` what the parts say to `some` of the queries, and what they should have
        said.
        """
        asked = queries.take(some)
        if self.exclude_history:
            asked = asked.without_history()
        catalogue, votes = self._votes(self.parts_, self.restrict(asked), self.depth, None)
        moved = targets.take(some)
        to = queries.catalogue.mapping_to(catalogue)
        problem.add(votes, moved if to is None else moved.with_values(to[moved.values]))

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The parts' explanations, weighted by what each part adds to the item's score in a ranking
        of the whole catalogue.

        An item that stands in no part's first `depth` is weighed among the items of its ranking
        instead.
        """
        self._check_fitted()
        asked = self.restrict(Queries.of(queries))
        parts, _ = self._voters()
        shares = self._shares(asked, rankings, None)
        if any((one.sum(axis=0) == 0).any() for one in shares):
            deeper = self._shares(asked, rankings, Rankings.of(rankings))
            shares = [
                np.where(one.sum(axis=0) > 0, one, other)
                for one, other in zip(shares, deeper, strict=True)
            ]
        by_part = [part.explain(asked, rankings) if part.explains() else None for part in parts]
        out = []
        for i, ranking in enumerate(rankings):
            reasons = [
                [explained[i][k] if explained else None for explained in by_part]
                for k in range(len(ranking))
            ]
            out.append(
                [
                    _weighted(one, reasons[k], shares[i][:, k], part_names(parts))
                    for k, one in enumerate(ranking.ids)
                ]
            )
        return out

    def _shares(
        self, queries: Queries, rankings: Sequence[Ranking], candidates: Rankings | None
    ) -> list[np.ndarray]:
        """For every ranking (parts, K): the share of each item's score that each part brings; 0
        where no part names the item.
        """
        parts, weights = self._voters()
        depth = self.depth if candidates is None else max(self.depth, candidates.rows.shape[1])
        catalogue, votes = self._votes(parts, queries, depth, candidates)
        out = []
        for i, ranking in enumerate(rankings):
            rows = catalogue.rows(ranking.ids)
            added = np.zeros((len(parts), len(rows)))
            for at, (weight, vote) in enumerate(zip(weights, votes, strict=True)):
                added[at, rows >= 0] = weight * vote[i, rows[rows >= 0]].toarray().ravel()
            out.append(added / np.maximum(added.sum(axis=0), 1e-12))
        return out


def _weighted(
    item_id: str, parts: Sequence[Explanation | None], shares: np.ndarray, names: Sequence[str]
) -> Explanation:
    found: dict[tuple[str, str], float] = {}
    for part, share, name in zip(parts, shares, names, strict=True):
        if share <= 0:
            continue
        evidence = part.evidence if part and part.evidence else (Evidence("part", name, 1.0),)
        for one in evidence:
            found[one.kind, one.id] = found.get((one.kind, one.id), 0.0) + float(share) * one.share
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    return Explanation(item_id, tuple(Evidence(kind, one, share) for (kind, one), share in ordered))


def _side_by_side(lists: Sequence[np.ndarray], nothing: float) -> np.ndarray:
    """P lists (Q, K or fewer) as (Q, P, K), filled up with `nothing`."""
    out = np.full(
        (len(lists[0]), len(lists), max(one.shape[1] for one in lists)),
        nothing,
        dtype=lists[0].dtype,
    )
    for at, one in enumerate(lists):
        out[:, at, : one.shape[1]] = one
    return out


def _together(
    rows: np.ndarray, votes: np.ndarray, weights: Sequence[float], width: int, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k items (Q, k) of the highest sums over lists (Q, P, K) of rows and their votes, the
    sums, and (P, Q, k) each list's own part, NaN where it has none.

    Sums stand in a cell for each of Q * `width` items: for few queries that costs a tenth of adding
    sparse matrices.
    """
    n, parts, _ = rows.shape
    there = rows >= 0
    cells = (rows + width * np.arange(n)[:, None, None])[there]
    worth, own = (votes * np.array(weights, dtype=np.float32)[:, None])[there], votes[there]
    total = np.bincount(cells, worth, n * width).astype(np.float32).reshape(n, width)
    best, sums = top_k(np.where(total == 0, np.float32(-np.inf), total), k)
    chosen, place = best >= 0, np.full(n * width, -1, dtype=np.int32)
    place[(best + width * np.arange(n)[:, None])[chosen]] = np.flatnonzero(chosen)
    at = place[cells]
    hit = np.flatnonzero(at >= 0)
    said = np.full((parts, n * k), np.nan, dtype=np.float32)
    said[np.broadcast_to(np.arange(parts)[:, None], rows.shape)[there][hit], at[hit]] = own[hit]
    return best, sums, said.reshape(parts, n, k)


class _Problem:
    """NDCG@10 on validation as a function of the weights: for every target, the parts' votes on it
    and on its rivals.
    """

    def __init__(self) -> None:
        self.targets: list[np.ndarray] = []  # (T, parts) votes on the target
        # (pairs, parts) votes on every item of the target's query
        self.rivals: list[np.ndarray] = []
        # (pairs,) whether the item stands before the target where the two tie
        self.is_ahead: list[np.ndarray] = []
        self.rivals_n: list[np.ndarray] = []  # (T,)
        self.worth: list[np.ndarray] = []  # (T,) 1 / (ideal DCG of the query)
        self.queries_n = 0
        self.pairs = 0

    def add(self, votes: Sequence[sp.csr_matrix], targets: Ragged) -> None:
        some = sum(abs(vote) for vote in votes).tocsr()  # every item that any part named
        owners = np.repeat(np.arange(some.shape[0]), np.diff(some.indptr))
        every = np.stack([np.asarray(vote[owners, some.indices]).ravel() for vote in votes], axis=1)
        known = targets.values >= 0  # a target that is in no part's catalogue is missed by all
        on_target = np.stack(
            [
                np.asarray(vote[targets.row_ids, targets.values * known]).ravel() * known
                for vote in votes
            ],
            axis=1,
        )
        ideal = np.cumsum(1 / np.log2(np.arange(2, 12)))[np.minimum(targets.lengths, 10) - 1]
        named = on_target.any(axis=1)  # the others are misses whatever the weights
        items = Ragged(some.indptr.astype(np.int64), np.arange(len(owners))).take(
            targets.row_ids[named]
        )
        self.targets.append(on_target[named])
        self.rivals.append(every[items.values])
        self.is_ahead.append(
            some.indices[items.values] < np.repeat(targets.values[named], items.lengths)
        )
        self.rivals_n.append(items.lengths)
        self.worth.append(1 / ideal[targets.row_ids[named]])
        self.queries_n += len(targets)
        self.pairs += len(items.values)

    def best_weights(self, parts: int) -> tuple[list[float], float]:
        """The best found by moving one step of weight from one part to another, from the even start
        and from each part alone.
        """
        targets, rivals = np.concatenate(self.targets), np.concatenate(self.rivals)
        counts, worth, ahead = (
            np.concatenate(self.rivals_n),
            np.concatenate(self.worth),
            np.concatenate(self.is_ahead),
        )
        if not len(targets):
            return [1 / parts] * parts, 0.0
        starts = np.r_[0, np.cumsum(counts)[:-1]]
        known: dict[tuple[int, ...], float] = {}

        def quality(steps: tuple[int, ...]) -> float:
            if steps not in known:
                weights = (np.array(steps) / STEP).astype(np.float32)
                own = targets @ weights
                bar = np.repeat(own, counts) * np.where(
                    ahead, np.float32(1 - 1e-6), np.float32(1 + 1e-6)
                )
                above = np.add.reduceat(((rivals @ weights) > bar).astype(np.int32), starts)
                gains = np.where((above < 10) & (own > 0), 1 / np.log2(above + 2), 0.0)
                known[steps] = float((gains * worth).sum() / self.queries_n)
            return known[steps]

        even = [STEP // parts + (i < STEP % parts) for i in range(parts)]
        best = max(
            (tuple(even), *(tuple(STEP * (i == j) for i in range(parts)) for j in range(parts))),
            key=quality,
        )
        for size in (4, 2, 1):
            while True:
                moves = [
                    _moved(best, i, j, size)
                    for i, j in itertools.permutations(range(parts), 2)
                    if best[i] >= size
                ]
                top = max(moves, key=quality, default=best)
                if quality(top) <= quality(best):
                    break
                best = top
        return [step / STEP for step in best], quality(best)


def _moved(steps: tuple[int, ...], source: int, target: int, size: int) -> tuple[int, ...]:
    return tuple(step - size * (i == source) + size * (i == target) for i, step in enumerate(steps))

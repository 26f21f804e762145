"""Fuse: several recommenders vote."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self, TypeVar

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
from tailor.pipeline.fusion_report import KEPT, REMOVED, choice_report, idle_parts, labels
from tailor.pipeline.fusion_weights import Choice, WeightSearch
from tailor.pipeline.joining import one_catalogue, part_names, scattered

BLOCK = 2048  # queries fused at a time
SAMPLE = 512  # queries of a cost estimate
CELLS = 2_000_000  # queries times items whose votes are summed at a time
TUNING_PAIRS = 6_000_000  # (target, rival) pairs looked at while weights are learned
T = TypeVar("T")
# the vote for an item that a part names and scores 0: an absent entry of a sparse matrix would mean
# that the part does not name it
MIN_VOTE = 1e-9
MIN_TOTAL = 1e-12  # divisor of shares that sum to nothing


@dataclass(eq=False)
class Fuse(Recommender):
    """Adds up the votes of several recommenders: scores scaled to at most 1 per query, weighted.

    "score" fusion divides each part's scores by its best one for the query (CombSUM, Fox and Shaw
    1994, with weights). "rank" fusion uses 1 / (rank_constant + rank) (reciprocal rank fusion,
    Cormack et al. 2009).

    Weights that are not set are learned on validation by NDCG@10, in steps of .05: parts come in
    one by one while they raise it significantly, and all others have weight 0 and are not asked.
    They are learned twice, for lists without the items of a history and for lists with them;
    queries are answered by the weights of their kind.
    """

    parts: list[Recommender] = field(default_factory=list)
    """Recommenders that vote."""
    kind: Literal["score", "rank"] = "score"
    """What a vote is made of: the part's score or its rank."""
    weights: tuple[float, ...] | None = None
    """One weight a part; None: learned."""
    depth: int = 200
    """Length of the list that each part is asked for."""
    rank_constant: float = 60.0
    """Added to ranks: a larger one makes the first ranks more alike. For "rank" only."""
    exclude_history: bool | None = None
    """Lists that weights are learned for: without items of the history, with them; None: both."""

    parts_: list[Recommender | None] = field(init=False, repr=False)
    """Fitted parts; None for one without a weight, unless it may exclude items."""
    weights_: list[float] = field(init=False, repr=False)
    """One a part, for lists without items of the history; they sum to 1."""
    kept_weights_: list[float] = field(init=False, repr=False)
    """The same for lists with items of the history."""

    def __post_init__(self) -> None:
        if not self.parts or not all(isinstance(part, Recommender) for part in self.parts):
            raise ModelError(f"Fuse.parts is {self.parts!r}: it must be recommenders, at least one")
        if self.weights is not None:
            are_weights = len(self.weights) == len(self.parts) and min(self.weights) >= 0
            if not (are_weights and sum(self.weights) > 0):
                raise ModelError(
                    f"Fuse.weights {self.weights}: one a part ({len(self.parts)}), none negative,"
                    " not all 0"
                )
        if self.depth < 1:
            raise ModelError(f"Fuse.depth is {self.depth}: it must be at least 1")

    @classmethod
    def tiny(cls) -> Self:
        return build(
            {"class": "Fuse", "parts": [{"class": "CoVisitation"}, {"class": "TextNeighbours"}]},
            cls,
        )

    # --- fitting

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        if self.weights is None:
            self._fit_with_weights(data, run, valid)
        else:
            self.parts_ = [*_fitted(self.parts, data, run, valid)]
            self._set_weights((np.array(self.weights) / sum(self.weights)).tolist())
            self.fit_report_ = {"weights": "given"}
        names = part_names(self.parts)
        reports = {
            name: part.fit_report_
            for name, part in zip(names, self.parts_, strict=True)
            if part is not None and part.fit_report_
        }
        if reports:
            self.fit_report_["parts"] = reports

    def _set_weights(self, weights: list[float]) -> None:
        """Use the same weights for both kinds of lists."""
        self.weights_ = self.kept_weights_ = weights

    def _fit_with_weights(self, data: Dataset, run: Run, valid: Split | None) -> None:
        """Fit the parts; choose among them on `valid` or on an inner cut."""
        pool, left_out = self._pool(data)
        parts = [self.parts[number] for number in pool]
        cut = valid or inner_cut(data, run.seed)
        if cut is None:
            self.parts_ = self._placed(pool, _fitted(parts, data, run, valid), None)
            self._set_weights(self._placed(pool, [1 / len(parts)] * len(parts), 0.0))
            self.fit_report_ = {"weights": "equal: nobody has the 3 events needed to learn them"}
            return
        fitted = _fitted(parts, data if valid else cut.train, run, valid)
        queries, targets = cut.queries("valid")
        choices = {
            kind: self._choice(fitted, queries, targets.distinct(), kind, run)
            for kind in self._kinds()
        }
        used = [
            p
            for p, part in enumerate(parts)
            if _restricts(part) or any(choice.weights[p] for choice in choices.values())
        ]
        kept = [fitted[p] for p in used]
        if valid is None:
            kept = _fitted([parts[p] for p in used], data, run, valid)
        self.parts_ = self._placed([pool[p] for p in used], kept, None)
        weights = {kind: self._placed(pool, one.weights, 0.0) for kind, one in choices.items()}
        self.weights_ = weights.get(REMOVED) or weights[KEPT]
        self.kept_weights_ = weights.get(KEPT) or weights[REMOVED]
        names = labels(self.parts)
        tried = [names[number] for number in pool]
        reasons = {names[number]: reason for number, reason in left_out.items()}
        self.fit_report_ = {
            **choice_report(choices, tried, data, queries, targets),
            "left_out": reasons | idle_parts(choices, tried),
            "learned_on": "validation" if valid else "an inner cut, then refitted",
        }

    def _placed(self, numbers: Sequence[int], values: Sequence[T], absent: T) -> list[T]:
        """Return a value for every part: those of some parts, by their numbers, else `absent`."""
        placed = [absent] * len(self.parts)
        for number, value in zip(numbers, values, strict=True):
            placed[number] = value
        return placed

    def _kinds(self) -> tuple[str, ...]:
        """Return the kinds of lists that weights are learned for."""
        if self.exclude_history is None:
            return (REMOVED, KEPT)
        return (REMOVED,) if self.exclude_history else (KEPT,)

    def _pool(self, data: Dataset) -> tuple[list[int], dict[int, str]]:
        """Return the numbers of the parts that suit `data`, and why the others do not.

        All parts where none does.
        """
        reasons = [part.unsuited(data) for part in self.parts]
        pool = [p for p, reason in enumerate(reasons) if not reason]
        if not pool:
            return list(range(len(self.parts))), {}
        return pool, {p: reason for p, reason in enumerate(reasons) if reason}

    def _choice(
        self,
        parts: Sequence[Recommender],
        queries: Queries,
        targets: Ragged,
        kind: str,
        run: Run,
    ) -> Choice:
        """Return the weights with the best NDCG@10 on queries of one kind with distinct targets."""
        order = run.rng("fusion").permutation(len(queries))
        search = WeightSearch()
        starts = range(0, len(order), BLOCK)
        label = f"learning weights, seen items {kind}"
        for start in run.progress(starts, label, len(starts)):
            numbers = np.sort(order[start : start + BLOCK])
            self._add_votes(search, parts, queries.take(numbers), targets.take(numbers), kind)
            if search.pair_count > TUNING_PAIRS:
                break
        return search.choice(len(parts))

    def _add_votes(
        self,
        search: WeightSearch,
        parts: Sequence[Recommender],
        queries: Queries,
        targets: Ragged,
        kind: str,
    ) -> None:
        """Add the parts' votes for queries with targets to a search."""
        asked = queries.without_history() if kind == REMOVED else queries
        catalogue, votes = self._votes(parts, _restricted(parts, asked), self.depth, None)
        row_in = queries.catalogue.mapping_to(catalogue)
        if row_in is not None:
            targets = targets.with_values(row_in[targets.values])
        search.add(votes, targets)

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """Return the sum of the costs of the parts and of learning the weights.

        With an inner cut the parts are fitted twice, at most: those without weight are not.
        """
        pool = self._pool(data)[0] if self.weights is None else list(range(len(self.parts)))
        parts = [self.parts[number] for number in pool]
        stand_ins = [stand_in(clone(part), data, run, valid) for part in parts]
        self.parts_ = self._placed(pool, [part for part, _ in stand_ins], None)
        equal = self._placed(pool, [1 / len(parts)] * len(parts), 0.0)
        self._set_weights(list(self.weights or equal))
        cut = None if self.weights is not None else valid or inner_cut(data, run.seed)
        fits = 2 if cut is not None and valid is None else 1
        costs = [
            (name, cost.times(fits))
            for name, (_, cost) in zip(part_names(parts), stand_ins, strict=True)
        ]
        if cut is not None:
            costs.append(("weights", self._estimate_search(cut, run).times(len(self._kinds()))))
        return Cost.in_turn(costs)

    def _estimate_search(self, cut: Split, run: Run) -> Cost:
        """Return the cost of learning weights, extrapolated from a sample of the queries."""
        watch = Stopwatch()
        queries, targets = cut.queries("valid")
        setup_s = watch.lap()
        sample = np.sort(run.rng("fusion").permutation(len(queries))[:SAMPLE])
        search = WeightSearch()
        kind = self._kinds()[0]
        distinct = targets.distinct().take(sample)
        parts = self._kept_parts()
        self._add_votes(search, parts, queries.take(sample), distinct, kind)
        pairs_per_query = search.pair_count / max(len(sample), 1)
        # queries looked at before the search has enough pairs
        limit = BLOCK + TUNING_PAIRS / max(pairs_per_query, 1 / SAMPLE)
        factor = min(len(queries), limit) / max(len(sample), 1)
        voting_s = watch.lap() * factor
        search.choice(len(parts))
        search_s = watch.lap() * factor
        pair_bytes = 4 * len(parts) + 17  # votes, place, target
        return Cost(setup_s + voting_s + search_s, 0, 2 * search.pair_count * factor * pair_bytes)

    # --- recommending

    def restrict(self, queries: Queries) -> Queries:
        return _restricted(self._kept_parts(), queries)

    def _kept_parts(self) -> list[Recommender]:
        """Return the fitted parts that have a weight or may exclude items."""
        return [part for part in self.parts_ if part is not None]

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        blocks = []
        for start in range(0, len(queries), BLOCK):
            stop = start + BLOCK
            lists = None if candidates is None else candidates[start:stop]
            blocks.append(self._fused_by_kind(queries[start:stop], k, lists))
        if not blocks:
            return Rankings.empty(Vocabulary([]), 0, k)
        return Rankings.stack([block.reindexed(blocks[0].catalogue) for block in blocks])

    def _fused_by_kind(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """Return the lists of queries of both kinds: with the items of a history, and without."""
        hidden = self._hides_history(queries)
        if hidden.all() or not hidden.any():
            return self._fused(queries, k, candidates, bool(hidden.all()))
        parts = []
        for numbers in (np.flatnonzero(hidden), np.flatnonzero(~hidden)):
            lists = None if candidates is None else candidates.take(numbers)
            hides = bool(hidden[numbers[0]])
            parts.append((numbers, self._fused(queries.take(numbers), k, lists, hides)))
        return scattered(parts, len(queries), k)

    def _hides_history(self, queries: Queries) -> np.ndarray:
        """Return (B,) bool: true for queries that are answered without items of the history."""
        if self._weights_of(True) == self._weights_of(False):
            return np.ones(len(queries), dtype=bool)
        return queries.hides_history()

    def _fused(
        self, queries: Queries, k: int, candidates: Rankings | None, hides_history: bool
    ) -> Rankings:
        """Return the lists with the highest sums of votes."""
        parts, weights, names = self._voters(hides_history)
        lists = self._lists(parts, queries, max(k, self.depth), candidates)
        catalogue = lists[0].catalogue
        rows = _side_by_side([part.rows for part in lists], -1)  # B, P, K
        scores = _side_by_side([part.scores for part in lists], -np.inf)
        votes = self._scaled(rows, scores)
        size = max(1, CELLS // max(len(catalogue), 1))
        blocks = [
            _sum_votes(rows[i : i + size], votes[i : i + size], weights, len(catalogue), k)
            for i in range(0, len(queries), size)
        ]
        best = np.concatenate([block.rows for block in blocks])
        part_votes = np.concatenate([block.part_votes for block in blocks], axis=1)
        notes = _joined_notes(lists)
        if notes:  # of lists that have room left
            notes = {i: notes[i] for i in np.flatnonzero(best[:, -1] < 0).tolist() if i in notes}
        return Rankings(
            catalogue,
            best,
            np.concatenate([block.scores for block in blocks]),
            f"fused {self.kind}",
            dict(zip(names, part_votes, strict=True)),
            notes,
        )

    def _weights_of(self, hides_history: bool) -> list[float]:
        """Return the weights of one kind of list; models of earlier versions have one kind."""
        return self.weights_ if hides_history else self.state().get("kept_weights_", self.weights_)

    def _voters(self, hides_history: bool) -> "_Voters":
        """Return the parts that have a weight in one kind of list."""
        weights = self._weights_of(hides_history)
        voting = [
            (part, weight, name)
            for part, weight, name in zip(self.parts_, weights, part_names(self.parts), strict=True)
            if part is not None and weight > 0
        ]
        return _Voters(
            [part for part, _, _ in voting],
            [weight for _, weight, _ in voting],
            [name for _, _, name in voting],
        )

    def _lists(
        self,
        parts: Sequence[Recommender],
        queries: Queries,
        depth: int,
        candidates: Rankings | None,
    ) -> list[Rankings]:
        """Return the parts' lists over one catalogue."""
        first = parts[0]
        if isinstance(first, ScoringRecommender) and all(
            isinstance(part, ScoringRecommender) and part.items_.is_within(first.items_)
            for part in parts
        ):
            queries = queries.reindexed(first.items_)  # looked up once, not by every part
        return one_catalogue([part.recommend(queries, depth, candidates) for part in parts])

    def _votes(
        self,
        parts: Sequence[Recommender],
        queries: Queries,
        depth: int,
        candidates: Rankings | None,
    ) -> tuple[Vocabulary, list[sp.csr_matrix]]:
        """Return the catalogue, and one (B, N) sparse matrix of votes a part."""
        lists = self._lists(parts, queries, depth, candidates)
        catalogue = lists[0].catalogue
        matrices = []
        for part in lists:
            votes = self._scaled(part.rows, part.scores)[part.rows >= 0]
            matrices.append(part.ragged().matrix(len(catalogue), votes))
        return catalogue, matrices

    def _scaled(self, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return (..., K) float32 votes, 1 for the best item of every list.

        Votes at places without an item have no meaning.
        """
        if self.kind == "rank":
            ranks = np.arange(1, rows.shape[-1] + 1, dtype=np.float32)
            votes = (self.rank_constant + 1) / (self.rank_constant + ranks)
            return np.broadcast_to(votes, rows.shape)
        return _score_votes(rows, scores)

    # --- explaining

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the parts' explanations, weighted by each part's share of the item's score.

        Scores are those of a ranking of the whole catalogue. An item that stands in no part's first
        `depth` is weighed among the items of its ranking instead.
        """
        self._check_fitted()
        restricted = self.restrict(Queries.of(queries))
        hidden = self._hides_history(restricted)
        explanations: list[list[Explanation]] = [[] for _ in rankings]
        for hides_history in (True, False):
            numbers = np.flatnonzero(hidden == hides_history)
            if not len(numbers):
                continue
            voters = self._voters(hides_history)
            chosen = [rankings[i] for i in numbers.tolist()]
            explained = self._explained(voters, restricted.take(numbers), chosen)
            for i, of_ranking in zip(numbers.tolist(), explained, strict=True):
                explanations[i] = of_ranking
        return explanations

    def _explained(
        self, voters: "_Voters", queries: Queries, rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the explanations of rankings of one kind."""
        parts, _, names = voters
        shares = self._explained_shares(voters, queries, rankings)
        by_part = [
            _explained_by(part, queries, rankings, [of_query[p] > 0 for of_query in shares])
            for p, part in enumerate(parts)
        ]
        explanations = []
        for i, ranking in enumerate(rankings):
            of_ranking = []
            for position, item_id in enumerate(ranking.ids):
                of_item = [part[i].get(position) for part in by_part]
                of_ranking.append(_weighted(item_id, of_item, shares[i][:, position], names))
            explanations.append(of_ranking)
        return explanations

    def _explained_shares(
        self, voters: "_Voters", queries: Queries, rankings: Sequence[Ranking]
    ) -> list[np.ndarray]:
        """Return each part's shares, of items beyond `depth` too."""
        brought = [_brought_shares(ranking, voters.names, voters.weights) for ranking in rankings]
        by_votes = [of_ranking for of_ranking in brought if of_ranking is not None]
        if len(by_votes) == len(rankings):
            return by_votes
        shares = self._shares(voters, queries, rankings, None)
        if not any(_is_unnamed(of_ranking).any() for of_ranking in shares):
            return shares
        among_items = self._shares(voters, queries, rankings, Rankings.of(rankings))
        return [
            np.where(_is_unnamed(of_ranking), of_items, of_ranking)
            for of_ranking, of_items in zip(shares, among_items, strict=True)
        ]

    def _shares(
        self,
        voters: "_Voters",
        queries: Queries,
        rankings: Sequence[Ranking],
        candidates: Rankings | None,
    ) -> list[np.ndarray]:
        """Return for every ranking (P, K) each part's share of each item's score.

        Shares are 0 where no part names the item.
        """
        parts, weights, _ = voters
        depth = self.depth if candidates is None else max(self.depth, candidates.rows.shape[1])
        catalogue, votes = self._votes(parts, queries, depth, candidates)
        shares = []
        for i, ranking in enumerate(rankings):
            rows = catalogue.rows(ranking.ids)
            is_known = rows >= 0
            points = np.zeros((len(parts), len(rows)))  # P, K
            for part, weight in enumerate(weights):
                part_votes = votes[part][i, rows[is_known]].toarray().ravel()
                points[part, is_known] = weight * part_votes
            total = points.sum(axis=0)
            shares.append(points / np.maximum(total, MIN_TOTAL))
        return shares


class _Voters(NamedTuple):
    """The parts that have a weight in one kind of list."""

    parts: list[Recommender]
    weights: list[float]
    names: list[str]


def _fitted(
    parts: Sequence[Recommender], data: Dataset, run: Run, valid: Split | None
) -> list[Recommender]:
    """Return fitted copies of recommenders."""
    return [
        clone(part).fit(data, run, valid)
        for part in run.progress(parts, "fitting parts", len(parts))
    ]


def _restricts(part: Recommender) -> bool:
    """Return whether a part may exclude items, by itself or by parts of its own."""
    return type(part).restrict is not Recommender.restrict


def _restricted(parts: Sequence[Recommender], queries: Queries) -> Queries:
    """Return the queries with all items excluded that any of the parts must never answer."""
    for part in parts:
        queries = part.restrict(queries)
    return queries


def _explained_by(
    part: Recommender,
    queries: Queries,
    rankings: Sequence[Ranking],
    has_share: Sequence[np.ndarray],
) -> list[dict[int, Explanation]]:
    """Return by position a part's explanations of the items it has a share of, (K,) a ranking."""
    if not part.explains():
        return [{} for _ in rankings]
    positions = [np.flatnonzero(mask).tolist() for mask in has_share]
    shared = [
        Ranking(tuple([ranking.ids[p] for p in chosen]), ranking.scores[chosen])
        for ranking, chosen in zip(rankings, positions, strict=True)
    ]
    explained = part.explain(queries, shared)
    return [dict(zip(*pair, strict=True)) for pair in zip(positions, explained, strict=True)]


def _brought_shares(
    ranking: Ranking, names: Sequence[str], weights: Sequence[float]
) -> np.ndarray | None:
    """Return each part's share (P, K) of the scores of a ranking that brings the parts' votes.

    Lists of a `Fuse` do. None where a part's votes, or all votes for an item, are missing.
    """
    if not all(name in ranking.columns for name in names):
        return None
    votes = np.array([ranking.columns[name] for name in names], dtype=np.float64)
    if np.isnan(votes).all(axis=0).any():
        return None
    points = np.nan_to_num(votes) * np.array(weights)[:, None]
    shares: np.ndarray = points / np.maximum(points.sum(axis=0), MIN_TOTAL)
    return shares


def _score_votes(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (..., K) float32 scores scaled to 1 for the best item of every list."""
    is_item = rows >= 0
    # 0 unless scores are negative: then they are moved up to 0 first
    with_zeros = np.where(is_item, scores, 0)
    low = with_zeros.min(axis=-1, initial=0, keepdims=True)
    known_scores = np.where(is_item, scores, -np.inf)
    high = known_scores.max(axis=-1, initial=-np.inf, keepdims=True)
    span = np.where(high > low, high - low, 1)
    votes = (scores - low) / span
    return np.maximum(votes, MIN_VOTE).astype(np.float32)


def _is_unnamed(shares: np.ndarray) -> np.ndarray:
    """Return (K,) bool: true for items that no part names, from their shares (P, K)."""
    return shares.sum(axis=0) == 0


def _weighted(
    item_id: str, parts: Sequence[Explanation | None], shares: np.ndarray, names: Sequence[str]
) -> Explanation:
    """Return one explanation made of the parts', each weighted by its share of the score.

    A part that cannot explain is itself the evidence.
    """
    share_of: dict[tuple[str, str], float] = {}
    for part, part_share, name in zip(parts, shares, names, strict=True):
        if part_share <= 0:
            continue
        evidence = part.evidence if part and part.evidence else (Evidence("part", name, 1.0),)
        for reason in evidence:
            key = (reason.kind, reason.id)
            share_of[key] = share_of.get(key, 0.0) + float(part_share) * reason.share
    ordered = sorted(share_of.items(), key=lambda entry: -entry[1])
    return Explanation(item_id, tuple(Evidence(kind, id_, share) for (kind, id_), share in ordered))


def _joined_notes(lists: Sequence[Rankings]) -> dict[int, tuple[str, ...]]:
    """Return the notes of all lists, by the number of the query."""
    notes: dict[int, tuple[str, ...]] = {}
    for part in lists:
        for i, note in part.notes.items():
            notes[i] = notes.get(i, ()) + note
    return notes


def _side_by_side(lists: Sequence[np.ndarray], absent: float) -> np.ndarray:
    """Return P lists (B, K or fewer) as (B, P, K), filled up with `absent`."""
    width = max(part.shape[1] for part in lists)
    stacked = np.full((len(lists[0]), len(lists), width), absent, dtype=lists[0].dtype)
    for position, part in enumerate(lists):
        stacked[:, position, : part.shape[1]] = part
    return stacked


class _Fused(NamedTuple):
    """The best items by sums of votes."""

    rows: np.ndarray
    """(B, K) int32, -1 after the last."""
    scores: np.ndarray
    """(B, K) float32 sums of weighted votes."""
    part_votes: np.ndarray
    """(P, B, K) float32 each part's vote; NaN where it does not name the item."""


def _sum_votes(
    rows: np.ndarray, votes: np.ndarray, weights: Sequence[float], catalogue_size: int, k: int
) -> _Fused:
    """Return the k items with the highest sums of votes, from lists (B, P, K).

    Sums are made in an array with a cell for each of B times `catalogue_size` items: for few
    queries that costs a tenth of adding sparse matrices.
    """
    n = len(rows)
    first_cells = catalogue_size * np.arange(n)
    is_item = rows >= 0
    cells = (rows + first_cells[:, None, None])[is_item]  # M, of all votes
    weighted = (votes * np.array(weights, dtype=np.float32)[:, None])[is_item]
    sums = np.bincount(cells, weighted, n * catalogue_size).astype(np.float32)
    sums = sums.reshape(n, catalogue_size)
    best, scores = top_k(np.where(sums == 0, np.float32(-np.inf), sums), k)
    # where each cell stands in the flat (B, K) answer
    positions = np.full(n * catalogue_size, -1, dtype=np.int32)
    is_best = best >= 0
    positions[(best + first_cells[:, None])[is_best]] = np.flatnonzero(is_best)
    return _Fused(best, scores, _part_votes(rows, votes, positions[cells], k))


def _part_votes(rows: np.ndarray, votes: np.ndarray, positions: np.ndarray, k: int) -> np.ndarray:
    """Return (P, B, K) each part's votes for the items of an answer.

    `positions` (M,) says where the item of each vote stands in the flat (B, K) answer, or -1.
    """
    n, parts, _ = rows.shape
    is_item = rows >= 0
    listed = np.flatnonzero(positions >= 0)
    part_of_vote = np.broadcast_to(np.arange(parts)[:, None], rows.shape)[is_item]
    answer = np.full((parts, n * k), np.nan, dtype=np.float32)
    answer[part_of_vote[listed], positions[listed]] = votes[is_item][listed]
    return answer.reshape(parts, n, k)

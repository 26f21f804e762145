"""KNNEmbed: a user as a mixture of interests, smoothed by the nearest users.

Shapes: B queries, U users, N items, C groups of items, M interests of a batch, K list, D width.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import Paper, Recommender, blocks, short_notes
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.core.specs import clone
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset
from tailor.data.graphs import means
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.quantizers import k_means, nearest_word
from tailor.retrieval.event_vectors import latent_vectors, normalized_events
from tailor.text.sentences import unit_length

PAPER = Paper(
    "knn-embed",
    "kNN-Embed: Locally Smoothed Embedding Mixtures For Multi-interest Candidate Retrieval",
    "https://arxiv.org/abs/2205.06205",
    "Against one query over the same vectors, lists of 50 and of 200: recall is higher in planted"
    " logs of interests and not lower on Beauty, and the items of a list are farther apart in both",
)
FLOOR = 1e-3  # events added to every group, so that none has a share of 0
STEPS = 25  # of k-means, at most
DECIMALS = 6  # of a product that count: equal vectors are tied, however they were summed


@dataclass(eq=False)
class KNNEmbed(Recommender):
    """A user is a mixture of interests, each asking for its share.

    Items are grouped by k-means of their vectors. A user's items are counted by group, with those
    of the nearest users added; the `top` largest groups are the interests. Each asks by a vector of
    its own, the mean of the user's items in the group, of the neighbours' and of its centre. Places
    are dealt in proportion to the shares (Sainte-Lague's rule): the r-th item of an interest with
    share p scores p / (r - 1/2), so that a list of 50 begins a list of 200. Nothing is trained
    beside the vectors. `Ranking.details` names the interest of each item and its share. The state
    holds anonymous histories, whose owners may be their own neighbours.

    Differs from the paper: details that its abstract leaves open are reconstructed; places are
    dealt in turn, so that shares hold at every length; an item that two interests ask for takes its
    better place and counts once; all items are compared, without an approximate index.
    """

    holds_histories: ClassVar[bool] = True

    base: Recommender | None = None
    """A net over histories, whose item vectors are used; None: singular vectors of the events."""
    dims: int = 64
    """Width of singular vectors."""
    clusters: Annotated[int, Choices(10, 40, 100)] = 40
    """Groups of items; 1: all items ask by one vector."""
    neighbours: int = 30
    """Nearest users whose items are added."""
    neighbour_weight: Annotated[float, Range(0.0, 2.0)] = 0.5
    """Weight of the neighbours' mean number of items in a group, against the user's own number."""
    centre_weight: float = 1.0
    """Weight of a group's centre in its vector, in items of the user."""
    top: int = 6
    """Interests of a user, at most."""

    items_: Vocabulary = field(init=False, repr=False)
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) float32 of unit length; zero for an item of which nothing is known."""
    groups_: np.ndarray = field(init=False, repr=False)
    """(N,) int32 group of each item."""
    centres_: np.ndarray = field(init=False, repr=False)
    """(C, D) float32 means of the vectors of each group."""
    choices_: sp.csr_matrix = field(init=False, repr=False)
    """(U, N) float32, 1 where a user chose an item; users are in random order."""
    user_vectors_: np.ndarray = field(init=False, repr=False)
    """(U, D) float32 means of the users' item vectors, of unit length."""

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("dims", "clusters", "neighbours", "top")}
        if min(counts.values()) < 1:
            raise DataError(f"{counts}: each must be at least 1")
        if not min(self.neighbour_weight, self.centre_weight) >= 0:
            raise DataError(
                f"neighbour_weight is {self.neighbour_weight}, centre_weight {self.centre_weight}:"
                " both must be 0 or more"
            )
        if self.base is not None and not hasattr(self.base, "item_vectors"):
            raise DataError(
                f"base is {self.base.name}, which has no item vectors: take a net over histories,"
                " such as SASRec"
            )

    @classmethod
    def tiny(cls) -> "KNNEmbed":
        return cls(dims=8, clusters=5, neighbours=5, top=3)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        report = self._learn_vectors(data, run, valid)
        has_vector = np.asarray(self.vectors_.any(axis=1))
        self._group(has_vector, run)
        histories = data.queries().reindexed(self.items_).histories.distinct()
        users = run.rng("users").permutation(np.flatnonzero(histories.lengths))
        # shuffled, so that the position of a row does not say whose it is
        self.choices_ = histories.take(users).matrix(len(self.items_))
        self.user_vectors_ = unit_length(np.asarray(self.choices_ @ self.vectors_))
        sizes = np.bincount(self.groups_[has_vector], minlength=len(self.centres_))
        self.fit_report_ = {
            "users": len(users),
            "items_without_vector": int((~has_vector).sum()),
            "groups": len(self.centres_),
            "items_of_the_largest_group": int(sizes.max(initial=0)),
            **report,
        }

    def _learn_vectors(self, data: Dataset, run: Run, valid: Split | None) -> dict[str, Any]:
        """Set items and their vectors, those of the base where there is one."""
        if self.base is None:
            self.items_ = data.catalogue
            events = normalized_events(data.sequences.rows, len(self.items_))
            self.vectors_ = latent_vectors(events, self.dims, run.seed)
            return {}
        base: Any = clone(self.base).fit(data, run, valid)
        self.items_ = base.items_
        self.vectors_ = unit_length(base.item_vectors())
        return {"base": base.fit_report_}

    def _group(self, has_vector: np.ndarray, run: Run) -> None:
        """Set groups and centres of the items; those without a vector are in group 0."""
        self.groups_ = np.zeros(len(self.items_), np.int32)
        self.centres_ = np.zeros((1, self.vectors_.shape[1]), np.float32)
        if has_vector.any():
            vectors = self.vectors_[has_vector]
            self.centres_ = k_means(vectors, self.clusters, STEPS, run.rng("groups"))
            self.groups_[has_vector] = nearest_word(vectors, self.centres_)

    # answering

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.reindexed(self.items_)
        lists = None
        if candidates is not None:
            lists = candidates.reindexed(self.items_).ragged()
        products = self.top * len(self.items_)
        width = max(products, self.centres_.size, len(self.user_vectors_))
        parts = [Rankings.empty(self.items_, 0, k)]
        for start, stop in blocks(len(queries), width):
            only = None if lists is None else lists.slice(start, stop)
            parts.append(self._answer(queries[start:stop], k, only))
        return Rankings.stack(parts)

    def _answer(self, queries: Queries, k: int, candidates: Ragged | None) -> Rankings:
        """Return the lists of one block of queries, from `candidates` where there are any."""
        interests = self._interests(queries.histories.distinct())
        products = interests.vectors @ self.vectors_.T  # M, N
        products = np.round(products, DECIMALS)
        products[:, ~self.vectors_.any(axis=1)] = -np.inf
        exclude = queries.exclude
        if exclude is not None:
            exclude = exclude.take(interests.query)
        if candidates is not None:
            candidates = candidates.take(interests.query)
        rows, _ = top_k(products, k, exclude, queries.blocked_rows, candidates)
        lists = _deal_places(interests, rows, len(queries), self.items_)
        notes = short_notes(self.name, queries, lists.rows, k)
        return replace(lists, notes=notes)

    def _interests(self, rows: Ragged) -> "_Interests":
        """Return the interests of users with these distinct items, largest first per user."""
        has_vector = np.asarray(self.vectors_.any(axis=1))
        rows = rows.keep(has_vector[rows.values])
        groups = len(self.centres_)
        choices = rows.matrix(len(self.items_))  # B, N
        neighbour_choices = self._neighbour_choices(choices)
        weights = sp.coo_matrix(choices + self.neighbour_weight * neighbour_choices)
        cells = weights.row * groups + self.groups_[weights.col]  # of a user and a group
        size = len(rows) * groups
        counts = np.bincount(cells, weights.data, size) + FLOOR
        counts = counts.reshape(len(rows), groups)
        shares = counts / counts.sum(axis=1, keepdims=True)
        largest = np.argsort(-shares, axis=1, kind="stable")
        largest = largest[rows.lengths > 0, : self.top]
        query = np.repeat(np.flatnonzero(rows.lengths), largest.shape[1])
        group = largest.ravel()
        shape = (size, len(self.items_))
        by_cell = sp.csr_matrix((weights.data, (cells, weights.col)), shape=shape)
        own_cells = by_cell[query * groups + group]
        sums = np.asarray(own_cells @ self.vectors_)
        centres = np.float32(self.centre_weight) * self.centres_[group]
        vectors = unit_length(sums + centres)
        interests = _Interests(query, group, shares[query, group], vectors)
        can_ask = np.asarray(vectors.any(axis=1))
        return interests.only(can_ask)

    def _neighbour_choices(self, choices: sp.csr_matrix) -> sp.csr_matrix:
        """Return (B, N) the mean choices of the nearest users."""
        users = len(self.user_vectors_)
        if not self.neighbour_weight or not users:
            return sp.csr_matrix(choices.shape, dtype=np.float32)
        sums = np.asarray(choices @ self.vectors_)
        vectors = unit_length(sums)
        cosines = vectors @ self.user_vectors_.T  # B, U
        cosines = np.round(cosines, DECIMALS)
        cosines[~vectors.any(axis=1)] = -np.inf
        nearest, _ = top_k(cosines, min(self.neighbours, users))
        is_user = nearest >= 0
        lengths = is_user.sum(axis=1)
        rows = Ragged.of_lengths(lengths, nearest[is_user])
        return means(rows, users) @ self.choices_


class _Interests(NamedTuple):
    """The interests of a batch of queries, those of one query after the other."""

    query: np.ndarray
    """(M,) number of the query."""
    group: np.ndarray
    """(M,) group of items."""
    share: np.ndarray
    """(M,) share of the group in the user's mixture."""
    vectors: np.ndarray
    """(M, D) float32 vector that asks, of unit length."""

    def only(self, mask: np.ndarray) -> "_Interests":
        """Return the interests where the mask (M,) is true."""
        return _Interests(*(values[mask] for values in self))


def _deal_places(
    interests: _Interests, rows: np.ndarray, queries: int, items: Vocabulary
) -> Rankings:
    """Return lists of the interests' items `rows` (M, K), best first, -1 for none.

    Places are dealt in proportion to the shares; an item counts once, at its better place.
    """
    interest, rank = np.nonzero(rows >= 0)
    item = rows[interest, rank]
    query = interests.query[interest]
    scores = interests.share[interest] / (rank + 0.5)
    scores = scores.astype(np.float32)
    order = np.lexsort((-scores, item, query))
    is_other_query = np.diff(query[order], prepend=-1) != 0
    is_other_item = np.diff(item[order], prepend=-1) != 0
    order = order[is_other_query | is_other_item]  # the best place of every item
    by_score = np.lexsort((item[order], -scores[order], query[order]))
    order = order[by_score]
    lengths = np.bincount(query[order], minlength=queries)
    position = Ragged.of_lengths(lengths, order).from_start
    mask = position < rows.shape[1]
    order = order[mask]
    cells = (query[order], position[mask])
    lists = Rankings.empty(items, queries, rows.shape[1])
    lists.rows[cells] = item[order]
    lists.scores[cells] = scores[order]
    groups = np.full(lists.rows.shape, None, object)
    groups[cells] = interests.group[interest[order]].tolist()
    shares = np.full(lists.rows.shape, None, object)
    shares[cells] = interests.share[interest[order]].round(4).tolist()
    return replace(lists, details={"interest": groups, "share": shares})

"""Personalised PageRank: where random walks from your items end."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.graphs import AliasSteps, draws_of, mixed
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError

PAPER = Paper(
    "personalized-pagerank",
    "Distributed Algorithms for Fully Personalized PageRank on Large Graphs",
    "https://arxiv.org/abs/1903.11749",
    "Against exact power iteration the mean L1 error falls like 1/sqrt(walks) (slope -.5 +- .1) and"
    " precision@50 is >= .9 at 10,000 walks on ml-100k; all of Beauty's users with 500 walks in <="
    " 5 minutes, HR@10 above popularity, two workers give the numbers of one.",
)
LIVE_WALKS = 2**17  # walked together by a thread: about 10 MB, which stays near the processor
LONGEST = 10_000  # double steps of a walk


@dataclass(eq=False)
class PersonalizedPageRank(ScoringRecommender):
    """Walk at random from an item you chose to somebody who chose it, to something else they chose,
    and so on, stopping by chance; items where many such walks end are near to you by many short
    ways.

    `walks` walks a query start at the items of its history, the latest most often, as from a user
    who has just these items; so strangers are served like the people of the training data. A score
    estimates the share of walks ending on items that end there. `read="ends"` counts these ends;
    "users" counts where walks stand before their last step and takes that step exactly: the same
    expectation, as exact with a tenth to a hundredth of the walks. All walks of a block advance at
    once, with alias tables for weighted edges; each draws from its own stream, keyed by seed,
    history and number, so that blocks, threads and batches change nothing. Memory: 24 bytes an
    edge, 16 more where weights differ, 10 MB a thread, and the answer's entries, at most one a walk
    (with "users" one a walk and item of the person it passed). No user is named, but the graph
    holds anonymous histories: it is saved with histories only.

    Differs from the paper: one machine, so no spliced segments (which correlate walks) and no
    rounds of messages; walks stop on items only, with chance 1 - (1 - restart)^2, which is the
    paper's estimate read on items and renormalised, without the half of the walks that end on
    people; the last step taken exactly is ours. A heavy node needs no tree of alias tables: one
    table serves any degree.
    """

    holds_histories: ClassVar[bool] = True

    restart: float = 0.15
    """Chance to stop at every node, people included."""
    walks: int = 1_000
    """A query."""
    history_decay: float = 0.5
    """Weight of a history's event as a start, relative to the one after it; 1: all the same."""
    history_length: int = 100
    """Most recent events used."""
    edge_decay: float = 1.0
    """Weight of an edge relative to that of the user's next event."""
    read: Literal["users", "ends"] = "users"
    """What of a walk is counted."""

    seed_: int = field(init=False, repr=False)
    users_of_: sp.csr_matrix = field(init=False, repr=False)
    """(N, U) float32 edge weights; users in no order."""
    items_of_: sp.csr_matrix = field(init=False, repr=False)
    """(U, N)."""

    def __post_init__(self) -> None:
        if not 0 < self.restart < 1:
            raise DataError(f"restart is {self.restart}: it must be above 0 and below 1")
        for name in ("history_decay", "edge_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise DataError(
                    f"{name} is {getattr(self, name)}: it must be above 0 and at most 1"
                )
        if not 1 <= self.walks <= 10_000_000 or self.history_length < 1:
            raise DataError(
                f"walks is {self.walks}, history_length {self.history_length}: walks from 1 to"
                " 10,000,000, history_length from 1"
            )
        if self.read not in ("ends", "users"):
            raise DataError(f'read is "{self.read}": it must be "ends" or "users"')

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_, self.seed_ = data.catalogue, run.seed
        rows = data.sequences.rows
        weights = np.maximum(
            np.float32(self.edge_decay) ** rows.from_end, np.finfo(np.float32).tiny
        ).astype(np.float32)
        graph = rows.matrix(len(self.items_), weights)
        graph.sum_duplicates()
        known = np.flatnonzero(np.diff(graph.indptr))
        # so that no row stands where the user stood
        self.items_of_ = graph[run.rng("users").permutation(known)]
        self.users_of_ = self.items_of_.T.tocsr()
        self.fit_report_ = {
            "edges": graph.nnz,
            "users": len(known),
            "items": int((np.diff(self.users_of_.indptr) > 0).sum()),
        }

    @cached_property
    def _steps(self) -> tuple[AliasSteps, AliasSteps]:
        """From items to users, from users to items; made anew after loading."""
        return AliasSteps.of(self.users_of_), AliasSteps.of(self.items_of_)

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        return self.near(queries)

    def near(self, queries: Queries, workers: int = Run().workers) -> sp.csr_matrix:
        """(B, N) the share of ends at each item, for queries over `items_`; a history of unknown
        items has none.
        """
        starts = queries.histories.last(self.history_length)
        starts = starts.keep(self._steps[0].degrees[starts.values] > 0)
        size = max(1, LIVE_WALKS // self.walks)
        parts = [
            starts.slice(at, min(at + size, len(starts))) for at in range(0, len(starts), size)
        ]
        with ThreadPoolExecutor(workers) as pool:
            done = list(pool.map(self._walk, parts))
        return (
            sp.vstack(done, format="csr")
            if done
            else sp.csr_matrix((0, len(self.items_)), dtype=np.float32)
        )

    def _walk(self, starts: Ragged) -> sp.csr_matrix:
        """`near` for one block of histories."""
        out = sp.csr_matrix((len(starts), len(self.items_)), dtype=np.float32)
        who = np.flatnonzero(starts.lengths)
        # one round, unless a query has more walks than may live
        for first in range(0, self.walks if len(who) else 0, LIVE_WALKS):
            numbers = np.arange(first, min(first + LIVE_WALKS, self.walks))
            keys, nodes = self._begin(starts.take(who), numbers)
            out = out + self._round(np.repeat(who, len(numbers)), keys, nodes, len(starts))
        out.data /= np.float32(self.walks)
        return out

    def _begin(self, starts: Ragged, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Key and first item of the walks with these numbers, of every history in turn; starts are
        spread evenly over a history's weight.
        """
        age = starts.from_end.astype(np.uint64)
        parts = mixed(mixed(starts.values.astype(np.uint64) + np.uint64(1)) + age)
        bounds = starts.offsets[:-1]
        own = mixed(
            np.add.reduceat(parts, bounds)
            ^ mixed(np.full(len(starts), self.seed_ % 2**64, np.uint64))
        )
        keys = mixed(np.repeat(own, len(numbers)) + np.tile(numbers.astype(np.uint64), len(starts)))
        weights = np.maximum(self.history_decay ** starts.from_end.astype(float), 1e-300)
        weights /= np.add.reduceat(weights, bounds)[starts.row_ids]
        reach = np.cumsum(weights)  # rises by 1 a history
        place = (numbers + draws_of(own, 0)[:, None]) / self.walks + np.arange(len(starts))[:, None]
        at = np.searchsorted(reach, place.ravel(), side="right")
        low, high = np.repeat(bounds, len(numbers)), np.repeat(starts.offsets[1:] - 1, len(numbers))
        # rounding must not reach into the next history
        return keys, starts.values[np.clip(at, low, high)]

    def _round(
        self, query: np.ndarray, keys: np.ndarray, nodes: np.ndarray, queries: int
    ) -> sp.csr_matrix:
        """(B, N) how many walks end at each item."""
        to_users, to_items = self._steps
        go_on = 2 * np.log1p(-self.restart)  # logarithm of the chance to pass an item and a person
        lengths = np.minimum(np.log1p(-draws_of(keys, 0)) / go_on, LONGEST).astype(np.int16)
        order = np.argsort(-lengths, kind="stable")  # the living are always the first ones
        query, keys, nodes = query[order], keys[order], nodes[order]
        living = len(keys) - np.cumsum(np.bincount(lengths))  # after each double step
        before = np.full(len(keys), -1, np.int32)
        for step, n in enumerate(living[:-1].tolist()):
            before[:n] = to_users.step(nodes[:n], draws_of(keys[:n], 2 * step + 1))
            nodes[:n] = to_items.step(before[:n], draws_of(keys[:n], 2 * step + 2))
        shape = (queries, len(self.items_))
        if self.read == "ends":
            return _counted(query, nodes, shape)
        moved = before >= 0
        people = _counted(query[moved], before[moved], (queries, self.items_of_.shape[0]))
        return _counted(query[~moved], nodes[~moved], shape) + people @ self._last_step

    @cached_property
    def _last_step(self) -> sp.csr_matrix:
        """(U, N) the chance of each step from a person."""
        return sp.csr_matrix(
            sp.diags(1 / self.items_of_.sum(axis=1).A1) @ self.items_of_, dtype=np.float32
        )


def _counted(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    counts = sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=shape)
    counts.sum_duplicates()
    return counts

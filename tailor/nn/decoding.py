"""Spelling items: the tree of all code words, a beam that never leaves it, and the exact answer
that the beam is held against.

Shapes: N items, L levels, P prefixes of a level, B queries, W beams, M prefixes in hand, V digits
of a level, D width.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tailor.data.arrays import Ragged


class Speller(Protocol):
    """A net that says one digit after the other."""

    def logits(self, level: int, state: Tensor) -> Tensor:
        """(M, D) what has been said so far -> (M, V) of the digit of this level."""

    def follow(self, level: int, state: Tensor, digit: Tensor) -> Tensor:
        """(M, D) after this digit (M,) of this level is said."""


@dataclass(frozen=True, eq=False)
class Trie:
    """All code words as a tree: a level's prefixes stand in order, so the continuations of each,
    and the items below it, are a range.
    """

    digits: tuple[Tensor, ...]
    """By level, (P,) the last digit of each prefix."""
    children: tuple[Tensor, ...]
    """By level, (P before + 1,) where the continuations of each prefix one shorter begin."""
    leaves: tuple[Tensor, ...]
    """By level, (P + 1,) where the items below each prefix begin."""
    items: Tensor
    """(N,) the item at each leaf."""

    @classmethod
    def of(cls, codes: np.ndarray) -> "Trie":
        """Of codes (N, L), item by item. Raises ValueError where two items share a code."""
        order = np.lexsort(codes.T[::-1])
        ordered = codes[order]
        new = np.zeros(len(codes), dtype=bool)
        new[:1] = True
        digits, children, leaves, above = [], [], [], np.array([0, len(codes)])
        for level in range(codes.shape[1]):
            new[1:] |= ordered[1:, level] != ordered[:-1, level]
            begins = np.r_[np.flatnonzero(new), len(codes)]
            digits.append(torch.from_numpy(ordered[begins[:-1], level].astype(np.int64)))
            children.append(torch.from_numpy(np.searchsorted(begins, above)))
            leaves.append(torch.from_numpy(begins))
            above = begins
        if len(above) - 1 < len(codes):
            raise ValueError(
                f"{len(codes)} items, {len(above) - 1} codes: no two items may share one; add a"
                " last digit"
            )
        return cls(
            tuple(digits), tuple(children), tuple(leaves), torch.from_numpy(order.astype(np.int64))
        )

    @property
    def levels(self) -> int:
        return len(self.digits)

    def to(self, device: torch.device) -> "Trie":
        """The same on another device."""
        if self.items.device == device:
            return self
        parts = [
            tuple(one.to(device) for one in part)
            for part in (self.digits, self.children, self.leaves)
        ]
        return Trie(parts[0], parts[1], parts[2], self.items.to(device))

    def continuations(self, level: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Of prefixes (M,) of `level` digits (0: the empty one): which of them each continuation
        belongs to, and its number among the prefixes one longer.
        """
        first = self.children[level][nodes]
        counts = self.children[level][nodes + 1] - first
        owner = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        before = counts.cumsum(0) - counts
        return owner, first[owner] + torch.arange(len(owner), device=nodes.device) - before[owner]

    def allowed(self, level: int, digits: int) -> Tensor:
        """(P, V) bool for the prefixes of `level` digits: which digits may follow."""
        before = len(self.children[level]) - 1
        owner, child = self.continuations(level, torch.arange(before, device=self.items.device))
        table = torch.zeros(before, digits, dtype=torch.bool, device=self.items.device)
        table[owner, self.digits[level][child]] = True
        return table

    def paths(self) -> Tensor:
        """(N, L) for each item the numbers of its prefixes, of one digit and more."""
        place = torch.empty_like(self.items)
        place[self.items] = torch.arange(len(self.items), device=self.items.device)
        return torch.stack(
            [torch.searchsorted(begins, place, right=True) - 1 for begins in self.leaves], dim=1
        )


class Choosable:
    """Which items may be answered, by query: all but what is excluded, or only candidates. A prefix
    is asked for by the range of its leaves.
    """

    def __init__(
        self,
        trie: Trie,
        exclude: Ragged | None = None,
        blocked: np.ndarray | None = None,
        candidates: Ragged | None = None,
    ) -> None:
        """`exclude` and `candidates` hold items a query, `blocked` items for all queries."""
        n, device = len(trie.items), trie.items.device
        place = np.empty(n, dtype=np.int64)
        place[trie.items.cpu().numpy()] = np.arange(n)
        free = np.ones(n, dtype=bool)
        free[place[blocked] if blocked is not None else []] = False
        self.only = candidates is not None
        without = np.empty(0, np.int64) if exclude is None else _keys(exclude, place, n)
        keys = without if candidates is None else np.setdiff1d(_keys(candidates, place, n), without)
        keys = np.unique(keys[free[keys % n]]) if len(keys) else keys
        self.size, self.keys = n, torch.from_numpy(keys).to(device)
        self.free = torch.from_numpy(np.r_[0, np.cumsum(free)]).to(device)

    def any(self, query: Tensor, start: Tensor, stop: Tensor) -> Tensor:
        """(M,) bool: whether a leaf from `start` to before `stop` may be answered to this query."""
        listed = torch.searchsorted(self.keys, query * self.size + stop) - torch.searchsorted(
            self.keys, query * self.size + start
        )
        return listed > 0 if self.only else self.free[stop] - self.free[start] > listed


def _keys(lists: Ragged, place: np.ndarray, n: int) -> np.ndarray:
    return lists.row_ids * n + place[lists.values]


def beam(
    speller: Speller,
    states: Tensor,
    trie: Trie,
    width: int,
    choosable: Choosable | None = None,
    closed: bool = True,
) -> tuple[Tensor, Tensor]:
    """(B, W) items, likeliest first, -1 after the last, and (B, W) the log-probability of each: the
    sum over its digits.

    Only what the trie holds is spelled, and no prefix is entered below which nothing may be
    answered: there are W items wherever so many may be, whatever is excluded. `closed`: a digit's
    probability is shared by the continuations there are, else by all digits. What is excluded keeps
    its share.
    """
    query, nodes, totals = _spell(speller, states, trie, width, choosable, closed)
    rows = torch.full((len(states), width), -1, dtype=torch.long, device=states.device)
    scores = torch.full((len(states), width), float("-inf"), device=states.device)
    items = trie.items[nodes]
    by_row = items.argsort(stable=True)  # equal ones stand by row
    order = by_row[_best_first(query[by_row], totals[by_row])]
    query, rank = query[order], _ranks(query[order])
    rows[query, rank], scores[query, rank] = items[order], totals[order]
    return rows, scores


def exact(speller: Speller, states: Tensor, trie: Trie, closed: bool = True) -> Tensor:
    """(B, N) the log-probability of every item, each prefix looked at once. Memory is B * N * D:
    give few queries at a time.
    """
    query, nodes, totals = _spell(speller, states, trie, None, None, closed)
    out = torch.full((len(states), len(trie.items)), float("-inf"), device=states.device)
    out[query, trie.items[nodes]] = totals
    return out


def _spell(
    speller: Speller,
    state: Tensor,
    trie: Trie,
    width: int | None,
    choosable: Choosable | None,
    closed: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, leaf and log-probability of what is left after the last digit, by query; `width` None:
    everything is.
    """
    query = torch.arange(len(state), device=state.device)
    nodes, totals = torch.zeros_like(query), torch.zeros(len(state), device=state.device)
    for level in range(trie.levels):
        owner, child, shares = _shares(speller, state, trie, level, nodes, closed)
        of, scores = query[owner], totals[owner] + shares
        if choosable is not None:
            begins = trie.leaves[level]
            kept = choosable.any(of, begins[child], begins[child + 1])
            owner, child, of, scores = owner[kept], child[kept], of[kept], scores[kept]
        if width is not None:
            order = _best_first(of, scores)
            order = order[_ranks(of[order]) < width]
            owner, child, of, scores = owner[order], child[order], of[order], scores[order]
        query, nodes, totals = of, child, scores
        if level + 1 < trie.levels:
            state = _followed(speller, state, trie, level, owner, nodes, closed)
    return query, nodes, totals


def _shares(
    speller: Speller, state: Tensor, trie: Trie, level: int, nodes: Tensor, closed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Owner, number and log-share of every continuation of prefixes (M,); where there is but one
    its share is 1, and the net is not asked.
    """
    owner, child = trie.continuations(level, nodes)
    counts = torch.bincount(owner, minlength=len(nodes))
    shares = torch.zeros(len(owner), device=state.device)
    asked = counts > 1 if closed else counts > 0
    if asked.any():
        logits = speller.logits(level, state[asked]).float()
        some = asked[owner]
        of = (asked.cumsum(0) - 1)[owner[some]]
        own = logits[of, trie.digits[level][child[some]]]
        shares[some] = (
            own - (_log_sums(own, of, len(logits)) if closed else logits.logsumexp(dim=1))[of]
        )
    return owner, child, shares


def _followed(
    speller: Speller,
    state: Tensor,
    trie: Trie,
    level: int,
    owner: Tensor,
    nodes: Tensor,
    closed: bool,
) -> Tensor:
    """(M, D) states after each prefix's digit; of a prefix with one item below nothing more is
    asked, and its state stays zero.
    """
    out = state.new_zeros(len(nodes), state.shape[1])
    begins = trie.leaves[level]
    asked = (
        (begins[nodes + 1] - begins[nodes] > 1)
        if closed
        else torch.ones_like(nodes, dtype=torch.bool)
    )
    if asked.any():
        out[asked] = speller.follow(
            level, state[owner[asked]], trie.digits[level][nodes[asked]]
        ).to(out.dtype)
    return out


def _log_sums(values: Tensor, groups: Tensor, n: int) -> Tensor:
    """(n,) log of the sum of exponentials of each group's values."""
    most = torch.full((n,), float("-inf"), device=values.device).scatter_reduce(
        0, groups, values, "amax"
    )
    return (
        most
        + torch.zeros(n, device=values.device)
        .index_add(0, groups, (values - most[groups]).exp())
        .log()
    )


def _best_first(groups: Tensor, scores: Tensor) -> Tensor:
    """Positions by group, within each the highest score first; equal ones keep their order."""
    order = scores.argsort(descending=True, stable=True)
    return order[groups[order].argsort(stable=True)]


def _ranks(groups: Tensor) -> Tensor:
    """Of groups in ascending order: the place of each element within its own, from 0."""
    place = torch.arange(len(groups), device=groups.device)
    return place - torch.searchsorted(groups, groups)

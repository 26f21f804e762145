"""Decode items from semantic ids: the trie of all codes, beam search over it, and exact scores.

Shapes: N items, L levels, P prefixes of a level, B queries, W beams, M prefixes kept at a level,
C continuations of them, V digits of a level, D width, G draws.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from tailor.data.arrays import Ragged


class DecoderStep(Protocol):
    """A net that generates one digit after the other."""

    def logits(self, level: int, state: Tensor) -> Tensor:
        """Return (M, V) logits of the digit of this level, from states (M, D) so far."""

    def advance(self, level: int, state: Tensor, digit: Tensor) -> Tensor:
        """Return the states (M, D) after the digits (M,) of this level."""


@dataclass(frozen=True, eq=False)
class Trie:
    """All codes as a tree, stored as sorted arrays.

    The prefixes of a level are sorted, so the continuations of each, and the items below it, are a
    range.
    """

    digits: tuple[Tensor, ...]
    """Per level, (P,) the last digit of each prefix."""
    children: tuple[Tensor, ...]
    """Per level, (P of the level before + 1,) where the continuations of each prefix begin."""
    leaves: tuple[Tensor, ...]
    """Per level, (P + 1,) where the items below each prefix begin."""
    items: Tensor
    """(N,) the item at each leaf."""

    @classmethod
    def of(cls, codes: np.ndarray) -> "Trie":
        """Build the trie of codes (N, L). Raises ValueError where two items share a code."""
        order = np.lexsort(codes.T[::-1])
        ordered = codes[order]
        is_first = np.zeros(len(codes), dtype=bool)
        is_first[:1] = True
        digits, children, leaves = [], [], []
        parents = np.array([0, len(codes)])
        for level in range(codes.shape[1]):
            is_first[1:] |= ordered[1:, level] != ordered[:-1, level]
            begins = np.r_[np.flatnonzero(is_first), len(codes)]
            digits.append(torch.from_numpy(ordered[begins[:-1], level].astype(np.int64)))
            children.append(torch.from_numpy(np.searchsorted(begins, parents)))
            leaves.append(torch.from_numpy(begins))
            parents = begins
        if len(parents) - 1 < len(codes):
            raise ValueError(
                f"{len(codes)} items, {len(parents) - 1} codes: no two items may share one; add a"
                " last digit"
            )
        items = torch.from_numpy(order.astype(np.int64))
        return cls(tuple(digits), tuple(children), tuple(leaves), items)

    @property
    def levels(self) -> int:
        return len(self.digits)

    def to(self, device: torch.device) -> "Trie":
        """Return the trie on another device."""
        if self.items.device == device:
            return self

        def move(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(tensor.to(device) for tensor in tensors)

        return Trie(
            move(self.digits), move(self.children), move(self.leaves), self.items.to(device)
        )

    def continuations(self, level: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the continuations of prefixes (M,) of `level` digits; 0: the empty prefix.

        Per continuation (C,): the position of its prefix in `nodes`, and its number among the
        prefixes one digit longer.
        """
        first = self.children[level][nodes]
        counts = self.children[level][nodes + 1] - first
        parent = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        begins = counts.cumsum(0) - counts
        rank = torch.arange(len(parent), device=nodes.device) - begins[parent]
        return parent, first[parent] + rank

    def child(self, level: int, nodes: Tensor, digits: Tensor) -> Tensor:
        """Return (M,) the number of prefixes (M,) of `level` digits, longer by `digits` (M,).

        -1 where no item's code goes on so, and where the prefix is -1 already.
        """
        longer = torch.full_like(nodes, -1)
        rows = (nodes >= 0).nonzero()[:, 0]
        parent, child = self.continuations(level, nodes[rows])
        is_next = self.digits[level][child] == digits[rows][parent]
        longer[rows[parent[is_next]]] = child[is_next]
        return longer

    def items_of(self, digits: Tensor) -> Tensor:
        """Return (M,) the items that have codes (M, L); -1 where none has."""
        nodes = torch.zeros(len(digits), dtype=torch.long, device=digits.device)
        for level in range(self.levels):
            nodes = self.child(level, nodes, digits[:, level])
        return torch.where(nodes >= 0, self.items[nodes], -1)

    def allowed(self, level: int, digits: int) -> Tensor:
        """Return (P, V) bool: which digits may follow each prefix of `level` digits."""
        prefixes = len(self.children[level]) - 1
        parent, child = self.continuations(level, torch.arange(prefixes, device=self.items.device))
        table = torch.zeros(prefixes, digits, dtype=torch.bool, device=self.items.device)
        table[parent, self.digits[level][child]] = True
        return table

    def paths(self) -> Tensor:
        """Return (N, L) the numbers of each item's prefixes, from one digit to all."""
        leaf = torch.empty_like(self.items)
        leaf[self.items] = torch.arange(len(self.items), device=self.items.device)
        return torch.stack(
            [torch.searchsorted(begins, leaf, right=True) - 1 for begins in self.leaves], dim=1
        )


class AllowedItems:
    """Items that may be recommended per query: all but the excluded, or candidates only.

    A prefix is looked up by the range of its leaves.
    """

    def __init__(
        self,
        trie: Trie,
        exclude: Ragged | None = None,
        blocked: np.ndarray | None = None,
        candidates: Ragged | None = None,
    ) -> None:
        """`exclude` and `candidates` hold items per query, `blocked` items for all queries."""
        n = len(trie.items)
        device = trie.items.device
        leaf = np.empty(n, dtype=np.int64)
        leaf[trie.items.cpu().numpy()] = np.arange(n)
        is_free = np.ones(n, dtype=bool)
        is_free[leaf[blocked] if blocked is not None else []] = False
        self.candidates_only = candidates is not None
        keys = np.empty(0, np.int64) if exclude is None else _leaf_keys(exclude, leaf, n)
        if candidates is not None:
            keys = np.setdiff1d(_leaf_keys(candidates, leaf, n), keys)
        if len(keys):
            keys = np.unique(keys[is_free[keys % n]])
        self.size = n
        self.keys = torch.from_numpy(keys).to(device)
        self.free_before = torch.from_numpy(np.r_[0, np.cumsum(is_free)]).to(device)

    def any(self, query: Tensor, start: Tensor, stop: Tensor) -> Tensor:
        """Return (M,) bool: whether a leaf from `start` to before `stop` is allowed."""
        begin = torch.searchsorted(self.keys, query * self.size + start)
        listed = torch.searchsorted(self.keys, query * self.size + stop) - begin
        if self.candidates_only:
            return listed > 0
        return self.free_before[stop] - self.free_before[start] > listed


def _leaf_keys(lists: Ragged, leaf: np.ndarray, n: int) -> np.ndarray:
    """Return one number per (query, item), ascending with the query and then the item's leaf."""
    return lists.row_ids * n + leaf[lists.values]


def beam_search(
    decoder: DecoderStep,
    states: Tensor,
    trie: Trie,
    width: int,
    allowed: AllowedItems | None = None,
    closed: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the likeliest items per query (B, W) and their log-probabilities.

    -1 follows the last item. An item's log-probability is the sum over its digits. Only codes of
    the trie are generated, and no prefix is entered below which nothing is allowed: there are W
    items wherever so many are allowed. `closed`: a digit's probability is shared by the
    continuations that exist, else by all digits. Excluded items keep their share.
    """
    paths = _decode(decoder, states, trie, width, allowed, closed)
    rows = torch.full((len(states), width), -1, dtype=torch.long, device=states.device)
    scores = torch.full((len(states), width), float("-inf"), device=states.device)
    items = trie.items[paths.node]
    by_row = items.argsort(stable=True)  # equal scores are ordered by row
    order = by_row[_best_first(paths.query[by_row], paths.score[by_row])]
    query = paths.query[order]
    rank = _ranks(query)
    rows[query, rank] = items[order]
    scores[query, rank] = paths.score[order]
    return rows, scores


def exact_scores(decoder: DecoderStep, states: Tensor, trie: Trie, closed: bool = True) -> Tensor:
    """Return (B, N) the log-probability of every item.

    Each prefix is computed once. Memory is B * N * D: pass few queries at a time.
    """
    paths = _decode(decoder, states, trie, None, None, closed)
    scores = torch.full((len(states), len(trie.items)), float("-inf"), device=states.device)
    scores[paths.query, trie.items[paths.node]] = paths.score
    return scores


def draw(
    decoder: DecoderStep,
    states: Tensor,
    trie: Trie,
    draws: int,
    generator: torch.Generator,
    closed: bool = True,
    temperature: float = 1.0,
    allowed: AllowedItems | None = None,
) -> tuple[Tensor, Tensor]:
    """Return codes (B, G, L) drawn for states (B, D), G = `draws`, and their log-probs (B, G).

    `closed` draws among the codes that exist, in proportion to their probabilities; else any digit
    may follow any other, and `Trie.items_of` says which code is an item's. `allowed` are the items
    of each state that share all probability, at least one; `closed` only. `temperature` flattens
    what is drawn, not the log-probabilities, which are the decoder's own.
    """
    states = states.repeat_interleave(draws, dim=0)
    queries = torch.arange(len(states), device=states.device) // draws
    nodes = torch.zeros(len(states), dtype=torch.long, device=states.device)
    total = torch.zeros(len(states), device=states.device)
    drawn = []
    for level in range(trie.levels):
        logits = decoder.logits(level, states).float()
        if closed:
            logits = _among(logits, trie, level, nodes, queries, allowed)
        shares = (logits / temperature).softmax(dim=1)
        digit = torch.multinomial(shares, 1, generator=generator)
        total = total + logits.log_softmax(dim=1).gather(1, digit)[:, 0]
        drawn.append(digit[:, 0])
        if closed:
            nodes = trie.child(level, nodes, digit[:, 0])
        if level + 1 < trie.levels:
            states = decoder.advance(level, states, digit[:, 0])
    codes = torch.stack(drawn, dim=1).unflatten(0, (-1, draws))
    return codes, total.unflatten(0, (-1, draws))


def log_probs_among(
    decoder: DecoderStep, states: Tensor, trie: Trie, items: Tensor, allowed: AllowedItems
) -> Tensor:
    """Return (M,) the log-probability of items (M,) where only allowed items share it.

    It is the one that `draw` reports of the same items, and gradients flow through it.
    """
    queries = torch.arange(len(states), device=states.device)
    nodes = torch.zeros(len(states), dtype=torch.long, device=states.device)
    paths = trie.paths()[items]
    total = torch.zeros(len(states), device=states.device)
    for level in range(trie.levels):
        logits = decoder.logits(level, states).float()
        logits = _among(logits, trie, level, nodes, queries, allowed)
        nodes = paths[:, level]
        digits = trie.digits[level][nodes]
        total = total + logits.log_softmax(dim=1).gather(1, digits[:, None])[:, 0]
        if level + 1 < trie.levels:
            states = decoder.advance(level, states, digits)
    return total


def _among(
    logits: Tensor,
    trie: Trie,
    level: int,
    nodes: Tensor,
    queries: Tensor,
    allowed: AllowedItems | None,
) -> Tensor:
    """Return logits (M, V), -inf at digits below which nothing is, or nothing is allowed."""
    parent, child = trie.continuations(level, nodes)
    if allowed is not None:
        begins = trie.leaves[level]
        is_open = allowed.any(queries[parent], begins[child], begins[child + 1])
        parent, child = parent[is_open], child[is_open]
    mask = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    mask[parent, trie.digits[level][child]] = True
    return logits.masked_fill(~mask, -torch.inf)


class _Paths(NamedTuple):
    """Prefixes, or continuations of prefixes, in parallel tensors."""

    query: Tensor
    """The query of each."""
    parent: Tensor
    """The position of each one's prefix among the prefixes of the level before."""
    node: Tensor
    """The number of each among the trie's prefixes of its level."""
    score: Tensor
    """The log-probability of each, the sum over its digits."""

    def take(self, rows: Tensor) -> "_Paths":
        """Return the paths at positions, or where a mask is True."""
        return _Paths(*(tensor[rows] for tensor in self))


def _decode(
    decoder: DecoderStep,
    state: Tensor,
    trie: Trie,
    width: int | None,
    allowed: AllowedItems | None,
    closed: bool,
) -> _Paths:
    """Return the paths that are left after the last digit, by query; `width` None: all paths."""
    query = torch.arange(len(state), device=state.device)
    zeros = torch.zeros(len(state), device=state.device)
    paths = _Paths(query, query, torch.zeros_like(query), zeros)
    for level in range(trie.levels):
        parent, node, log_share = _log_shares(decoder, state, trie, level, paths.node, closed)
        paths = _Paths(paths.query[parent], parent, node, paths.score[parent] + log_share)
        if allowed is not None:
            begins = trie.leaves[level]
            paths = paths.take(allowed.any(paths.query, begins[paths.node], begins[paths.node + 1]))
        if width is not None:
            order = _best_first(paths.query, paths.score)
            paths = paths.take(order[_ranks(paths.query[order]) < width])
        if level + 1 < trie.levels:
            state = _next_states(decoder, state, trie, level, paths, closed)
    return paths


def _log_shares(
    decoder: DecoderStep, state: Tensor, trie: Trie, level: int, nodes: Tensor, closed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return prefix, number and log-probability of every continuation of prefixes (M,).

    A prefix with a single continuation gives it probability 1 without running the net, if `closed`.
    """
    parent, child = trie.continuations(level, nodes)
    counts = torch.bincount(parent, minlength=len(nodes))
    log_shares = torch.zeros(len(parent), device=state.device)
    is_open = counts > 1 if closed else counts > 0  # M
    if is_open.any():
        logits = decoder.logits(level, state[is_open]).float()
        chosen = is_open[parent]  # C
        row = (is_open.cumsum(0) - 1)[parent[chosen]]
        chosen_logits = logits[row, trie.digits[level][child[chosen]]]
        totals = _log_sums(chosen_logits, row, len(logits)) if closed else logits.logsumexp(dim=1)
        log_shares[chosen] = chosen_logits - totals[row]
    return parent, child, log_shares


def _next_states(
    decoder: DecoderStep, state: Tensor, trie: Trie, level: int, paths: _Paths, closed: bool
) -> Tensor:
    """Return the states (M, D) after each path's last digit.

    A prefix with one item below needs no state if `closed`: it stays zero.
    """
    states = state.new_zeros(len(paths.node), state.shape[1])
    if closed:
        begins = trie.leaves[level]
        is_open = begins[paths.node + 1] - begins[paths.node] > 1
    else:
        is_open = torch.ones_like(paths.node, dtype=torch.bool)
    if is_open.any():
        digits = trie.digits[level][paths.node[is_open]]
        advanced = decoder.advance(level, state[paths.parent[is_open]], digits)
        states[is_open] = advanced.to(states.dtype)
    return states


def _log_sums(values: Tensor, groups: Tensor, n: int) -> Tensor:
    """Return (n,) the log of the sum of exponentials of each group's values."""
    largest = torch.full((n,), float("-inf"), device=values.device)
    largest = largest.scatter_reduce(0, groups, values, "amax")
    sums = torch.zeros(n, device=values.device)
    return largest + sums.index_add(0, groups, (values - largest[groups]).exp()).log()


def _best_first(groups: Tensor, scores: Tensor) -> Tensor:
    """Return positions by group, the highest score first within each; ties keep their order."""
    order = scores.argsort(descending=True, stable=True)
    return order[groups[order].argsort(stable=True)]


def _ranks(groups: Tensor) -> Tensor:
    """Return the rank of each element within its group, from 0; groups are ascending."""
    position = torch.arange(len(groups), device=groups.device)
    return position - torch.searchsorted(groups, groups)

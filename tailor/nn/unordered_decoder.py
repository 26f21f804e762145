"""Generate the digits of a code in any order, the surest first.

The digits before the last one come from parallel books, whose order means nothing; the last digit
tells items of one code apart and is generated last. Shapes: M positions, D width, N items, L books,
V digits of a book, B queries, W beams, P beams of all queries.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.nn.sequence import SequenceNet


class UnorderedDecoder(SemanticIdDecoder):
    """A decoder that can generate the books' digits in any order.

    It learns from a random order at each step, or, not `shuffled`, from the books' own.
    """

    def __init__(
        self,
        body: SequenceNet,
        codes: np.ndarray,
        sizes: Sequence[int],
        width: int,
        dropout: float = 0.0,
        shuffled: bool = True,
    ) -> None:
        """Make the decoder of unique codes (N, L + 1), with `sizes` digits per book and last."""
        super().__init__(body, codes, sizes, width, dropout)
        # a book may come first or later: each has a norm of its own
        self.state_norms = nn.ModuleList([nn.LayerNorm(width) for _ in sizes])
        self.shuffled = shuffled

    @property
    def books(self) -> int:
        return len(self.sizes) - 1

    def logits(self, level: int, state: Tensor) -> Tensor:
        """Return the logits (M, V) of the digit of a book, or of the last digit."""
        return self.heads[level](self.state_norms[level](state))

    def loss(self, states: Tensor, items: Tensor, closed: bool = True) -> Tensor:
        """Return the mean of -log p(item) over states (M, D) and their next items (M,).

        Digits that cannot follow have their share too: `closed` is not asked for while learning,
        except for the last digit.
        """
        total = torch.zeros((), device=states.device)
        for book in self._order():
            digits = self.codes[items, book]
            total = total + cross_entropy(self.logits(book, states).float(), digits)
            states = self.advance(book, states, digits)
        return total + self.last_losses(states, items, "mean")

    def _order(self) -> list[int]:
        """Return the order of the books in one step of learning."""
        if not self.shuffled:
            return list(range(self.books))
        order: list[int] = torch.randperm(self.books).tolist()
        return order

    def last_losses(self, states: Tensor, items: Tensor, reduction: str) -> Tensor:
        """Return the losses of the last digits among those that exist, reduced over items (M,).

        `states` (M, D) are those after all books.
        """
        logits = self.logits(self.books, states).float()
        prefixes = self.nodes[items, -2]
        allowed = self._allowed_digits(self.books, logits.device)[prefixes]
        logits = logits.masked_fill(~allowed, float("-inf"))
        return cross_entropy(logits, self.codes[items, self.books], reduction=reduction)


class Beams(NamedTuple):
    """Codes that were generated for queries, best first for each."""

    codes: Tensor
    """(B, W, L) digits of the books."""
    scores: Tensor
    """(B, W) log-probabilities; -inf where there is no further code."""
    states: Tensor
    """(B, W, D) states after the last book."""


def search_unordered(
    decoder: UnorderedDecoder,
    states: Tensor,
    width: int,
    allowed: Tensor | None = None,
    confident: bool = True,
) -> Beams:
    """Return the likeliest codes per query, from states (B, D), by beam search.

    Each beam takes the book of which it is surest next: the one with the largest probability of a
    digit; or, not `confident`, the first that it has not taken. `allowed` (B, N) bool says which
    items a code may be of, and digits that lead to none have no share; None: all codes are open.
    """
    batch = len(states)
    device = states.device
    beams = Beams(
        torch.full((batch, 1, decoder.books), -1, dtype=torch.long, device=device),
        torch.zeros(batch, 1, device=device),
        states[:, None],
    )
    for _ in range(decoder.books):
        beams = _take_book(decoder, beams, width, allowed, confident)
    return beams


def _take_book(
    decoder: UnorderedDecoder, beams: Beams, width: int, allowed: Tensor | None, confident: bool
) -> Beams:
    """Return the best beams (B, <= W) after each one's next book."""
    batch, count = beams.scores.shape
    flat_codes = beams.codes.flatten(0, 1)  # P, L
    log_shares = _log_shares(decoder, beams, allowed)  # P, L, V
    is_taken = flat_codes >= 0
    if confident:
        sureness = log_shares.amax(dim=2).masked_fill(is_taken, float("-inf"))
        # where nothing is left, any free book will do: its digits have no share
        sureness = sureness.nan_to_num(neginf=-1e30).masked_fill(is_taken, float("-inf"))
        book = sureness.argmax(dim=1)
    else:
        book = is_taken.int().argmin(dim=1)
    of_book = log_shares[torch.arange(len(book), device=book.device), book]  # P, V
    totals = (beams.scores.flatten()[:, None] + of_book).view(batch, -1)  # B, W * V
    scores, picked = totals.topk(min(width, totals.shape[1]), dim=1)
    parents = picked // of_book.shape[1] + torch.arange(batch, device=book.device)[:, None] * count
    digits = picked % of_book.shape[1]
    books = book[parents]
    # a beam without any continuation stays, unlikely: its digit must exist all the same
    sizes = torch.tensor(decoder.sizes[:-1], device=book.device)
    digits = torch.minimum(digits, sizes[books] - 1)
    codes = flat_codes[parents].scatter(2, books[:, :, None], digits[:, :, None])
    states = _advanced(decoder, beams.states.flatten(0, 1)[parents], books, digits)
    return Beams(codes, scores, states)


def _log_shares(decoder: UnorderedDecoder, beams: Beams, allowed: Tensor | None) -> Tensor:
    """Return log-probabilities (P, L, V) of the digits of every book after each beam."""
    states = beams.states.flatten(0, 1)
    sizes = decoder.sizes[:-1]
    shape = (len(states), len(sizes), max(sizes))
    log_shares = torch.full(shape, float("-inf"), device=states.device)
    possible = None
    if allowed is not None:
        possible = _possible_items(decoder, beams, allowed).float()  # P, N
    for book, size in enumerate(sizes):
        logits = decoder.logits(book, states).float()
        if possible is not None:
            has_digit = torch.nn.functional.one_hot(decoder.codes[:, book], size).float()
            logits = logits.masked_fill(possible @ has_digit == 0, float("-inf"))
        shares = logits.log_softmax(dim=1)
        # a beam that leads to no item has no share to give
        log_shares[:, book, :size] = shares.masked_fill(shares.isnan(), float("-inf"))
    return log_shares


def _possible_items(decoder: UnorderedDecoder, beams: Beams, allowed: Tensor) -> Tensor:
    """Return (P, N) bool: items that have all digits that a beam has taken."""
    count = beams.scores.shape[1]
    codes = beams.codes.flatten(0, 1)
    possible = allowed.repeat_interleave(count, dim=0)
    for book in range(decoder.books):
        digits = codes[:, book, None]
        possible = possible & ((digits < 0) | (digits == decoder.codes[:, book]))
    return possible


def _advanced(decoder: UnorderedDecoder, states: Tensor, books: Tensor, digits: Tensor) -> Tensor:
    """Return the states (B, W, D) after digits (B, W) of books (B, W)."""
    advanced = states.clone()
    for book in range(decoder.books):
        is_book = books == book
        if is_book.any():
            after = decoder.advance(book, states[is_book], digits[is_book])
            advanced[is_book] = after.to(states.dtype)
    return advanced


def items_of_beams(
    decoder: UnorderedDecoder, beams: Beams, allowed: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and scores (B, C) of the allowed items of beams, best first, with last digits.

    -1 and -inf follow the last item of a query. `allowed` is (B, N) bool.
    """
    batch, width = beams.scores.shape
    begins, ends, items = _items_below(decoder, beams.codes.flatten(0, 1))
    counts = torch.where(beams.scores.flatten() > -torch.inf, ends - begins, 0)
    beam = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    first = (counts.cumsum(0) - counts)[beam]
    rows = items[begins[beam] + torch.arange(len(beam), device=beam.device) - first]  # C
    scores = beams.scores.flatten()[beam]
    if len(rows):
        last = -decoder.last_losses(beams.states.flatten(0, 1)[beam], rows, "none")
        scores = scores + last
    query = beam // width
    is_allowed = allowed[query, rows]
    table = np.full((batch, max(int(counts.view(batch, -1).sum(dim=1).max()), 1)), -1, np.int64)
    values = np.full(table.shape, -np.inf, dtype=np.float32)
    kept_query, kept_rows, kept_scores = (
        part[is_allowed].cpu().numpy() for part in (query, rows, scores)
    )
    order = np.lexsort((kept_rows, -kept_scores, kept_query))
    rank = np.arange(len(order)) - np.searchsorted(kept_query[order], kept_query[order])
    table[kept_query[order], rank] = kept_rows[order]
    values[kept_query[order], rank] = kept_scores[order]
    return table, values


def first_items(decoder: UnorderedDecoder, codes: Tensor) -> Tensor:
    """Return (n,) the first item with each of codes (n, L); -1 where none has it."""
    begins, ends, items = _items_below(decoder, codes)
    first = items[begins.clamp(max=max(len(items) - 1, 0))]
    return torch.where(ends > begins, first, -1)


def _items_below(decoder: UnorderedDecoder, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the items with codes (n, L) begin and end in an order of the items (N,)."""
    keys = _keys(decoder, decoder.codes[:, : decoder.books])
    order = keys.argsort(stable=True)
    ordered = keys[order]
    beam_keys = _keys(decoder, codes)
    begins = torch.searchsorted(ordered, beam_keys)
    return begins, torch.searchsorted(ordered, beam_keys, right=True), order


def _keys(decoder: UnorderedDecoder, codes: Tensor) -> Tensor:
    """Return (n,) a number for each of codes (n, L), different for different codes."""
    keys = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
    for book, size in enumerate(decoder.sizes[:-1]):
        keys = keys * size + codes[:, book]
    return keys


def code_affinities(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return (L, V, L, V) how much more often digits of two books meet than by chance.

    It is the pointwise mutual information over the items with codes (N, L), in nats, each pair
    counted once more than it is met by chance alone. A book with itself has 0.
    """
    books = len(sizes)
    most = max(sizes)
    affinities = np.zeros((books, most, books, most), dtype=np.float32)
    n = max(len(codes), 1)
    for first in range(books):
        for second in range(first):
            counts = np.zeros((most, most))
            np.add.at(counts, (codes[:, first], codes[:, second]), 1.0)
            chance = counts.sum(axis=1)[:, None] * counts.sum(axis=0) / n
            values = np.log((counts + chance / n + 1e-9) / (chance + chance / n + 1e-9))
            affinities[first, :, second] = values
            affinities[second, :, first] = values.T
    return affinities


def consistency(codes: np.ndarray, affinities: np.ndarray) -> np.ndarray:
    """Return (...) the sum of the affinities of all pairs of digits of codes (..., L)."""
    total = np.zeros(codes.shape[:-1], dtype=np.float32)
    for first in range(codes.shape[-1]):
        for second in range(first):
            total += affinities[first, codes[..., first], second, codes[..., second]]
    return total

"""REG4Rec: codes of unordered aspects, generated in the order of the model's confidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.generative.speller import STANDARD, Speller
from tailor.generative.speller_policy import Prompts
from tailor.nn.codebooks import CodeKind
from tailor.nn.quantizers import unit
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.nn.unordered_decoder import (
    UnorderedDecoder,
    code_affinities,
    consistency,
    first_items,
    items_of_beams,
    search_unordered,
)
from tailor.text.hashing import HashingEncoder
from tailor.training.alignment import Alignment
from tailor.training.rewards import alike, hit, weighted

PAPER = Paper(
    "reg4rec",
    "REG4Rec: Reasoning-Enhanced Generative Model for Large-Scale Recommendation Systems",
    "https://arxiv.org/abs/2508.15308",
    "Books of codes find planted facets; the order of confidence finds the next item at least as"
    " well as a fixed order; leaving out inconsistent codes raises the share of free codes that are"
    " an item's, and leaves one to everybody who had one",
)
AHEAD = 3  # items after the next one that rewards look at
WEIGHTS = {"hit": 1.0, "aspects": 0.5, "meaning": 0.3, "later": 0.5, "consistent": 0.2}


@dataclass(frozen=True, eq=False)
class FreeCodes:
    """Codes of one query that were generated freely, consistent ones first."""

    item_ids: tuple[str | None, ...]
    """Item of each code, the first where several share it; None: no item has it."""
    codes: tuple[tuple[int, ...], ...]
    """Digits of the books."""
    scores: tuple[float, ...]
    """Log-probabilities."""
    is_consistent: tuple[bool, ...]
    """Whether each code's digits go together."""


@dataclass(eq=False)
class REG4Rec(Speller):
    """Spell an item's aspects in the order of confidence, and distrust aspects that do not fit.

    The vector of an item is a sum of words of several books, found by additive k-means, so that
    each book can stand for an aspect. The net learns to generate the books' digits in any order;
    when it answers, each beam continues with the book of which it is surest. Codes whose digits
    seldom meet in the catalogue are inconsistent: they come last. `taught` goes on by rewards for
    right aspects, for later items too.

    Differs from the paper: k-means by turns in place of experts of an autoencoder, whose books did
    not find planted facets; one state of the history in place of attention at each step;
    consistency is the pointwise mutual information of digits, with a quantile of the catalogue as
    threshold; drawing while teaching goes through the books in a fixed order.
    """

    codes: CodeKind = "additive"
    """How vectors become codes: books beside each other without an order."""
    levels: int = 4
    """Number of books."""
    words: int = 16
    """Words per book, at most; near the number of values of an aspect."""
    order: Literal["confident", "fixed"] = "confident"
    """Order in which digits are generated; "fixed" is that of the books, in training too."""
    cut: Annotated[float, Range(0.0, 0.5)] = 0.05
    """Share of the catalogue that counts as inconsistent; free codes below its quantile come last,
    which matters where `closed` is False.
    """

    affinities_: np.ndarray = field(init=False, repr=False)
    """(levels, K, levels, K) how much more often digits meet than by chance, in nats."""
    threshold_: float = field(init=False, repr=False)
    """Consistency below which a code comes last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.cut < 1:
            raise DataError(f"cut is {self.cut}: it must be from 0 to below 1")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, words=4, width=8, length=10, epochs=3)

    # learning

    def _encode_items(
        self, vectors: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Make the codes, and learn which digits go together."""
        codes, report = super()._encode_items(vectors, rng)
        sizes = (codes[:, :-1].max(axis=0, initial=0) + 1).tolist()
        self.affinities_ = code_affinities(codes[:, :-1], sizes)
        values = consistency(codes[:, :-1], self.affinities_)
        self.threshold_ = float(np.quantile(values, self.cut)) if len(values) else 0.0
        sharing = np.unique(codes[:, :-1], axis=0, return_counts=True)[1]
        report["items_sharing_all_books"] = int(sharing[sharing > 1].sum())
        return codes, report

    def _make_net(self) -> SemanticIdDecoder:
        plain = super()._make_net()
        return UnorderedDecoder(
            plain.body,
            self.codes_,
            self.sizes_.tolist(),
            self.width,
            self.dropout,
            shuffled=self.order == "confident",
        )

    # answering

    def _rank_by_beam(
        self, states: Tensor, k: int, queries: Queries, candidates: Ragged | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, k) of the best items by beam search in any order.

        Not `closed`, free codes come first that are consistent and an item's; then the others.
        """
        net: UnorderedDecoder = self._ready()
        allowed = torch.from_numpy(queries.allowed(candidates)).to(states.device)
        width = min(max(self.beams, 2 * k), len(self.items_))
        beams = search_unordered(net, states, width, allowed, self._is_confident)
        rows, scores = items_of_beams(net, beams, allowed)
        if self.closed:
            return rows[:, :k], scores[:, :k]
        free = search_unordered(net, states, width, None, self._is_confident)
        free = free._replace(scores=free.scores.masked_fill(~self._fits(free.codes), -torch.inf))
        return _first_of_both(items_of_beams(net, free, allowed), (rows, scores), k)

    @property
    def _is_confident(self) -> bool:
        return self.order == "confident"

    def _fits(self, codes: Tensor) -> Tensor:
        """Return (...) bool: whether the digits of codes (..., L) go together."""
        if not self.cut:
            return torch.ones(codes.shape[:-1], dtype=torch.bool, device=codes.device)
        values = consistency(codes.cpu().numpy(), self.affinities_)
        return torch.from_numpy(values >= self.threshold_).to(codes.device)

    def free_codes(self, queries: Sequence[Query], width: int = 20) -> list[FreeCodes]:
        """Return the likeliest codes of each query, whether an item has them or not.

        Consistent codes come first; where none is, all are. A query without a known item in its
        history has none.
        """
        self._check_fitted()
        net: UnorderedDecoder = self._ready()
        over_items = Queries.of(queries).reindexed(self.items_)
        answers = [FreeCodes((), (), (), ())] * len(over_items)
        with torch.inference_mode():
            for numbers, windows in self._query_batches(over_items):
                states = self._query_states(windows, over_items.take(numbers))
                beams = search_unordered(net, states, width, None, self._is_confident)
                for i, number in enumerate(numbers.tolist()):
                    answers[number] = self._free_codes(beams.codes[i], beams.scores[i])
        return answers

    def _free_codes(self, codes: Tensor, scores: Tensor) -> FreeCodes:
        """Return codes (W, L) with their scores (W,) and items, consistent ones first."""
        order = torch.argsort((~self._fits(codes)).int(), stable=True)
        order = order[scores[order] > -torch.inf]
        codes = codes[order]
        net: UnorderedDecoder = self._ready()
        rows = first_items(net, codes).cpu().numpy()
        return FreeCodes(
            tuple(str(self.items_.ids[row]) if row >= 0 else None for row in rows.tolist()),
            tuple(map(tuple, codes.tolist())),
            tuple(scores[order].tolist()),
            tuple(self._fits(codes).tolist()),
        )

    # teaching

    def taught(
        self,
        data: Dataset,
        settings: Alignment = STANDARD,
        run: Run = Run(),
        weights: Mapping[str, float] = WEIGHTS,
        gamma: float = 0.7,
    ) -> Self:
        """Return a copy taught by rewards of the items it draws for the histories of `data`.

        The parts of a reward: "hit", the next item; "aspects", the share of its digits; "meaning",
        the cosine of texts; "later", the aspects of the three items after it, each counting `gamma`
        times the one before; "consistent", digits that go together.
        """
        self._check_fitted()
        rows = self._known_training(data).rows

        def reward(prompts: Prompts, items: np.ndarray) -> np.ndarray:
            return weighted(self._reward_parts(prompts, items, rows, gamma), weights)

        return self.aligned(data, reward, settings, run)

    def _reward_parts(
        self, prompts: Prompts, items: np.ndarray, rows: Ragged, gamma: float
    ) -> dict[str, np.ndarray]:
        """Return the parts of the rewards of items (B, G), in the histories `rows`."""
        codes = self.codes_[:, :-1]
        targets = prompts.targets
        positions = prompts.windows.starts + prompts.windows.lengths
        ends = rows.offsets[1:][prompts.users]
        later = np.zeros(items.shape, dtype=np.float32)
        for ahead in range(1, AHEAD + 1):
            exists = positions + ahead < ends
            future = rows.values[np.where(exists, positions + ahead, positions)]
            later += gamma**ahead * exists[:, None] * _shared_aspects(codes, items, future)
        fits = consistency(codes[items], self.affinities_) >= self.threshold_
        meaning = np.zeros(items.shape, dtype=np.float32)
        if self.vectors_.shape[1]:
            meaning = alike(items, unit(self.vectors_), targets)
        return {
            "hit": hit(items, targets),
            "aspects": _shared_aspects(codes, items, targets),
            "meaning": meaning,
            "later": later,
            "consistent": (fits & (items >= 0)).astype(np.float32),
        }


def _shared_aspects(codes: np.ndarray, items: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (B, G) the share of digits that items (B, G) have of their targets (B,)."""
    shares = (codes[items] == codes[targets][:, None]).mean(axis=-1)
    return np.where(items >= 0, shares, 0).astype(np.float32)


def _first_of_both(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and scores (B, k) of the first lists, then those of the second not among them."""
    rows = np.concatenate([first[0], second[0]], axis=1)
    scores = np.concatenate([first[1], second[1]], axis=1)
    for i, row in enumerate(rows):
        places = np.unique(row, return_index=True)[1]
        places = np.sort(places[row[places] >= 0])
        order = np.r_[places, np.setdiff1d(np.arange(len(row)), places)]
        rows[i], scores[i] = row[order], scores[i, order]
        rows[i, len(places) :] = -1
        scores[i, len(places) :] = -np.inf
    # a closed log-probability is larger than a free one: no score may rise down a list
    return rows[:, :k], np.minimum.accumulate(scores, axis=1)[:, :k]

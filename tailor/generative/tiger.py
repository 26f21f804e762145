"""TIGER: spell the next item."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import blocks, short_notes
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.blocks import TransformerBlock
from tailor.nn.decoding import AllowedItems, beam_search, exact_scores
from tailor.nn.item_encoders import CodeItemEncoder
from tailor.nn.positions import LearnedPositions
from tailor.nn.quantizers import (
    Codebooks,
    ResidualKMeans,
    code_report,
    unit,
    with_last_digit,
    with_next_digit,
)
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.nn.sequence import SequenceNet
from tailor.ports.base import Encoder
from tailor.text.cached import item_vectors, known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.tfidf import svd_vectors
from tailor.training.sequences import SequenceLearner, Windows, as_tensor, check_blocks, last_states

BEHAVIOUR_DIMS = 128  # of vectors made from who chose what


@dataclass(eq=False)
class TIGER(SequenceLearner):
    """Every item has a code whose digits go from coarse to fine meaning, and a net spells the next
    item's code digit by digit (Rajput et al. 2023).

    Codes are residual k-means of the items' vectors and a last digit that tells those of one code
    apart. A causal transformer reads the history; a beam keeps the likeliest beginnings and never
    leaves the codes there are, so that no answer is invented. A score is the logarithm of the
    item's probability. Differs from the paper (form for a processor): an item of the history is one
    token, the sum of its digits' vectors, not four; a small net a digit stands for the decoder, and
    reads the history through its last state alone; residual k-means for a residual autoencoder; a
    digit's probability is shared by the continuations that exist (`closed`); no token for the user.
    """

    encoder: Encoder | str = DEFAULT
    """Of items' texts; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    ids_from: Literal["text", "behaviour", "both"] = (
        # what codes say: what is written of an item, who chose it, or both; without any text
        # behaviour
        "text"
    )
    levels: int = 3
    """Digits before the last one."""
    words: int = 256
    """Of a level at most; one for eight items in a small catalogue."""
    reads_vectors: bool = True
    """Whether an item of the history is read by its vector too, beside its digits."""
    closed: bool = True
    """Whether a digit's probability is shared by the continuations there are, else by all digits.
    """
    beams: int = 30
    """Beginnings kept, and never fewer than twice the items asked for."""
    exact: bool = False
    """Whether every item is scored instead: slow, and the same list but for what the beam loses."""
    width: int = 128
    """Of item vectors and states."""
    length: int = 50
    """Most recent events read."""
    blocks: int = 2
    """Of the history's net."""
    heads: int = 2
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed while training."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 2e-3
    """Highest step; falls in a straight line to a hundredth over all epochs."""
    weight_decay: float = 0.01
    """Of matrices."""
    epochs: int = 30
    """At most."""

    codes_: np.ndarray = field(init=False, repr=False)
    """(N, levels + 1) int32."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) that are read beside the digits; none where they are not."""
    words_: np.ndarray = field(init=False, repr=False)
    """(levels, K, D) of the codebooks."""
    centre_: np.ndarray = field(init=False, repr=False)
    """(D,) what is taken from a vector before it is coded."""
    sizes_: np.ndarray = field(init=False, repr=False)
    """(levels + 1,) digits that the net can say."""
    space_: str = field(init=False, repr=False)
    """Which encoder's vectors codes are made from; "" for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        for name, least in {"levels": 1, "words": 2, "beams": 1}.items():
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {least}")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, length=10, epochs=3)

    # learning

    def _readable(self, data: Dataset) -> np.ndarray:
        if self.ids_from == "behaviour":
            return super()._readable(data)
        return np.array([bool(text.strip()) for text in data.item_texts], dtype=bool)

    def _read(self, data: Dataset, run: Run) -> None:
        texts = data.item_texts
        own = [texts[row] for row in data.catalogue.rows(self.items_.ids.tolist()).tolist()]
        self._texts, self.space_ = None, ""
        if self.ids_from != "behaviour" and any(text.strip() for text in own):
            encoder = encoder_of(self.encoder)
            self._texts, self.space_ = item_vectors(encoder, own, run.progress), encoder.space

    def _read_histories(self, rows: Ragged, run: Run) -> None:
        chosen = rows.keep(rows.values >= 0).matrix(len(self.items_))
        parts = []
        if self._texts is not None:
            parts.append(unit(_completed(self._texts, chosen)))
        if self._texts is None or self.ids_from == "both":
            dims = (
                svd_vectors(chosen.T.tocsr(), BEHAVIOUR_DIMS, run.seed)
                if chosen.nnz
                else np.zeros((len(self.items_), 1), np.float32)
            )
            parts.append(dims)
        vectors = np.hstack(parts)
        self.centre_ = (
            vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1], dtype=np.float32)
        )
        self.codes_, self._report = self._coded(vectors - self.centre_, run.rng("codes"))
        self.sizes_ = self.codes_.max(axis=0, initial=0) + 1
        self.vectors_ = (
            vectors if self.reads_vectors else np.zeros((len(vectors), 0), dtype=np.float32)
        )
        del self._texts

    def _coded(
        self, vectors: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, object]]:
        """(N, levels + 1) digits that no two items share, and what the levels look like."""
        if not len(vectors):
            self.words_ = np.zeros((self.levels, 0, vectors.shape[1]), dtype=np.float32)
            return np.zeros((0, self.levels + 1), dtype=np.int32), {}
        books = ResidualKMeans(self.levels, self.words).fit(vectors, rng)
        self.words_, codes = books.words, books.encode(vectors)
        return with_last_digit(codes, rng), code_report(codes, [books.words.shape[1]] * self.levels)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        super()._fit(data, run, valid)
        self.fit_report_ |= self.__dict__.pop("_report")

    def _make_net(self) -> SemanticIdDecoder:
        sizes = self.sizes_.tolist()
        vectors = torch.from_numpy(self.vectors_) if self.vectors_.shape[1] else None
        front = CodeItemEncoder(
            torch.from_numpy(self.codes_.astype(np.int64)), sizes, self.width, vectors
        )
        layers = [
            TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)
        ]
        body = SequenceNet(
            len(self.items_),
            self.width,
            layers,
            self.dropout,
            positions=LearnedPositions(self.length, self.width),
            item_encoder=front,
        )
        return SemanticIdDecoder(body, self.codes_, sizes, self.width, self.dropout)

    def _loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        net: SemanticIdDecoder = self._net
        shown, known, places, targets = self._task(batch, rng)
        states = net.body.states(net.body.table(as_tensor(shown, net)), **known).flatten(0, 1)
        return net.loss(states[as_tensor(places, net)], as_tensor(targets, net), self.closed)

    # answering

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.reindexed(self.items_)
        lists = None if candidates is None else candidates.reindexed(self.items_).ragged()
        rows, scores = (
            np.full((len(queries), k), -1, np.int32),
            np.full((len(queries), k), -np.inf, np.float32),
        )
        answer = self._every if self.exact else self._beamed
        with torch.inference_mode():
            for some, windows in self._asked(queries):
                states = last_states(self._ready().body, windows, **self._known(windows))
                each = (
                    self.width * len(self.items_)
                    if self.exact
                    else max(self.beams, 2 * k) * max(self.width, self.words)
                )
                for start, stop in blocks(len(some), each):
                    of = some[start:stop]
                    only = None if lists is None else lists.take(of)
                    found, values = answer(states[start:stop], k, queries.take(of), only)
                    rows[of, : found.shape[1]], scores[of, : found.shape[1]] = found, values
        return Rankings(
            self.items_,
            rows,
            scores,
            "log-probability",
            notes=short_notes(self.name, queries, rows, k),
        )

    def _beamed(
        self, states: Tensor, k: int, queries: Queries, only: Ragged | None
    ) -> tuple[np.ndarray, np.ndarray]:
        net: SemanticIdDecoder = self._ready()
        trie = net.trie.to(states.device)
        choosable = AllowedItems(trie, queries.exclude, queries.blocked_rows, only)
        found, values = beam_search(
            net, states, trie, min(max(self.beams, 2 * k), len(self.items_)), choosable, self.closed
        )
        return found[:, :k].cpu().numpy(), values[:, :k].cpu().numpy()

    def _every(
        self, states: Tensor, k: int, queries: Queries, only: Ragged | None
    ) -> tuple[np.ndarray, np.ndarray]:
        net: SemanticIdDecoder = self._ready()
        values = exact_scores(net, states, net.trie.to(states.device), self.closed).cpu().numpy()
        return top_k(values, k, queries.exclude, queries.blocked_rows, only)

    def with_items(self, items: Dataset, run: Run = Run()) -> Self:
        """A copy that can answer the items of another data set too, by codes made from their texts;
        nothing is learned.

        Each gets the next free last digit of its code; one whose code has none left that the net
        can say is left out, and counted in `fit_report_`. Raises DataError where codes say who
        chose an item, ModelError for another encoder.
        """
        self._check_fitted()
        if self.ids_from != "text" or not self.space_:
            raise DataError(
                f"codes were made from {self.ids_from if self.space_ else 'behaviour'}: only those"
                " made from text are known of an item that nobody chose"
            )
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        rows = np.flatnonzero(
            self._readable(items) & (self.items_.rows(items.catalogue.ids.tolist()) < 0)
        )
        vectors = unit(
            item_vectors(encoder, [items.item_texts[row] for row in rows.tolist()], run.progress)
        )
        books = Codebooks(self.words_, np.zeros(self.words_.shape[:2], dtype=np.float32))
        codes = with_next_digit(books.encode(vectors - self.centre_), self.codes_)
        kept = codes[:, -1] < self.sizes_[-1]
        ids = [*self.items_.ids.tolist(), *items.catalogue.ids[rows[kept]].tolist()]
        more = replace(self)
        more.__dict__ |= self.state()
        more.items_ = Vocabulary.of_items(ids)
        order = np.argsort(more.items_.rows(ids))
        more.codes_ = np.concatenate([self.codes_, codes[kept]]).astype(np.int32)[order]
        more.vectors_ = np.concatenate([self.vectors_, vectors[kept][:, : self.vectors_.shape[1]]])[
            order
        ]
        more.fit_report_ = {**self.fit_report_, "left_out": int((~kept).sum())}
        return more

    def code_of(self, item_id: str) -> tuple[int, ...]:
        """The digits of an item. Raises DataError for one that the method does not know."""
        self._check_fitted()
        row = int(self.items_.rows([item_id])[0])
        if row < 0:
            raise DataError(
                f"{item_id!r} has no code: it was not in the data that {self.name} was fitted on,"
                " or is told by nothing there"
            )
        return tuple(self.codes_[row].tolist())


def _completed(vectors: np.ndarray, chosen: sp.csr_matrix) -> np.ndarray:
    """The same; an item without words (a zero row) gets the sum of what its choosers (U, N) chose
    besides, which tells it from others without words.
    """
    silent = np.flatnonzero(~vectors.any(axis=1))
    if not len(silent):
        return vectors
    theirs = chosen[:, silent]
    some = np.flatnonzero(np.diff(theirs.indptr))
    out = vectors.copy()
    out[silent] = theirs[some].T @ (chosen[some] @ vectors)
    return out

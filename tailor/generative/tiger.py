"""TIGER: generate the next item's semantic id."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

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
from tailor.training.sequences import (
    SequenceLearner,
    TrainingData,
    Windows,
    as_tensor,
    check_blocks,
    last_states,
)

BEHAVIOUR_DIMS = 128  # width of item vectors made from users' choices


@dataclass(eq=False)
class TIGER(SequenceLearner):
    """Generate the next item's semantic id digit by digit (Rajput et al. 2023).

    Every item has a code whose digits go from coarse to fine meaning: residual k-means of the
    items' vectors, and a last digit that makes codes unique. A causal transformer reads the
    history. Beam search keeps the likeliest prefixes and never leaves the codes that exist, so no
    item is invented. A score is the log-probability of the item.

    Differs from the paper (form for a CPU): an item of the history is one token, the sum of its
    digits' vectors, instead of four; a small net per digit replaces the decoder, and reads the
    history through its last state alone; residual k-means replaces a residual autoencoder; a
    digit's probability is shared by the continuations that exist (`closed`); there is no token for
    the user.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of item texts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    ids_from: Literal["text", "behaviour", "both"] = "text"
    """What codes are made from: item texts, users' choices, or both; users' choices where there is
    no text.
    """
    levels: int = 3
    """Digits before the last one."""
    words: int = 256
    """Codewords per level, at most; one for eight items in a small catalogue."""
    reads_vectors: bool = True
    """Whether items of the history are read by their vector too, besides their digits."""
    closed: bool = True
    """Whether a digit's probability is shared by the continuations that exist, else by all digits.
    """
    beams: int = 30
    """Prefixes kept in beam search; never fewer than twice the items requested."""
    exact: bool = False
    """Whether every item is scored instead: slow, and the same list except for the beam's losses.
    """
    width: int = 128
    """Width of item vectors and states."""
    length: int = 50
    """Most recent events that are read."""
    blocks: int = 2
    """Number of transformer blocks that read the history."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed during training."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.01
    """Weight decay of matrices in AdamW."""
    epochs: int = 30
    """Passes over the data, at most."""

    codes_: np.ndarray = field(init=False, repr=False)
    """(N, levels + 1) int32 digits of each item."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors read besides the digits; D is 0 where they are not read."""
    words_: np.ndarray = field(init=False, repr=False)
    """(levels, K, D) codewords."""
    centre_: np.ndarray = field(init=False, repr=False)
    """(D,) mean vector, subtracted before a vector is coded."""
    sizes_: np.ndarray = field(init=False, repr=False)
    """(levels + 1,) number of digits that the net can generate per level."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space that codes are made from; "" for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        for name, minimum in {"levels": 1, "words": 2, "beams": 1}.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, length=10, epochs=3)

    # learning

    def _describable(self, data: Dataset) -> np.ndarray:
        if self.ids_from == "behaviour":
            return super()._describable(data)
        return np.array([bool(text.strip()) for text in data.item_texts], dtype=bool)

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        """Give every item a code, and return figures of the codes."""
        vectors = self._code_vectors(training, run)
        self.centre_ = np.zeros(vectors.shape[1], dtype=np.float32)
        if len(vectors):
            self.centre_ = vectors.mean(axis=0)
        self.codes_, report = self._encode_items(vectors - self.centre_, run.rng("codes"))
        self.sizes_ = self.codes_.max(axis=0, initial=0) + 1
        self.vectors_ = vectors
        if not self.reads_vectors:
            self.vectors_ = np.zeros((len(vectors), 0), dtype=np.float32)
        return report

    def _code_vectors(self, training: TrainingData, run: Run) -> np.ndarray:
        """Return the vectors (N, D) that codes are made from: of texts, of choices, or both."""
        texts = self._text_vectors(training.data, run)
        choices = training.rows.keep(training.rows.values >= 0).matrix(len(self.items_))
        parts = []
        if texts is not None:
            parts.append(unit(_fill_empty(texts, choices)))
        if texts is None or self.ids_from == "both":
            behaviour = np.zeros((len(self.items_), 1), np.float32)
            if choices.nnz:
                behaviour = svd_vectors(choices.T.tocsr(), BEHAVIOUR_DIMS, run.seed)
            parts.append(behaviour)
        return np.hstack(parts)

    def _text_vectors(self, data: Dataset, run: Run) -> np.ndarray | None:
        """Return the vectors of the items' texts; None where codes are not made from text."""
        self.space_ = ""
        rows = data.catalogue.rows(self.items_.ids.tolist())
        texts = [data.item_texts[row] for row in rows.tolist()]
        if self.ids_from == "behaviour" or not any(text.strip() for text in texts):
            return None
        encoder = encoder_of(self.encoder)
        self.space_ = encoder.space
        return item_vectors(encoder, texts, run.progress)

    def _encode_items(
        self, vectors: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Learn codebooks; return unique codes (N, levels + 1) and figures of the levels."""
        if not len(vectors):
            self.words_ = np.zeros((self.levels, 0, vectors.shape[1]), dtype=np.float32)
            return np.zeros((0, self.levels + 1), dtype=np.int32), {}
        books = ResidualKMeans(self.levels, self.words).fit(vectors, rng)
        self.words_ = books.words
        codes = books.encode(vectors)
        report = code_report(codes, [books.words.shape[1]] * self.levels)
        return with_last_digit(codes, rng), report

    def _make_net(self) -> SemanticIdDecoder:
        sizes = self.sizes_.tolist()
        codes = torch.from_numpy(self.codes_.astype(np.int64))
        vectors = torch.from_numpy(self.vectors_) if self.vectors_.shape[1] else None
        item_encoder = CodeItemEncoder(codes, sizes, self.width, vectors)
        layers = [
            TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)
        ]
        body = SequenceNet(
            len(self.items_),
            self.width,
            layers,
            self.dropout,
            positions=LearnedPositions(self.length, self.width),
            item_encoder=item_encoder,
        )
        return SemanticIdDecoder(body, self.codes_, sizes, self.width, self.dropout)

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        net: SemanticIdDecoder = self._net
        task = self._make_task(batch, rng)
        vectors = net.body.table(as_tensor(task.rows, net))
        states = net.body.states(vectors, **task.inputs).flatten(0, 1)
        predicting = states[as_tensor(task.positions, net)]
        return net.loss(predicting, as_tensor(task.targets, net), self.closed)

    # answering

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.reindexed(self.items_)
        lists = None if candidates is None else candidates.reindexed(self.items_).ragged()
        rows = np.full((len(queries), k), -1, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        if self.exact:
            answer = self._rank_exactly
            numbers_per_query = self.width * len(self.items_)
        else:
            answer = self._rank_by_beam
            numbers_per_query = max(self.beams, 2 * k) * max(self.width, self.words)
        with torch.inference_mode():
            for numbers, windows in self._query_batches(queries):
                inputs = self._layer_inputs(windows)
                states = last_states(self._ready().body, windows, **inputs)
                for start, stop in blocks(len(numbers), numbers_per_query):
                    block = numbers[start:stop]
                    allowed = None if lists is None else lists.take(block)
                    best, values = answer(states[start:stop], k, queries.take(block), allowed)
                    rows[block, : best.shape[1]] = best
                    scores[block, : best.shape[1]] = values
        notes = short_notes(self.name, queries, rows, k)
        return Rankings(self.items_, rows, scores, "log-probability", notes=notes)

    def _rank_by_beam(
        self, states: Tensor, k: int, queries: Queries, candidates: Ragged | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, k) of the best items by beam search."""
        net: SemanticIdDecoder = self._ready()
        trie = net.trie.to(states.device)
        allowed = AllowedItems(trie, queries.exclude, queries.blocked_rows, candidates)
        width = min(max(self.beams, 2 * k), len(self.items_))
        rows, scores = beam_search(net, states, trie, width, allowed, self.closed)
        return rows[:, :k].cpu().numpy(), scores[:, :k].cpu().numpy()

    def _rank_exactly(
        self, states: Tensor, k: int, queries: Queries, candidates: Ragged | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, k) of the best items, with every item scored."""
        net: SemanticIdDecoder = self._ready()
        scores = exact_scores(net, states, net.trie.to(states.device), self.closed)
        return top_k(scores.cpu().numpy(), k, queries.exclude, queries.blocked_rows, candidates)

    def with_items(self, items: Dataset, run: Run = Run()) -> Self:
        """Return a copy that can recommend the items of another data set too.

        Their codes are made from their texts; nothing is learned. Each gets the next free last
        digit of its code. An item whose code has no free digit that the net can generate is left
        out, and counted in `fit_report_`.

        Raises DataError where codes were made from users' choices, ModelError for another encoder.
        """
        self._check_fitted()
        if self.ids_from != "text" or not self.space_:
            source = self.ids_from if self.space_ else "behaviour"
            raise DataError(
                f"codes were made from {source}: only those made from text are known of an item"
                " that nobody chose"
            )
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        is_new = self.items_.rows(items.catalogue.ids.tolist()) < 0
        rows = np.flatnonzero(self._describable(items) & is_new)
        texts = [items.item_texts[row] for row in rows.tolist()]
        vectors = unit(item_vectors(encoder, texts, run.progress))
        books = Codebooks(self.words_, np.zeros(self.words_.shape[:2], dtype=np.float32))
        codes = with_next_digit(books.encode(vectors - self.centre_), self.codes_)
        has_code = codes[:, -1] < self.sizes_[-1]
        new_ids = items.catalogue.ids[rows[has_code]].tolist()
        extended = self._with_codes(new_ids, codes[has_code], vectors[has_code])
        extended.fit_report_ = {**self.fit_report_, "left_out": int((~has_code).sum())}
        return extended

    def _with_codes(self, item_ids: list[str], codes: np.ndarray, vectors: np.ndarray) -> Self:
        """Return a copy with further items, their codes and vectors."""
        items, order = self.items_.with_items(item_ids)
        read_vectors = vectors[:, : self.vectors_.shape[1]]
        return self._with_state(
            items_=items,
            codes_=np.concatenate([self.codes_, codes]).astype(np.int32)[order],
            vectors_=np.concatenate([self.vectors_, read_vectors])[order],
        )

    def code_of(self, item_id: str) -> tuple[int, ...]:
        """Return the digits of an item. Raises DataError for an item without a code."""
        self._check_fitted()
        row = int(self.items_.rows([item_id])[0])
        if row < 0:
            raise DataError(
                f"{item_id!r} has no code: it was not in the data that {self.name} was fitted on,"
                " or has neither events nor text there"
            )
        return tuple(self.codes_[row].tolist())


def _fill_empty(vectors: np.ndarray, choices: sp.csr_matrix) -> np.ndarray:
    """Return vectors in which items without text (zero rows) have one from their users' choices.

    It is the sum of the vectors of what those users chose, by `choices` (U, N), which tells items
    without text apart.
    """
    empty = np.flatnonzero(~vectors.any(axis=1))
    if not len(empty):
        return vectors
    choices_of_empty = choices[:, empty]
    users = np.flatnonzero(np.diff(choices_of_empty.indptr))
    filled = vectors.copy()
    filled[empty] = choices_of_empty[users].T @ (choices[users] @ vectors)
    return filled

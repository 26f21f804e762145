"""Train one net on many tasks, written as records of words and items.

A paper's method derives from it and says which records it learns from (`_make_records`), which
words they hold (`_told_words`), and what the record of a query is (`_prompts`). Training, the
spelling of items and the saying of words are written here, once.
Shapes: B queries or records, T tokens, M positions that are told, D width, W words.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError
from tailor.generative.records import (
    END,
    SPECIAL,
    UNKNOWN,
    Part,
    Record,
    TokenBatch,
    TokenRows,
    frequent_words,
)
from tailor.generative.speller import Speller
from tailor.generative.user_events import rating_of
from tailor.nn.attention import SelfAttention
from tailor.nn.blocks import TransformerBlock
from tailor.nn.item_encoders import CodeItemEncoder
from tailor.nn.packing import pack_batches, split_by_budget
from tailor.nn.pictured_net import PicturedNet
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.nn.token_net import TokenNet
from tailor.training.sequences import QUERY_POSITIONS, TrainingData, Windows, as_tensor
from tailor.training.validation import Validation

TEXT_WORDS = 30  # words of a text that are read or said


@dataclass(frozen=True, eq=False)
class RecordData(TrainingData):
    """Histories that records are made of."""

    users: Queries
    """Users over `items_`; their histories have the columns values and texts where the data do."""


@dataclass(eq=False)
class RecordLearner(Speller):
    """Learn to say words and items after others, in sentences that tell users' histories.

    Items are single tokens of a causal transformer, whose attention knows how far apart tokens are
    and not where they stand. Only the marked parts of a record are learned. An item is spelled
    from the state before it through the codes that exist; words are said one by one.
    """

    vocabulary: int = 4_000
    """Most words, by frequency; the others are read as the unknown word."""
    word_dropout: Annotated[float, Range(0.0, 0.6)] = 0.3
    """Share of the words to read that are replaced by the unknown one in training."""
    width: int = 64
    """Width of word and item vectors and of states."""
    length: int = 20
    """Most recent items that are read."""
    heads: int = 4
    """Attention heads; they must divide the width into even parts."""
    dropout: Annotated[float, Range(0.0, 0.5)] = 0.1
    """Share of values zeroed during training."""
    patience: int | None = None
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """
    batch_places: int = 2048
    """Tokens of a batch, padding included."""

    vocabulary_: Vocabulary = field(init=False, repr=False)
    """Words that can be read and said; marks come first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler != "packed":
            raise DataError(f'sampler is "{self.sampler}": records are not windows; leave it out')
        if self.vocabulary < 1 or not 0 <= self.word_dropout < 1:
            raise DataError(
                f"vocabulary is {self.vocabulary}, word_dropout {self.word_dropout}: at least 1"
                " word, and a share from 0 to below 1"
            )

    # for a paper to fill in

    @abstractmethod
    def _make_records(self, training: RecordData, rng: np.random.Generator) -> list[Record]:
        """Return the records of one epoch."""

    @abstractmethod
    def _told_words(self, training: RecordData) -> Iterable[Sequence[str]]:
        """Yield the texts whose words can be read and said."""

    @abstractmethod
    def _prompts(self, queries: Queries) -> list[Record]:
        """Return for each query over `items_` the record that its next item follows."""

    def _marks(self) -> list[str]:
        """Return further words in angle brackets that records hold."""
        return []

    def _answer_loss(self, log_probs: Tensor, tasks: np.ndarray) -> Tensor:
        """Return the loss of a batch, from log-probabilities (M,) and the task (M,) of each."""
        return -log_probs.mean()

    # learning

    def _training_data(self, data: Dataset, learned_data: Dataset) -> RecordData:
        training = super()._training_data(data, learned_data)
        users = learned_data.queries(columns=_columns_of(learned_data)).reindexed(self.items_)
        return RecordData(
            training.data, training.rows, training.times_ms, training.item_rows, users
        )

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        report = super()._prepare_items(training, run)
        lexicon = frequent_words(self._told_words(_records_of(training)), self.vocabulary)
        self.vocabulary_ = Vocabulary([*SPECIAL, *self._marks(), *lexicon])
        return {**report, "words": len(lexicon)}

    def _make_net(self) -> SemanticIdDecoder:
        sizes = self.sizes_.tolist()
        layers: list[nn.Module] = [
            TransformerBlock(
                self.width,
                self.heads,
                self.dropout,
                attention=SelfAttention(self.width, self.heads, rotary=True),
            )
            for _ in range(self.blocks)
        ]
        body = self._make_body(self._item_encoder(), layers)
        return SemanticIdDecoder(body, self.codes_, sizes, self.width, self.dropout)

    def _titles_of(self, training: TrainingData) -> list[str]:
        """Return titles (N,) of items; whole texts where the data have no titles."""
        data = training.data
        titles = data.texts_of("title")
        texts = titles if any(titles) else data.item_texts
        return [texts[row] for row in data.catalogue.rows(self.items_.ids.tolist()).tolist()]

    def _item_encoder(self) -> CodeItemEncoder:
        """Return what makes the vectors of items that are read."""
        levels = self._read_levels()
        codes = torch.from_numpy(self.codes_[:, levels].astype(np.int64))
        vectors = torch.from_numpy(self.vectors_) if self.vectors_.shape[1] else None
        return CodeItemEncoder(codes, self.sizes_[levels].tolist(), self.width, vectors)

    def _read_levels(self) -> np.ndarray:
        """Return the digits of a code by which items are read: all of them."""
        return np.arange(self.codes_.shape[1])

    def _make_body(self, item_encoder: CodeItemEncoder, layers: list[nn.Module]) -> TokenNet:
        """Return the untrained net that reads tokens."""
        words, items = len(self.vocabulary_), len(self.items_)
        return TokenNet(words, items, item_encoder, self.width, layers, self.dropout)

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        records = _records_of(training)
        validation = None if validation is None else _with_columns(validation)

        def batches(rng: np.random.Generator) -> list[TokenBatch]:
            return self._record_batches(records, rng)

        def loss(batch: TokenBatch, rng: np.random.Generator) -> Tensor:
            return self._record_loss(batch)

        steps = len(batches(run.rng("records")))
        if not steps:
            return self._leave_untrained("no user has two events to learn from")
        report = self._train_net(training.data, run, self._recipe(), batches, loss, validation)
        return {"steps_per_epoch": steps, **report}

    def _record_batches(self, training: RecordData, rng: np.random.Generator) -> list[TokenBatch]:
        """Return the batches of one epoch, with words dropped."""
        records = [record for record in self._make_records(training, rng) if record.answers]
        rows = TokenRows.of(records, self.vocabulary_)
        is_word = np.array([not word.startswith("<") for word in self.vocabulary_.ids.tolist()])
        rows = rows.dropped(self.word_dropout, is_word, self._row_of(UNKNOWN), rng)
        return [
            rows.batch(numbers)
            for numbers in pack_batches(rows.tokens.lengths, self.batch_places, rng)
        ]

    def _record_loss(self, batch: TokenBatch) -> Tensor:
        net: SemanticIdDecoder = self._net
        states = self._read(net, batch)
        row, column = np.nonzero(batch.is_answer)
        before = states[as_tensor(row, net), as_tensor(column - 1, net)]
        tokens = as_tensor(batch.tokens[row, column], net)
        return self._answer_loss(self._log_probs(net, before, tokens), batch.tasks[row])

    def _log_probs(self, net: SemanticIdDecoder, states: Tensor, tokens: Tensor) -> Tensor:
        """Return (M,) the log-probabilities of tokens (M,), words or items, after states (M, D).

        Words are among words, items among items: the record says which of them comes.
        """
        is_item = tokens >= len(self.vocabulary_)
        log_probs = torch.zeros(len(tokens), device=states.device)
        if not is_item.all():
            logits = self._body(net).word_logits(states[~is_item])
            log_probs[~is_item] = -cross_entropy(logits, tokens[~is_item], reduction="none")
        if is_item.any():
            items = tokens[is_item] - len(self.vocabulary_)
            log_probs[is_item] = net.item_log_probs(states[is_item], items, self.closed)
        return log_probs

    def _read(self, net: SemanticIdDecoder, batch: TokenBatch) -> Tensor:
        """Return the states (B, T, D) after each token of a batch."""
        body = self._body(net)
        tokens = as_tensor(batch.tokens, net)
        if batch.pictures is None or not isinstance(body, PicturedNet):
            return body.read(tokens)
        pixels = None if batch.pixels is None else torch.from_numpy(batch.pixels).to(net.device)
        return body.read(tokens, as_tensor(batch.pictures, net), pixels)

    def _body(self, net: SemanticIdDecoder) -> TokenNet:
        body = net.body
        assert isinstance(body, TokenNet)
        return body

    def _row_of(self, word: str) -> int:
        return int(self.vocabulary_.rows([word])[0])

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        raise NotImplementedError("records are learned from, not windows")

    def _steps_per_epoch(self, rows: Ragged, run: Run) -> int:
        return int(self.fit_report_.get("steps_per_epoch", 0))

    def aligned(self, *arguments: Any, **settings: Any) -> Self:
        """Refuse: rewards are defined for histories of items, not for records."""
        raise ModelError(f"{self.name} learns from records: it cannot be aligned by rewards")

    # answering

    def _query_states(self, windows: Windows, queries: Queries) -> Tensor:
        return self._states_after(self._prompts(queries))

    def _states_after(self, records: Sequence[Record]) -> Tensor:
        """Return the states (B, D) after the last part of each record."""
        net: SemanticIdDecoder = self._ready()
        rows = TokenRows.of(records, self.vocabulary_)
        lengths = rows.tokens.lengths
        states = torch.zeros(len(records), self.width, device=net.device)
        order = np.argsort(lengths, kind="stable")
        for numbers in split_by_budget(order, lengths, QUERY_POSITIONS):
            batch = rows.batch(numbers)
            read = self._read(net, batch)
            last = read[torch.arange(len(numbers)), as_tensor(batch.lengths - 1, net)]
            states[as_tensor(numbers, net)] = last.to(states.dtype)
        return states

    def _word_probabilities(self, records: Sequence[Record], options: Sequence[str]) -> np.ndarray:
        """Return (B, O) the probability of each of some words after each record, among them."""
        rows = as_tensor(self.vocabulary_.rows(options), self._ready())
        with torch.inference_mode():
            logits = self._body(self._ready()).word_logits(self._states_after(records))
            shares: np.ndarray = logits[:, rows].softmax(dim=1).cpu().numpy()
        return shares

    def _expected_ratings(self, records: Sequence[Record], words: Sequence[str]) -> np.ndarray:
        """Return (B,) the mean rating after each record, by the probabilities of ratings' words."""
        if not records:
            return np.zeros(0)
        ratings = np.array([rating_of(word) for word in words])
        return self._word_probabilities(records, words) @ ratings

    def _add_reasons(
        self,
        explanations: list[list[Explanation]],
        queries: Sequence[Query],
        rankings: Sequence[Ranking],
        why: Callable[[Queries, int, int], Record],
    ) -> None:
        """Put into explanations what the net says of items, where it says something.

        `why` gives the question about the query of a number, over `items_`, and the row of an item.
        """
        over_items = Queries.of(queries).reindexed(self.items_)
        places = [
            (i, rank, int(self.items_.rows([item_id])[0]))
            for i in range(len(over_items))
            for rank, item_id in enumerate(rankings[i].ids)
        ]
        places = [place for place in places if place[2] >= 0]
        records = [why(over_items, i, row) for i, _, row in places]
        for (i, rank, _), text in zip(places, self._say(records, TEXT_WORDS), strict=True):
            if text:
                explanations[i][rank] = replace(explanations[i][rank], text=" ".join(text))

    def _say(
        self,
        records: Sequence[Record],
        most: int = 20,
        options: Sequence[str] | None = None,
        rng: np.random.Generator | None = None,
    ) -> list[list[str]]:
        """Return the likeliest next words after each record, until the end or `most`.

        They are said one by one, among `options`; None: all words, and of the marks that of the end
        alone.
        With `rng` they are drawn by their probabilities, by the same chance after every record.
        """
        words = self.vocabulary_.ids.tolist()
        is_sayable = np.isin(words, [] if options is None else options)
        if options is None:
            is_sayable = np.array([not word.startswith("<") or word == END for word in words])
        hidden = torch.from_numpy(~is_sayable)
        texts: list[list[str]] = [[] for _ in records]
        open_records = list(range(len(records)))
        for _ in range(most):
            longer = [_with_parts(records[i], texts[i]) for i in open_records]
            with torch.inference_mode():
                logits = self._body(self._ready()).word_logits(self._states_after(longer))
                if rng is not None:
                    chance = rng.gumbel(size=logits.shape[1]).astype(np.float32)
                    logits = logits + torch.from_numpy(chance).to(logits.device)
                best = logits.masked_fill(hidden.to(logits.device), -torch.inf).argmax(dim=1)
            next_words = self.vocabulary_.named(best.cpu().numpy())
            for i, word in zip(open_records, next_words, strict=True):
                texts[i].append(word)
            open_records = [i for i in open_records if texts[i][-1] != END]
            if not open_records:
                break
        return [[word for word in text if word != END] for text in texts]


def _columns_of(data: Dataset) -> list[str]:
    """Return the columns of histories that records are made of, where the data have them."""
    columns = []
    if "value" in data.events.columns:
        columns.append("values")
    if "texts" in data.tables and {"user_id", "item_id"} <= set(data.tables["texts"].columns):
        columns.append("texts")
    return columns


def _with_columns(validation: Validation) -> Validation:
    """Return a validation whose histories bring what users wrote and rated, as in training."""
    columns = _columns_of(validation.split.data)
    queries, _ = validation.split.queries("valid", columns=columns)
    numbers = {user_id: number for number, user_id in enumerate(queries.user_ids.tolist())}
    rows = np.array([numbers[user_id] for user_id in validation.queries.user_ids.tolist()], int)
    queries_with_columns = replace(validation.queries, columns=queries.take(rows).columns)
    return replace(validation, queries=queries_with_columns)


def _records_of(training: TrainingData) -> RecordData:
    assert isinstance(training, RecordData)
    return training


def _with_parts(record: Record, parts: Sequence[Part]) -> Record:
    """Return a record with further parts at its end."""
    return replace(record, parts=(*record.parts, *parts))

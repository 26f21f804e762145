"""RecFormer: read a history as one text, made of the sentences of its items."""

import time
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.costs import Cost
from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.sampling import PRESETS, uniform_negatives
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.fitting import Recipe, fit_net
from tailor.nn.losses import InfoNCE, SampledSoftmax
from tailor.nn.packing import pack_batches, split_by_budget
from tailor.nn.text_encoder import (
    MASK_TOKEN,
    SPECIAL_TOKENS,
    TextEncoderNet,
    TextMatcher,
    TokenBatch,
)
from tailor.nn.weights import load_weights, rename, weights_of
from tailor.ports.base import Encoder
from tailor.retrieval.sequences import SequenceRecommender, Windows, as_tensor, check_blocks
from tailor.text.attributes import VALUE, Sentences, sentences, tell
from tailor.text.cached import item_vectors
from tailor.text.hashing import HashingEncoder
from tailor.text.sentences import leading
from tailor.training.validation import Validation, run_key

PAPER = Paper(
    "recformer",
    "Text Is All You Need: Learning Language Representations for Sequential Recommendation",
    "https://arxiv.org/abs/2305.13731",
    "Items that nobody has chosen are found above id-SASRec and BM25; with a tenth of the users,"
    " more is found than by id-SASRec; the second stage of tuning does not lose what the first"
    " found",
)
KINDS = 3  # kinds of words: none, part of an attribute's name, part of its value
ANSWER_WORDS = 16_384  # words of a batch of texts that are read for an answer
QUARTER = 4  # words are hidden in one of so many histories
HIDDEN = 0.15  # share of the words of values that are hidden there
WORDS_DRAWN = 512  # words drawn as negatives of the hidden ones
PATIENCE = 3  # maximum patience of the second stage
# learning rate of the second stage as a share of `lr`: at the full rate it loses what the first
# stage found
GENTLER = 0.2


@dataclass(frozen=True)
class _Stage:
    """A stage of training."""

    name: str
    """Name in the report."""
    epochs: int
    """Maximum number of epochs."""
    lr: float
    """Peak learning rate."""
    patience: int | None
    """Validations without a better NDCG@10 before the stage stops; None: all epochs."""
    items: Literal["batch", "epoch", "fixed"]
    """Where item vectors come from: read in every batch, read before every epoch, or fixed."""


@dataclass(eq=False)
class RecFormer(SequenceRecommender):
    """Items and histories are texts, and one small encoder learns to make related texts similar.

    An item is its attributes as words, a history the words of its items, newest first; the items
    whose vectors are nearest to the history's are served (Li et al. 2023). Trained in three stages:
    in pretraining histories are matched with the next items of their batch, and hidden words are
    guessed; in the first stage of tuning histories are matched with all items, which are encoded
    once per epoch; in the second stage with the best of these encodings, which stay fixed.

    Differs from the paper (a form for CPUs, reconstructed): two blocks of width 128 over 12 words
    of 10 items with full attention in place of a Longformer; word vectors begin as an encoder's
    vectors of single words, projected on their leading directions; nothing is learned from other
    shops first; words are hidden in a part of the histories only.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of single words, whose vectors training begins with; "default": TAILOR_ENCODER,
    tailor.toml, else MiniLM.
    """
    attributes: tuple[str, ...] = ("title", "brand", "categories", "text")
    """Columns of the items that are read, in this order; missing ones are skipped."""
    words: int = 12
    """Maximum number of words per item, including the names of attributes."""
    length: int = 10
    """Most recent events read."""
    width: int = 128
    """Width of word vectors and states."""
    blocks: int = 2
    """Transformer blocks of the encoder."""
    heads: int = 2
    """Attention heads; must divide the width."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.1
    """Share of values zeroed while training."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.05
    """Cosines of histories and items are divided by it."""
    guessed: float = 0.1
    """Weight of the loss of hidden words."""
    sampler: str = "0,0,inf"
    """Sampling of windows; "0,0,inf": all users equally often, with any event as the target."""
    lr: Annotated[float, Range(1e-4, 3e-3, log=True)] = 1e-3
    """Peak learning rate of AdamW in pretraining and the first stage (a fifth of it in the second);
    decays linearly to 1 % over the epochs of the stage.
    """
    weight_decay: float = 0.01
    """Weight decay of matrices."""
    batch_places: int = 4096
    """Words per batch, padding included."""
    pretraining: int = 4
    """Epochs of pretraining; each has as many windows as there are users with two events."""
    epochs: int = 2
    """Maximum number of epochs of the first stage."""
    second: int = 1
    """Maximum number of epochs of the second stage; 0: there is none."""
    patience: int | None = 5
    """Validations (every epoch) without a better NDCG@10 before the first stage stops, and the
    second after at most 3; None: all epochs.
    """

    words_: Vocabulary = field(init=False, repr=False)
    """Words of the items that were fitted on."""
    spans_: np.ndarray = field(init=False, repr=False)
    """(N + 1,) offsets of each item's words in said_ and kinds_."""
    said_: np.ndarray = field(init=False, repr=False)
    """(words,) rows of words_, item by item."""
    kinds_: np.ndarray = field(init=False, repr=False)
    """(words,) kind of each word, NAME or VALUE."""
    item_weights_: dict[str, np.ndarray] = field(init=False, repr=False)
    """Weights of the text encoder that encoded the items."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        for name, least in {"words": 2, "pretraining": 0, "second": 0, "guessed": 0}.items():
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if not self.temperature > 0 or not self.attributes:
            raise DataError(
                f"temperature is {self.temperature}, attributes {self.attributes}: above 0, and at"
                " least one column"
            )

    @classmethod
    def tiny(cls) -> "RecFormer":
        return cls(
            encoder=HashingEncoder(32),
            words=6,
            length=4,
            width=8,
            blocks=2,
            pretraining=1,
            epochs=1,
            second=1,
            negatives=20,
            batch_places=2048,
        )

    # texts

    def _item_words(self, data: Dataset) -> list[list[tuple[str, int]]]:
        """Return the (word, kind) pairs of every item of a data set."""
        return tell(data.item_table, self.attributes, self.words)

    def _readable(self, data: Dataset) -> np.ndarray:
        return np.array([bool(words) for words in self._item_words(data)], dtype=bool)

    def _read(self, data: Dataset, run: Run) -> None:
        rows = data.catalogue.rows(self.items_.ids.tolist()).tolist()
        words_of = self._item_words(data)
        item_words = [words_of[row] for row in rows]
        self.words_ = Vocabulary(sorted({word for words in item_words for word, _ in words}))
        self._set_sentences(sentences(item_words, self.words_))
        vectors = item_vectors(encoder_of(self.encoder), self.words_.ids.tolist(), run.progress)
        self._first_word_vectors = leading(vectors, self.width)

    def _sentences(self) -> Sentences:
        """Return the sentences of all items."""
        return Sentences(Ragged(self.spans_, self.said_), self.kinds_)

    def _set_sentences(self, item_sentences: Sentences) -> None:
        """Keep the sentences of all items."""
        self.spans_ = item_sentences.word_rows.offsets
        self.said_ = item_sentences.word_rows.values
        self.kinds_ = item_sentences.kinds

    def _make_net(self) -> Any:
        encoder = self._make_text_encoder()
        return TextMatcher(encoder, len(self.items_), self.width, self.temperature)

    def _make_text_encoder(self) -> TextEncoderNet:
        return TextEncoderNet(
            words=len(self.words_),
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            positions=1 + self.length * self.words,
            kinds=KINDS,
            parts=1 + self.length,
            dropout=self.dropout,
        )

    def _layers(self) -> list[nn.Module]:
        return []  # the text encoder has layers of its own

    def _tokens(self, histories: Ragged, encoder: TextEncoderNet) -> TokenBatch:
        """Return the words of histories of item rows, in their order, on the encoder's device."""
        items = self._sentences().take(histories.values)
        offsets = items.word_rows.offsets[histories.offsets]
        words = Ragged(offsets, items.word_rows.values)  # by history
        nth_item = 1 + _positions_in_rows(histories)
        positions = 1 + _positions_in_rows(words)  # the first token is at 0
        longest = int(words.lengths.max(initial=0))
        grid = np.zeros((3, len(words), 1 + longest), dtype=np.int64)  # rows, kinds, parts
        grid[0, words.row_ids, positions] = words.values + SPECIAL_TOKENS
        grid[1, words.row_ids, positions] = items.kinds
        grid[2, words.row_ids, positions] = nth_item[items.word_rows.row_ids]
        rows, kinds, parts = (as_tensor(array, encoder) for array in grid)
        return TokenBatch(rows, kinds, parts, as_tensor(1 + words.lengths, encoder))

    def _word_ends(self, items: np.ndarray) -> np.ndarray:
        """Return (n + 1,) running sums of the numbers of words of items (n,)."""
        return np.r_[0, np.cumsum(np.diff(self.spans_)[items])]

    # learning

    def _batches(self, windows: Windows, rows: Ragged, rng: np.random.Generator) -> list[Windows]:
        """Draw as many windows as users with two events, in batches of like numbers of words."""
        sampler = self._windows_drawn() or PRESETS["prefix"]
        owners, targets, lengths = sampler.draw(rows.lengths, int((rows.lengths > 1).sum()), rng)
        lengths = np.minimum(lengths, self.length)
        starts = rows.offsets[:-1][owners] + targets - lengths
        word_ends = self._word_ends(rows.values)
        word_counts = 1 + word_ends[starts + lengths] - word_ends[starts]
        return [
            Windows(rows.values, starts[batch], lengths[batch], every_place=False)
            for batch in pack_batches(word_counts, self.batch_places, rng)
        ]

    def _loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """Return the loss of histories among all items, whose vectors are not trained."""
        net: Any = self._net
        targets = as_tensor(batch.rows[batch.starts + batch.lengths], net)
        negatives = as_tensor(self._drawn(rng), net)
        states = net.states(self._tokens(_newest_first(batch), net.text_encoder))
        return SampledSoftmax()(
            states,
            net.item_vectors[targets],
            net.item_vectors[negatives],
            targets,
            negatives,
            len(self._chosen),
        )

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        return self._chosen if self.negatives is None else super()._drawn(rng)

    def _contrastive_loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """Return the loss of histories among the next items of their batch, and of hidden words."""
        net: Any = self._net
        encoder = net.text_encoder
        targets = batch.rows[batch.starts + batch.lengths]
        states = encoder(self._tokens(_newest_first(batch), encoder))
        items = encoder(self._tokens(_single_items(targets), encoder))
        target_rows = as_tensor(targets, net)
        is_same = target_rows[:, None] == target_rows
        loss = InfoNCE(self.temperature)(states, items, is_same)
        if not self.guessed:
            return loss
        return loss + self.guessed * self._hidden_word_loss(batch, rng)

    def _hidden_word_loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """Return the loss of guessing words that are hidden in a quarter of a batch's histories.

        A share HIDDEN of the words of attribute values is hidden.
        """
        net: Any = self._net
        encoder = net.text_encoder
        size = max(1, len(batch.starts) // QUARTER)
        part = replace(batch, starts=batch.starts[:size], lengths=batch.lengths[:size])
        text = self._tokens(_newest_first(part), encoder)
        is_drawn = as_tensor(rng.random(tuple(text.rows.shape)) < HIDDEN, net) == 1
        is_hidden = (text.kinds == VALUE) & is_drawn
        if not is_hidden.any():
            return torch.zeros((), device=net.device)
        masked = replace(text, rows=text.rows.masked_fill(is_hidden, MASK_TOKEN))
        states = net.masked_word_proj(encoder.all_positions(masked)[is_hidden])
        targets = text.rows[is_hidden] - SPECIAL_TOKENS
        table = encoder.word_embedding.weight[SPECIAL_TOKENS:]
        negatives = as_tensor(uniform_negatives(len(self.words_), WORDS_DRAWN, rng), net)
        return SampledSoftmax()(
            states, table[targets], table[negatives], targets, negatives, len(self.words_)
        )

    def _stages(self) -> list[_Stage]:
        """Return the stages of training, in their order."""
        patience = None if self.patience is None else min(self.patience, PATIENCE)
        return [
            _Stage("pretraining", self.pretraining, self.lr, None, items="batch"),
            _Stage("first", self.epochs, self.lr, self.patience, items="epoch"),
            _Stage("second", self.second, self.lr * GENTLER, patience, items="fixed"),
        ]

    def _train(
        self,
        data: Dataset,
        rows: Ragged,
        times_ms: np.ndarray | None,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        key = run_key(self, data, None if validation is None else validation.split, run)
        encoder = self._net.text_encoder
        started = time.perf_counter()
        word_vectors = torch.from_numpy(self._first_word_vectors).to(encoder.device)
        with torch.no_grad():
            encoder.word_embedding.weight[SPECIAL_TOKENS:] = word_vectors
        report: dict[str, Any] = {}
        for stage in self._stages():
            if stage.items == "fixed":
                self._encode_items()
                self.item_weights_ = weights_of(encoder)
            if stage.epochs and (rows.lengths > 1).any():
                stage_run = _with_time_left(run, started)
                report[stage.name] = self._train_stage(stage, rows, validation, stage_run, key)
        self._undo_worse_stage(report)
        self._keep_weights()
        seconds = round(time.perf_counter() - started, 2)
        return {"words": len(self.words_), **report, "seconds": seconds}

    def _train_stage(
        self, stage: _Stage, rows: Ragged, validation: Validation | None, run: Run, key: str
    ) -> dict[str, Any]:
        """Train one stage, and return its report."""
        windows = Windows(rows.values, rows.offsets[:-1], rows.lengths)

        def batches(rng: np.random.Generator) -> list[Windows]:
            if stage.items == "epoch":
                self._encode_items()
            return self._batches(windows, rows, rng)

        def validate() -> float:
            if stage.items == "epoch":
                self._encode_items()
            return 0.0 if validation is None else validation.value(self)

        is_pretraining = stage.items == "batch"
        return fit_net(
            self._net,
            batches,
            self._contrastive_loss if is_pretraining else self._loss,
            run,
            Recipe(stage.epochs, stage.lr, self.weight_decay, patience=stage.patience),
            None if validation is None or is_pretraining else validate,
            f"{key}-{stage.name}",
        )

    def _undo_worse_stage(self, report: dict[str, Any]) -> None:
        """Restore the weights of the first stage where the second's were worse on validation."""
        if "second" in report and _best_value(report["second"]) < _best_value(report["first"]):
            load_weights(self._net.text_encoder, self.item_weights_)
            report["second"]["kept"] = "the weights of the first, which validation found better"

    def _encode_items(self) -> None:
        """Compute all item vectors with the present weights."""
        net: Any = self._net
        was_training = net.training
        net.eval()
        every_item = _single_items(np.arange(len(self.items_)))
        with torch.no_grad():
            vectors = self._encode_histories(net.text_encoder, every_item)
            net.item_vectors.copy_(nn.functional.normalize(vectors, dim=-1))
        net.train(was_training)

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        cost = super()._estimate_cost(data, run, valid)
        all_epochs = self.pretraining + self.epochs + self.second
        return replace(cost, seconds=cost.seconds * all_epochs / self.epochs)

    # answering

    def _last_states(self, batch: Windows) -> Tensor:
        net: Any = self._ready()
        vectors = self._encode_histories(net.text_encoder, _newest_first(batch))
        states: Tensor = net.comparable(vectors) / self.temperature
        return states

    def _encode_histories(self, encoder: TextEncoderNet, histories: Ragged) -> Tensor:
        """Return vectors (B, D) of histories, read in batches of up to ANSWER_WORDS words."""
        lengths = 1 + np.diff(self._word_ends(histories.values)[histories.offsets])
        vectors = torch.empty(len(histories), self.width, device=encoder.device)
        order = np.argsort(lengths, kind="stable")
        for batch in split_by_budget(order, lengths, ANSWER_WORDS):
            states = encoder(self._tokens(histories.take(batch), encoder))
            vectors[torch.from_numpy(batch).to(encoder.device)] = states.float()
        return vectors

    def first_stage(self) -> Self:
        """Return a copy with the weights of before the second stage."""
        self._check_fitted()
        self._ready()
        item_weights = rename(self.item_weights_, self._make_text_encoder())
        encoder_weights = {f"text_encoder.{name}": item_weights[name] for name in item_weights}
        return self._copy_with(net_weights_=self.net_weights_ | encoder_weights)

    def with_items(self, items: Dataset) -> Self:
        """Return a copy that also knows the items of another data set, by words that it knows.

        Nothing is learned.
        """
        self._check_fitted()
        self._ready()
        words_of = self._item_words(items)
        is_new = self.items_.rows(items.catalogue.ids.tolist()) < 0
        rows = [
            row
            for row in np.flatnonzero(is_new).tolist()
            if any(word in self.words_ for word, _ in words_of[row])
        ]
        new_ids = items.catalogue.ids[rows].tolist()
        ids = [*self.items_.ids.tolist(), *new_ids]
        extended = self._copy_with(items_=Vocabulary.of_items(ids))
        new_sentences = sentences([words_of[row] for row in rows], self.words_)
        order = np.argsort(extended.items_.rows(ids))
        extended._set_sentences(self._sentences().beside(new_sentences).take(order))
        encoder = self._make_text_encoder()
        load_weights(encoder, self.item_weights_)
        with torch.inference_mode():
            new_items = _single_items(extended.items_.rows(new_ids))
            new_vectors = extended._encode_histories(encoder.eval(), new_items)
            new_vectors = nn.functional.normalize(new_vectors, dim=-1)
        vectors = np.concatenate([self.net_weights_["item_vectors"], new_vectors.numpy()])
        extended.net_weights_ = self.net_weights_ | {"item_vectors": vectors[order]}
        return extended

    def _copy_with(self, **learned: Any) -> Self:
        """Return a copy of the fitted method with other learned attributes."""
        copy = replace(self)
        copy.__dict__ |= self.state() | learned
        return copy


def _with_time_left(run: Run, started: float) -> Run:
    """Return the run with the seconds that are left of its deadline."""
    if run.deadline_s is None:
        return run
    return replace(run, deadline_s=max(0.0, run.deadline_s - (time.perf_counter() - started)))


def _positions_in_rows(rows: Ragged) -> np.ndarray:
    """Return (m,) the position of each value in its row, from 0."""
    return np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths)


def _newest_first(batch: Windows) -> Ragged:
    """Return the items of each window, the last one first."""
    offsets = np.r_[0, np.cumsum(batch.lengths)]
    age = np.arange(offsets[-1]) - np.repeat(offsets[:-1], batch.lengths)
    last = np.repeat(batch.starts + batch.lengths - 1, batch.lengths)
    return Ragged(offsets, batch.rows[last - age])


def _single_items(rows: np.ndarray) -> Ragged:
    """Return every item as a history of its own."""
    return Ragged(np.arange(len(rows) + 1), rows)


def _best_value(report: dict[str, Any]) -> float:
    """Return the best validation of a stage; 0 where there was none."""
    return max((value for _, value in report["validation"]), default=0.0)

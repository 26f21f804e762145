"""RecFormer: a history read as one text, the words of its items."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tailor.core.costs import Cost, Stopwatch
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
from tailor.training.sequences import TrainingData
from tailor.training.validation import Validation, run_key

PAPER = Paper(
    "recformer",
    "Text Is All You Need: Learning Language Representations for Sequential Recommendation",
    "https://arxiv.org/abs/2305.13731",
    "Items that nobody has chosen are found above id-SASRec and BM25; with a tenth of the users,"
    " more is found than by id-SASRec; the second stage of tuning does not lose what the first"
    " found",
)
HISTORY_SHARE = 4  # one of so many histories has words masked
MASKED_SHARE = 0.15  # share of its words that are masked
WORD_NEGATIVES = 512  # words that a masked word is told from
QUERY_WORDS = 16_384  # words of a batch of queries
KINDS = 3  # kinds of words: none, a name, part of a value
LAST_PATIENCE = 3  # most validations without a gain in the last stage
# peak learning rate of the last stage as a share of the others': with the full one it loses what
# the stage before found
LAST_LR_SHARE = 0.2


@dataclass(frozen=True)
class _Stage:
    """One of the three stages of training."""

    name: str
    """Name in the report and of the checkpoint."""
    epochs: int
    """Maximum number of epochs."""
    lr: float
    """Peak learning rate of AdamW."""
    patience: int | None = None
    """Validations without a better NDCG@10 before the stage stops; None: all epochs."""
    is_pretraining: bool = False
    """Compare histories within their batch, predict masked words and validate nothing; otherwise
    histories are compared with all items.
    """
    encodes_items: bool = False
    """Encode all items again before every epoch and every validation."""
    fixes_items: bool = False
    """Compute the items' vectors before the stage, and keep them fixed."""


@dataclass(eq=False)
class RecFormer(SequenceRecommender):
    """Read a history as one text, the words of its items' attributes (Li et al. 2023).

    One small text encoder reads items and histories (newest item first); items near the history are
    recommended. It is trained in three stages: histories are compared with the next items of their
    batch, and masked words are predicted; histories are compared with all items, encoded once an
    epoch; the same with the best of these encodings fixed.

    Differs from the paper (form for a CPU, reconstructed): two blocks of width 128 over 12 words of
    10 items with full attention instead of a Longformer; word vectors begin as an encoder's vectors
    of single words, rotated to their leading directions; no other shop is learned from first; words
    are masked in a share of the histories.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of single words for the first word vectors; "default": TAILOR_ENCODER, tailor.toml,
    else MiniLM.
    """
    attributes: tuple[str, ...] = ("title", "brand", "categories", "text")
    """Columns of the items table that are read, where they exist."""
    words: int = 12
    """Words read per item, names of attributes among them."""
    length: int = 10
    """Most recent events that are read."""
    width: int = 128
    """Width of word vectors and states."""
    blocks: int = 2
    """Number of transformer blocks of the text encoder."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.1
    """Share of values zeroed during training."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.05
    """Divisor of the cosine of history and item."""
    guessed: float = 0.1
    """Weight of the loss of masked words."""
    sampler: str = "0,0,inf"
    """How training windows are drawn; by default every user as often, any of their events."""
    lr: Annotated[float, Range(1e-4, 3e-3, log=True)] = 1e-3
    """Peak learning rate of AdamW in the first two stages; decays linearly to 1 %."""
    weight_decay: float = 0.01
    """Weight decay of matrices in AdamW."""
    batch_places: int = 4096
    """Words of a batch, padding included."""
    pretraining: int = 4
    """Epochs of the first stage; each has as many windows as there are users with two events."""
    epochs: int = 2
    """Epochs of the second stage, at most."""
    second: int = 1
    """Epochs of the third stage, at most; 0: none."""
    patience: int | None = 5
    """Validations (every epoch) without a better NDCG@10 before the second stage stops; the third
    stops after 3 at most.
    """

    words_: Vocabulary = field(init=False, repr=False)
    """Words that are read."""
    offsets_: np.ndarray = field(init=False, repr=False)
    """(N + 1,) where each item's words begin in word_rows_."""
    word_rows_: np.ndarray = field(init=False, repr=False)
    """Rows of words_, item by item."""
    kinds_: np.ndarray = field(init=False, repr=False)
    """NAME or VALUE, parallel to word_rows_."""
    item_weights_: dict[str, np.ndarray] = field(init=False, repr=False)
    """Weights of the text encoder that encoded the items."""
    renamed_state: ClassVar[Mapping[str, str]] = {
        **SequenceRecommender.renamed_state,
        "spans_": "offsets_",
        "said_": "word_rows_",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        for name, minimum in {"words": 2, "pretraining": 0, "second": 0, "guessed": 0}.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
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
        """Return the words of every item of a data set, with their kinds."""
        return tell(data.item_table, self.attributes, self.words)

    def _describable(self, data: Dataset) -> np.ndarray:
        return np.array([bool(words) for words in self._item_words(data)], dtype=bool)

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        """Learn the vocabulary, the items' words, and the first word vectors."""
        item_words = self._item_words(training.data)
        rows = training.data.catalogue.rows(self.items_.ids.tolist())
        item_words = [item_words[row] for row in rows.tolist()]
        self.words_ = Vocabulary(sorted({word for words in item_words for word, _ in words}))
        self._set_sentences(sentences(item_words, self.words_))
        vectors = item_vectors(encoder_of(self.encoder), self.words_.ids.tolist(), run.progress)
        self._first_word_vectors = leading(vectors, self.width)
        return {}

    @property
    def _sentences(self) -> Sentences:
        return Sentences(Ragged(self.offsets_, self.word_rows_), self.kinds_)

    def _set_sentences(self, item_sentences: Sentences) -> None:
        self.offsets_ = item_sentences.word_rows.offsets
        self.word_rows_ = item_sentences.word_rows.values
        self.kinds_ = item_sentences.kinds

    def _make_net(self) -> Any:
        text_encoder = self._make_text_encoder()
        return TextMatcher(text_encoder, len(self.items_), self.width, self.temperature)

    def _make_text_encoder(self) -> TextEncoderNet:
        return TextEncoderNet(
            len(self.words_),
            self.width,
            self.blocks,
            self.heads,
            positions=1 + self.length * self.words,
            kinds=KINDS,
            parts=1 + self.length,
            dropout=self.dropout,
        )

    def _layers(self) -> list[nn.Module]:
        return []  # the text encoder has its own

    def _token_batch(self, histories: Ragged, text_encoder: TextEncoderNet) -> TokenBatch:
        """Return the words of histories of item rows; the n-th item's words are part n."""
        words = self._sentences.take(histories.values)
        offsets = words.word_rows.offsets[histories.offsets]
        texts = Ragged(offsets, words.word_rows.values)
        item_position = np.arange(len(histories.values))
        part = item_position - np.repeat(histories.offsets[:-1], histories.lengths) + 1
        # rows, kinds, parts
        grid = np.zeros((3, len(texts), 1 + int(texts.lengths.max(initial=0))), dtype=np.int64)
        position = 1 + np.arange(len(texts.values)) - np.repeat(offsets[:-1], texts.lengths)
        grid[:, texts.row_ids, position] = np.stack(
            [texts.values + SPECIAL_TOKENS, words.kinds, part[words.word_rows.row_ids]]
        )
        arrays = (*grid, 1 + texts.lengths)
        return TokenBatch(*(as_tensor(array, text_encoder) for array in arrays))

    # learning

    def _batches(self, windows: Windows, rows: Ragged, rng: np.random.Generator) -> list[Windows]:
        """Draw windows, as many as users with two events, in batches by number of words."""
        sampler = self._window_sampler() or PRESETS["prefix"]
        user, target, length = sampler.draw(rows.lengths, int((rows.lengths > 1).sum()), rng)
        length = np.minimum(length, self.length)
        starts = rows.offsets[:-1][user] + target - length
        drawn = Windows(rows.values, starts, length, every_place=False)
        words_before = np.r_[0, np.cumsum(np.diff(self.offsets_)[rows.values])]
        word_counts = 1 + words_before[starts + length] - words_before[starts]
        return [
            drawn.take(numbers) for numbers in pack_batches(word_counts, self.batch_places, rng)
        ]

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the loss of histories among all items, whose vectors are fixed."""
        net: TextMatcher = self._net
        targets = as_tensor(batch.rows[batch.starts + batch.lengths], net)
        drawn = as_tensor(self._draw_negatives(training.item_rows, rng), net)
        states = net.states(self._token_batch(_newest_first(batch), net.text_encoder))
        vectors = net.item_vectors
        items = len(training.item_rows)
        return SampledSoftmax()(states, vectors[targets], vectors[drawn], targets, drawn, items)

    def _draw_negatives(self, item_rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return item_rows if self.negatives is None else super()._draw_negatives(item_rows, rng)

    def _pretraining_loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """Return the loss of histories among the next items of their batch, and of masked words."""
        net: TextMatcher = self._net
        targets = batch.rows[batch.starts + batch.lengths]
        histories = net.text_encoder(self._token_batch(_newest_first(batch), net.text_encoder))
        items = net.text_encoder(self._token_batch(_single_items(targets), net.text_encoder))
        rows = as_tensor(targets, net)
        loss = InfoNCE(self.temperature)(histories, items, rows[:, None] == rows)
        return loss + self.guessed * self._masked_word_loss(batch, rng) if self.guessed else loss

    def _masked_word_loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """Return the loss of predicting masked words of values in a share of the histories."""
        net: TextMatcher = self._net
        part = batch.take(np.arange(max(1, len(batch.starts) // HISTORY_SHARE)))
        text = self._token_batch(_newest_first(part), net.text_encoder)
        drawn_mask = as_tensor(rng.random(tuple(text.rows.shape)) < MASKED_SHARE, net) == 1
        mask = (text.kinds == VALUE) & drawn_mask
        if not mask.any():
            return torch.zeros((), device=net.device)
        masked = replace(text, rows=text.rows.masked_fill(mask, MASK_TOKEN))
        states = net.masked_word_proj(net.text_encoder.all_positions(masked)[mask])
        targets = text.rows[mask] - SPECIAL_TOKENS
        table = net.text_encoder.word_embedding.weight[SPECIAL_TOKENS:]
        drawn = as_tensor(uniform_negatives(len(self.words_), WORD_NEGATIVES, rng), net)
        words = len(self.words_)
        return SampledSoftmax()(states, table[targets], table[drawn], targets, drawn, words)

    def _stages(self) -> tuple[_Stage, _Stage, _Stage]:
        """Return the stages of training in their order."""
        patience = None if self.patience is None else min(self.patience, LAST_PATIENCE)
        return (
            _Stage("pretraining", self.pretraining, self.lr, is_pretraining=True),
            _Stage("first", self.epochs, self.lr, self.patience, encodes_items=True),
            _Stage("second", self.second, self.lr * LAST_LR_SHARE, patience, fixes_items=True),
        )

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        net: TextMatcher = self._net
        watch = Stopwatch()
        elapsed = 0.0
        with torch.no_grad():
            first = torch.from_numpy(self._first_word_vectors).to(net.device)
            net.text_encoder.word_embedding.weight[SPECIAL_TOKENS:] = first
        reports: dict[str, Any] = {}
        for stage in self._stages():
            if stage.fixes_items:
                self._encode_items()
                self.item_weights_ = weights_of(net.text_encoder)
            if stage.epochs and training.has_pairs:
                elapsed += watch.lap()
                remaining = None
                if run.deadline_s is not None:
                    remaining = max(0.0, run.deadline_s - elapsed)
                stage_run = replace(run, deadline_s=remaining)
                reports[stage.name] = self._train_stage(stage, training, validation, stage_run)
        if "second" in reports and _best_value(reports["second"]) < _best_value(reports["first"]):
            load_weights(net.text_encoder, self.item_weights_)
            reports["second"]["kept"] = "the weights of the first, which validation found better"
        self._keep_weights()
        seconds = round(elapsed + watch.lap(), 2)
        return {"words": len(self.words_), **reports, "seconds": seconds}

    def _train_stage(
        self, stage: _Stage, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        """Train one stage, and return its report."""
        rows = training.rows
        windows = Windows(rows.values, rows.offsets[:-1], rows.lengths)

        def batches(rng: np.random.Generator) -> list[Windows]:
            if stage.encodes_items:
                self._encode_items()
            return self._batches(windows, rows, rng)

        def loss(batch: Windows, rng: np.random.Generator) -> Tensor:
            if stage.is_pretraining:
                return self._pretraining_loss(batch, rng)
            return self._loss(batch, training, rng)

        def validate() -> float:
            if stage.encodes_items:
                self._encode_items()
            return 0.0 if validation is None else validation.value(self)

        recipe = Recipe(stage.epochs, stage.lr, self.weight_decay, patience=stage.patience)
        key = run_key(self, training.data, None if validation is None else validation.split, run)
        return fit_net(
            self._net,
            batches,
            loss,
            run,
            recipe,
            None if validation is None or stage.is_pretraining else validate,
            f"{key}-{stage.name}",
        )

    def _encode_items(self) -> None:
        """Compute every item's vector with the present text encoder."""
        net: TextMatcher = self._net
        was_training = net.training
        net.eval()
        with torch.no_grad():
            items = _single_items(np.arange(len(self.items_)))
            net.item_vectors.copy_(normalize(self._encode(net.text_encoder, items), dim=-1))
        net.train(was_training)

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        cost = super()._estimate_cost(data, run, valid)
        epochs = self.pretraining + self.epochs + self.second
        return replace(cost, seconds=cost.seconds * epochs / self.epochs)

    # answering

    def _last_states(self, batch: Windows) -> Tensor:
        net: TextMatcher = self._ready()
        states = self._encode(net.text_encoder, _newest_first(batch))
        return net.comparable(states) / self.temperature

    def _encode(self, text_encoder: TextEncoderNet, histories: Ragged) -> Tensor:
        """Return the states (B, D) of histories, encoded in batches of so many words."""
        words_before = np.r_[0, np.cumsum(np.diff(self.offsets_)[histories.values])]
        lengths = 1 + np.diff(words_before[histories.offsets])
        states = torch.empty(len(histories), self.width, device=text_encoder.device)
        order = np.argsort(lengths, kind="stable")
        for numbers in split_by_budget(order, lengths, QUERY_WORDS):
            text = self._token_batch(histories.take(numbers), text_encoder)
            rows = torch.from_numpy(numbers).to(text_encoder.device)
            states[rows] = text_encoder(text).float()
        return states

    def first_stage(self) -> Self:
        """Return a copy that answers as the model did before the items' vectors were fixed."""
        self._check_fitted()
        self._ready()
        weights = rename(self.item_weights_, self._make_text_encoder())
        prefixed = {f"text_encoder.{name}": array for name, array in weights.items()}
        return self._with_state(net_weights_=self.net_weights_ | prefixed)

    def with_items(self, items: Dataset) -> Self:
        """Return a copy that can recommend the items of another data set too.

        New items are read by those of their words that are in the vocabulary; nothing is learned.
        """
        self._check_fitted()
        self._ready()
        item_words = self._item_words(items)
        is_new = self.items_.rows(items.catalogue.ids.tolist()) < 0
        rows = np.array(
            [
                row
                for row in np.flatnonzero(is_new).tolist()
                if any(word in self.words_ for word, _ in item_words[row])
            ],
            dtype=np.int64,
        )
        new_ids = items.catalogue.ids[rows].tolist()
        catalogue, order = self.items_.with_items(new_ids)
        extended = self._with_state(items_=catalogue)
        new_sentences = sentences([item_words[row] for row in rows.tolist()], self.words_)
        extended._set_sentences(self._sentences.beside(new_sentences).take(order))
        text_encoder = self._make_text_encoder()
        load_weights(text_encoder, self.item_weights_)
        new_items = _single_items(catalogue.rows(new_ids))
        with torch.inference_mode():
            vectors = normalize(extended._encode(text_encoder.eval(), new_items), dim=-1)
        all_vectors = np.concatenate([self.net_weights_["item_vectors"], vectors.numpy()])
        extended.net_weights_ = self.net_weights_ | {"item_vectors": all_vectors[order]}
        return extended


def _newest_first(batch: Windows) -> Ragged:
    """Return the items of each window, the last of them first."""
    offsets = np.r_[0, np.cumsum(batch.lengths)]
    starts = np.repeat(offsets[:-1], batch.lengths)
    age = np.arange(offsets[-1]) - starts
    last_positions = batch.starts + batch.lengths - 1
    positions = np.repeat(last_positions, batch.lengths) - age
    return Ragged(offsets, batch.rows[positions])


def _single_items(rows: np.ndarray) -> Ragged:
    """Return every item as a history of its own."""
    return Ragged(np.arange(len(rows) + 1), rows)


def _best_value(report: dict[str, Any]) -> float:
    return max((value for _, value in report["validation"]), default=0.0)

"""RecFormer: a history read as one text, the sentences of its items."""

import time
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

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
KINDS = 3  # of words: none, a name, part of a value
ANSWER_WORDS = 16_384  # places of a batch that is answered
QUARTER = 4  # one history of so many has words hidden
HIDDEN = 0.15  # share of its words
WORDS_DRAWN = 512  # that a hidden word is told from
PATIENCE = 3  # of the second part of tuning,
# and its highest step as a share of the others': at the full one it loses what the first has found
GENTLER = 0.2


@dataclass(eq=False)
class RecFormer(SequenceRecommender):
    """An item is its attributes as words and a history the words of its items, newest first; one
    small encoder reads both, and near vectors are served (Li et al. 2023).

    Learned in three parts: histories meet the next item of their batch, and hidden words are
    guessed; histories meet all items, encoded once an epoch; the same with the best of these
    encodings for good. Differs from the paper (form for a processor, reconstructed): two blocks of
    width 128 over 12 words of 10 items with full attention in place of a Longformer; word vectors
    begin as an encoder's vectors of single words, turned to their leading directions; no other shop
    is learned from first; words are guessed in a share of the histories.
    """

    encoder: Encoder | str = DEFAULT
    """Of single words, to begin with; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    attributes: tuple[str, ...] = ("title", "brand", "categories", "text")
    """Columns of the items that are told, those there are."""
    words: int = 12
    """Of an item, names of attributes among them."""
    length: int = 10
    """Most recent events read."""
    width: int = 128
    """Of word vectors and states."""
    blocks: int = 2
    """Of the encoder."""
    heads: int = 2
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.1
    """Share of values zeroed while training."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.05
    guessed: float = 0.1
    """Weight of the loss of hidden words."""
    sampler: str = "0,0,inf"
    """Of windows: every person as often, any event of theirs."""
    lr: Annotated[float, Range(1e-4, 3e-3, log=True)] = 1e-3
    """Highest step of the first two parts; falls in a straight line to a hundredth."""
    weight_decay: float = 0.01
    """Of matrices."""
    batch_places: int = 4096
    """TokenBatch a batch."""
    pretraining: int = 4
    """Epochs of the first part: in each as many windows as people with two events."""
    epochs: int = 2
    """Of the second, at most."""
    second: int = 1
    """Of the third, at most; 0: none."""
    patience: int | None = 5
    """Validations (every epoch) without a better NDCG@10 before the second part stops; the third
    after 3 at most.
    """

    words_: Vocabulary = field(init=False, repr=False)
    spans_: np.ndarray = field(init=False, repr=False)
    """(N + 1,) where each item's sentence begins in said_."""
    said_: np.ndarray = field(init=False, repr=False)
    """Rows of words_."""
    kinds_: np.ndarray = field(init=False, repr=False)
    """Parallel: NAME or VALUE."""
    item_weights_: dict[str, np.ndarray] = field(init=False, repr=False)
    """Of the reader that encoded the items."""

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

    # what is read

    def _told(self, data: Dataset) -> list[list[tuple[str, int]]]:
        return tell(data.item_table, self.attributes, self.words)

    def _readable(self, data: Dataset) -> np.ndarray:
        return np.array([bool(row) for row in self._told(data)], dtype=bool)

    def _read(self, data: Dataset, run: Run) -> None:
        told = self._told(data)
        told = [told[row] for row in data.catalogue.rows(self.items_.ids.tolist()).tolist()]
        self.words_ = Vocabulary(sorted({word for row in told for word, _ in row}))
        self._keep(sentences(told, self.words_))
        vectors = item_vectors(encoder_of(self.encoder), self.words_.ids.tolist(), run.progress)
        self._beginning = leading(vectors, self.width)

    def _keep(self, said: Sentences) -> None:
        self.spans_, self.said_, self.kinds_ = (
            said.word_rows.offsets,
            said.word_rows.values,
            said.kinds,
        )

    def _make_net(self) -> Any:
        return TextMatcher(self._make_reader(), len(self.items_), self.width, self.temperature)

    def _make_reader(self) -> TextEncoderNet:
        places = 1 + self.length * self.words
        return TextEncoderNet(
            len(self.words_),
            self.width,
            self.blocks,
            self.heads,
            places,
            KINDS,
            1 + self.length,
            self.dropout,
        )

    def _layers(self) -> list[nn.Module]:
        return []  # the reader has its own

    def _text(self, histories: Ragged, reader: TextEncoderNet) -> TokenBatch:
        """The words of histories of item rows, as a reader reads them, in the histories' order."""
        told = Sentences(Ragged(self.spans_, self.said_), self.kinds_).take(histories.values)
        ends = told.word_rows.offsets[histories.offsets]
        whole = Ragged(ends, told.word_rows.values)
        part = (
            np.arange(len(histories.values))
            - np.repeat(histories.offsets[:-1], histories.lengths)
            + 1
        )
        # rows, kinds, parts
        grid = np.zeros((3, len(whole), 1 + int(whole.lengths.max(initial=0))), dtype=np.int64)
        place = 1 + np.arange(len(whole.values)) - np.repeat(ends[:-1], whole.lengths)
        grid[:, whole.row_ids, place] = np.stack(
            [whole.values + SPECIAL_TOKENS, told.kinds, part[told.word_rows.row_ids]]
        )
        return TokenBatch(*(as_tensor(one, reader) for one in (*grid, 1 + whole.lengths)))

    # learning

    def _batches(self, windows: Windows, rows: Ragged, rng: np.random.Generator) -> list[Windows]:
        """As many windows as people with two events, drawn anew, in batches of so many words."""
        sampler = self._windows_drawn() or PRESETS["prefix"]
        owner, target, shown = sampler.draw(rows.lengths, int((rows.lengths > 1).sum()), rng)
        shown = np.minimum(shown, self.length)
        starts = rows.offsets[:-1][owner] + target - shown
        before = np.r_[0, np.cumsum(np.diff(self.spans_)[rows.values])]
        chosen = pack_batches(1 + before[starts + shown] - before[starts], self.batch_places, rng)
        return [
            Windows(rows.values, starts[some], shown[some], every_place=False) for some in chosen
        ]

    def _loss(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """Histories among all items, whose vectors stand still."""
        net: Any = self._net
        targets, drawn = (
            as_tensor(batch.rows[batch.starts + batch.lengths], net),
            as_tensor(self._drawn(rng), net),
        )
        states = net.states(self._text(_newest_first(batch), net.text_encoder))
        return SampledSoftmax()(
            states,
            net.item_vectors[targets],
            net.item_vectors[drawn],
            targets,
            drawn,
            len(self._chosen),
        )

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        return self._chosen if self.negatives is None else super()._drawn(rng)

    def _contrast(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """Histories among the next items of their batch, which are read beside them; and hidden
        words.
        """
        net: Any = self._net
        targets = batch.rows[batch.starts + batch.lengths]
        histories, items = (
            net.text_encoder(self._text(one, net.text_encoder))
            for one in (_newest_first(batch), _alone(targets))
        )
        same = as_tensor(targets, net)
        loss = InfoNCE(self.temperature)(histories, items, same[:, None] == same)
        return loss + self.guessed * self._guesses(batch, rng) if self.guessed else loss

    def _guesses(self, batch: Windows, rng: np.random.Generator) -> Tensor:
        """The loss of guessing HIDDEN of the words of values in a quarter of the batch's histories."""
        net: Any = self._net
        some = max(1, len(batch.starts) // QUARTER)
        text = self._text(
            _newest_first(replace(batch, starts=batch.starts[:some], lengths=batch.lengths[:some])),
            net.text_encoder,
        )
        hidden = (text.kinds == VALUE) & (
            as_tensor(rng.random(tuple(text.rows.shape)) < HIDDEN, net) == 1
        )
        if not hidden.any():
            return torch.zeros((), device=net.device)
        states = net.masked_word_proj(
            net.text_encoder.all_positions(
                replace(text, rows=text.rows.masked_fill(hidden, MASK_TOKEN))
            )[hidden]
        )
        targets, table = (
            text.rows[hidden] - SPECIAL_TOKENS,
            net.text_encoder.word_embedding.weight[SPECIAL_TOKENS:],
        )
        drawn = as_tensor(uniform_negatives(len(self.words_), WORDS_DRAWN, rng), net)
        return SampledSoftmax()(
            states, table[targets], table[drawn], targets, drawn, len(self.words_)
        )

    def _train(
        self,
        data: Dataset,
        rows: Ragged,
        times_ms: np.ndarray | None,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        key = run_key(self, data, None if validation is None else validation.split, run)
        net: Any = self._net
        reader, started = net.text_encoder, time.perf_counter()
        with torch.no_grad():
            reader.word_embedding.weight[SPECIAL_TOKENS:] = torch.from_numpy(self._beginning).to(
                reader.device
            )
        report: dict[str, Any] = {}
        for name, epochs in {
            "pretraining": self.pretraining,
            "first": self.epochs,
            "second": self.second,
        }.items():
            if name == "second":
                self._encode()
                self.item_weights_ = weights_of(reader)
            if epochs and (rows.lengths > 1).any():
                left = (
                    None
                    if run.deadline_s is None
                    else max(0.0, run.deadline_s - (time.perf_counter() - started))
                )
                report[name] = self._part(
                    name, epochs, rows, validation, replace(run, deadline_s=left), f"{key}-{name}"
                )
        if "second" in report and _best(report["second"]) < _best(report["first"]):
            load_weights(reader, self.item_weights_)
            report["second"]["kept"] = "the weights of the first, which validation found better"
        self._keep_weights()
        return {
            "words": len(self.words_),
            **report,
            "seconds": round(time.perf_counter() - started, 2),
        }

    def _part(
        self,
        name: str,
        epochs: int,
        rows: Ragged,
        validation: Validation | None,
        run: Run,
        key: str,
    ) -> dict[str, Any]:
        """Learn one of the three parts; only in the first of tuning are the items encoded anew,
        before every epoch and every validation.
        """
        windows = Windows(rows.values, rows.offsets[:-1], rows.lengths)

        def batches(rng: np.random.Generator) -> list[Windows]:
            if name == "first":
                self._encode()
            return self._batches(windows, rows, rng)

        def validate() -> float:
            if name == "first":
                self._encode()
            return 0.0 if validation is None else validation.value(self)

        patience = {
            "pretraining": None,
            "first": self.patience,
            "second": self.patience and min(self.patience, PATIENCE),
        }[name]
        loss = self._contrast if name == "pretraining" else self._loss
        asked = None if validation is None or name == "pretraining" else validate
        lr = self.lr * GENTLER if name == "second" else self.lr
        return fit_net(
            self._net,
            batches,
            loss,
            run,
            Recipe(epochs, lr, self.weight_decay, patience=patience),
            asked,
            key,
        )

    def _encode(self) -> None:
        """Every item's vector, by the reader as it is now."""
        net: Any = self._net
        was = net.training
        net.eval()
        with torch.no_grad():
            net.item_vectors.copy_(
                nn.functional.normalize(
                    self._read_by(net.text_encoder, _alone(np.arange(len(self.items_)))), dim=-1
                )
            )
        net.train(was)

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        cost = super()._estimate_cost(data, run, valid)
        return replace(
            cost,
            seconds=cost.seconds * (self.pretraining + self.epochs + self.second) / self.epochs,
        )

    # answering

    def _last_states(self, batch: Windows) -> Tensor:
        net: Any = self._ready()
        return (
            net.comparable(self._read_by(net.text_encoder, _newest_first(batch))) / self.temperature
        )

    def _read_by(self, reader: TextEncoderNet, histories: Ragged) -> Tensor:
        """(B, D) what a reader makes of histories, so many words at once."""
        before = np.r_[0, np.cumsum(np.diff(self.spans_)[histories.values])]
        lengths = 1 + np.diff(before[histories.offsets])
        out = torch.empty(len(histories), self.width, device=reader.device)
        for some in split_by_budget(np.argsort(lengths, kind="stable"), lengths, ANSWER_WORDS):
            out[torch.from_numpy(some).to(reader.device)] = reader(
                self._text(histories.take(some), reader)
            ).float()
        return out

    def first_stage(self) -> Self:
        """A copy that answers as the model did before its items' vectors were held still."""
        self._check_fitted()
        self._ready()
        return self._with(
            net_weights_=self.net_weights_
            | {
                f"text_encoder.{name}": one
                for name, one in rename(self.item_weights_, self._make_reader()).items()
            }
        )

    def with_items(self, items: Dataset) -> Self:
        """A copy that knows the items of another data set too, by those of their words that it
        knows; nothing is learned.
        """
        self._check_fitted()
        self._ready()
        told = self._told(items)
        unknown = self.items_.rows(items.catalogue.ids.tolist()) < 0
        rows = np.array(
            [
                row
                for row in np.flatnonzero(unknown).tolist()
                if any(word in self.words_ for word, _ in told[row])
            ],
            dtype=np.int64,
        )
        ids = [*self.items_.ids.tolist(), *items.catalogue.ids[rows].tolist()]
        more = self._with(items_=Vocabulary.of_items(ids))
        new = sentences([told[row] for row in rows.tolist()], self.words_)
        old = Sentences(Ragged(self.spans_, self.said_), self.kinds_)
        order = np.argsort(more.items_.rows(ids))
        more._keep(old.beside(new).take(order))
        reader = self._make_reader()
        load_weights(reader, self.item_weights_)
        with torch.inference_mode():
            vectors = nn.functional.normalize(
                more._read_by(reader.eval(), _alone(more.items_.rows(ids[len(self.items_) :]))),
                dim=-1,
            )
        more.net_weights_ = self.net_weights_ | {
            "item_vectors": np.concatenate([self.net_weights_["item_vectors"], vectors.numpy()])[
                order
            ]
        }
        return more

    def _with(self, **learned: Any) -> Self:
        more = replace(self)
        more.__dict__ |= self.state() | learned
        return more


def _newest_first(batch: Windows) -> Ragged:
    """The items of each window, the last of them first."""
    offsets = np.r_[0, np.cumsum(batch.lengths)]
    back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], batch.lengths)
    return Ragged(
        offsets, batch.rows[np.repeat(batch.starts + batch.lengths - 1, batch.lengths) - back]
    )


def _alone(rows: np.ndarray) -> Ragged:
    """Every item as a history of its own."""
    return Ragged(np.arange(len(rows) + 1), rows)


def _best(report: dict[str, Any]) -> float:
    return max((value for _, value in report["validation"]), default=0.0)

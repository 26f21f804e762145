"""SETRec: an item is a set of tokens, and the next item is generated in one pass."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np
import torch
from torch import Tensor

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import clone
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.sampling import uniform_negatives
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.blocks import TransformerBlock
from tailor.nn.losses import SampledSoftmax
from tailor.nn.packing import pad_rows
from tailor.nn.quantizers import unit
from tailor.nn.token_sets import TextTokens, TokenSetNet
from tailor.ports.base import Encoder
from tailor.retrieval.sasrec import SASRec
from tailor.text.cached import item_vectors, known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.training.sequences import (
    SequenceLearner,
    TrainingData,
    Windows,
    as_tensor,
    check_blocks,
)
from tailor.training.validation import Validation, cut_validation

PAPER = Paper(
    "setrec",
    "Order-agnostic Identifier for Large Language Model-based Generative Recommendation",
    "https://arxiv.org/abs/2502.10833",
    "Items without events are found better than by text neighbours or by item ids; others as well"
    " as by the item ids whose vectors it reads; no fewer than where tokens of one item read each"
    " other; in one pass, at least three times as fast as a beam search over codes",
)
BETAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # shares of the text tried on validation
START_BETA = 0.5  # until one is chosen


@dataclass(eq=False)
class SETRec(SequenceLearner, ScoringRecommender):
    """Describe an item by a token of behaviour and several of text; generate all at once.

    The token of behaviour is a linear map of the item's vector in a SASRec, which is fitted first
    and frozen; the tokens of text are the parts of an autoencoder's inner vector. Tokens of one
    item do not read each other. Learned queries, one for each token, read the history in a single
    pass; each is compared with its token of every item. A score mixes the log-probabilities by
    behaviour and by text. An item without events is scored by its text alone.

    Differs from the paper: a small transformer in place of a pretrained language model, whose
    queries read the history through its own blocks; log-probabilities, those of text averaged, in
    place of logits, so that items with and without events are comparable; cosines in place of inner
    products; the share of the text is chosen on validation.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of item texts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    inner: SASRec = field(default_factory=SASRec)
    """The SASRec whose item vectors are read."""
    tokens: int = 4
    """Tokens of text of an item."""
    hidden: tuple[int, ...] = (256, 128)
    """Widths of the autoencoder's inner layers."""
    restoring: Annotated[float, Range(0.1, 2.0, log=True)] = 0.7
    """Weight of the autoencoder's error (alpha in the paper)."""
    beta: float | None = None
    """Share of the text in the score of an item with events, from 0 to 1; None: chosen on
    validation."""
    separate: bool = True
    """Whether tokens of one item do not read each other."""
    temperature: Annotated[float, Range(0.04, 0.3, log=True)] = 0.1
    """Divisor of the cosine of a query's state and an item's token."""
    negatives: int | None = 512
    """Negative items drawn per batch and shared by its targets; None: all items."""
    length: int = 20
    """Most recent events that are read."""
    blocks: int = 2
    """Number of transformer blocks."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed during training."""
    weight_decay: float = 0.01
    """Weight decay of matrices in AdamW."""
    epochs: int = 30
    """Passes over the data, at most."""

    inner_: SASRec = field(init=False, repr=False)
    """The fitted SASRec."""
    behaviour_: np.ndarray = field(init=False, repr=False)
    """(N, C) its vectors of items; of an item without events, their mean."""
    texts_: np.ndarray = field(init=False, repr=False)
    """(N, E) text vectors less their mean, of length one; zero for an item without text."""
    centre_: np.ndarray = field(init=False, repr=False)
    """(E,) mean text vector; what all texts share says nothing of an item."""
    is_warm_: np.ndarray = field(init=False, repr=False)
    """(N,) bool: items with an event in training."""
    beta_: float = field(init=False, repr=False)
    """Share of the text in the score of an item with events."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space; "" where no item had a text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        self._check_optional("negatives")
        if not self.temperature > 0:
            raise DataError(f"temperature is {self.temperature}: it must be above 0")
        if self.tokens < 1 or not self.hidden or min(self.hidden) < 1 or self.restoring < 0:
            raise DataError(
                f"tokens is {self.tokens}, hidden {self.hidden}, restoring {self.restoring}: at"
                " least one token, widths from 1, a weight from 0"
            )
        if self.beta is not None and not 0 <= self.beta <= 1:
            raise DataError(f"beta is {self.beta}: it must be from 0 to 1, or none")

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            encoder=HashingEncoder(32),
            inner=SASRec.tiny(),
            hidden=(16,),
            width=8,
            length=10,
            epochs=3,
        )

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        # the inner method learns from what this one learns from, and judges on the same targets
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        split = None if validation is None else validation.split
        self.inner_ = clone(self.inner).fit(learned, run, split)
        super()._fit(data, run, valid)
        self.fit_report_ |= {"beta": self.beta_, "inner": self.inner_.fit_report_}

    def _describable(self, data: Dataset) -> np.ndarray:
        return np.array([bool(text.strip()) for text in data.item_texts], dtype=bool)

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        """Keep the items' vectors, and return how many have no events."""
        self.is_warm_ = np.zeros(len(self.items_), dtype=bool)
        self.is_warm_[training.item_rows] = True
        behaviour = self.inner_.item_vectors(self.items_.ids.tolist())
        mean = behaviour[self.is_warm_].mean(axis=0) if self.is_warm_.any() else 0.0
        self.behaviour_ = np.where(self.is_warm_[:, None], behaviour, mean).astype(np.float32)
        self.texts_ = self._text_vectors(training.data, run)
        self.beta_ = START_BETA if self.beta is None else self.beta
        return {"items_without_events": int((~self.is_warm_).sum())}

    def _text_vectors(self, data: Dataset, run: Run) -> np.ndarray:
        """Return the vectors (N, E) of the items' texts."""
        rows = data.catalogue.rows(self.items_.ids.tolist())
        texts = [data.item_texts[row] for row in rows.tolist()]
        self.space_ = ""
        self.centre_ = np.zeros(1, dtype=np.float32)
        if not any(text.strip() for text in texts):
            return np.zeros((len(texts), 1), dtype=np.float32)
        encoder = encoder_of(self.encoder)
        self.space_ = encoder.space
        vectors = unit(item_vectors(encoder, texts, run.progress))
        self.centre_ = vectors[vectors.any(axis=1)].mean(axis=0)
        return _centred(vectors, self.centre_)

    def _make_net(self) -> TokenSetNet:
        return TokenSetNet(
            torch.from_numpy(self.behaviour_),
            torch.from_numpy(self.texts_),
            TextTokens(self.texts_.shape[1], self.tokens, self.width, self.hidden),
            [TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)],
            self.length,
            self.width,
            self.dropout,
            self.separate,
        )

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        """Train the net, then choose the share of the text."""
        # items of equal texts cannot be told apart by them
        self._same_text = np.unique(self.texts_, axis=0, return_inverse=True)[1].ravel()
        try:
            report = super()._train(training, validation, run)
        finally:
            del self._same_text
        if self.beta is None and validation is not None:
            values = {}
            for self.beta_ in BETAS:
                values[self.beta_] = validation.value(self)
            self.beta_ = max(values, key=lambda beta: values[beta])
            report["value_by_beta"] = {str(beta): round(v, 5) for beta, v in values.items()}
        return {**report, "token_cosine": self._token_cosine()}

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the sum of the losses of all queries, plus the autoencoder's weighted error."""
        net: TokenSetNet = self._net
        task = self._make_task(batch, rng)
        drawn = self._draw_negatives(training.item_rows, rng)
        rows = np.concatenate([task.rows.ravel(), task.targets, drawn])
        distinct, positions = np.unique(rows, return_inverse=True)
        of_distinct, error = net.tokens(as_tensor(distinct, net))
        vectors = of_distinct[as_tensor(positions.ravel(), net)]
        sizes = [task.rows.size, len(task.targets), len(drawn)]
        read, positive, negative = vectors.split(sizes)
        places = torch.arange(task.rows.shape[1], device=net.device)[None]
        states = net.states(read.unflatten(0, task.rows.shape), places).flatten(0, 1)
        predicting = states[as_tensor(task.positions, net)] / self.temperature  # M, Q, D
        loss = self.restoring * error
        targets, negatives = as_tensor(task.targets, net), as_tensor(drawn, net)
        same = as_tensor(self._same_text, net)
        for token in range(1 + self.tokens):
            loss = loss + SampledSoftmax()(
                predicting[:, token],
                positive[:, token],
                negative[:, token],
                targets,
                negatives,
                max(len(training.item_rows), len(drawn) + 1),  # all drawn: each stands for itself
                same if token else None,
            )
        return loss

    def _draw_negatives(self, item_rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return (K,) rows of negatives of a batch: all items with events, or some."""
        if self.negatives is None or self.negatives >= len(item_rows):
            return item_rows
        return item_rows[uniform_negatives(len(item_rows), self.negatives, rng)]

    def _token_cosine(self) -> float:
        """Return the mean cosine of two tokens of text of an item; near 1: they say the same."""
        if self.tokens < 2 or not len(self.items_):
            return 0.0
        with torch.inference_mode():
            of_texts = self._net.catalogue()[:, 1:]
        total = of_texts.sum(dim=1).square().sum(dim=-1) - self.tokens
        return round(float((total / (self.tokens * (self.tokens - 1))).mean()), 4)

    # answering

    def _scores(self, queries: Queries) -> np.ndarray:
        net: TokenSetNet = self._ready()
        scores = np.full((len(queries), len(self.items_)), -np.inf, dtype=np.float32)
        is_warm = torch.from_numpy(self.is_warm_).to(net.device)
        with torch.inference_mode():
            catalogue = net.catalogue()  # N, Q, D
            for numbers, windows in self._query_batches(queries):
                states = self._last_states(windows, catalogue)  # B, Q, D
                logits = torch.einsum("bqd,nqd->qbn", states, catalogue) / self.temperature
                warm_logits = logits.masked_fill(~is_warm, float("-inf"))
                shares = logits - warm_logits.logsumexp(dim=-1, keepdim=True)
                by_text = shares[1:].mean(dim=0)
                mixed = (1 - self.beta_) * shares[0] + self.beta_ * by_text
                scores[numbers] = torch.where(is_warm, mixed, by_text).cpu().numpy()
        return scores

    def _last_states(self, windows: Windows, catalogue: Tensor) -> Tensor:
        """Return the states (B, Q, D) of the queries after each window's last event."""
        net: TokenSetNet = self._ready()
        rows, _ = pad_rows(windows.rows, windows.starts, windows.lengths)
        last = as_tensor(windows.lengths - 1, net)[:, None]
        return net.states(catalogue[as_tensor(rows, net)], last)[:, 0]

    def with_items(self, items: Dataset, run: Run = Run()) -> Self:
        """Return a copy that knows the items of another data set too, by their texts.

        Nothing is learned. Raises DataError where no item had a text, ModelError for another
        encoder.
        """
        self._check_fitted()
        if not self.space_:
            raise DataError(
                "no item had a text when this was fitted: texts of new ones say nothing"
            )
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        is_new = self.items_.rows(items.catalogue.ids.tolist()) < 0
        rows = np.flatnonzero(self._describable(items) & is_new)
        texts = [items.item_texts[row] for row in rows.tolist()]
        vectors = unit(item_vectors(encoder, texts, run.progress))
        extended, order = self.items_.with_items(items.catalogue.ids[rows].tolist())
        mean = self.behaviour_[self.is_warm_].mean(axis=0, keepdims=True)
        behaviour = np.repeat(mean, len(rows), axis=0)
        return self._with_state(
            items_=extended,
            texts_=np.concatenate([self.texts_, _centred(vectors, self.centre_)])[order],
            behaviour_=np.concatenate([self.behaviour_, behaviour])[order],
            is_warm_=np.concatenate([self.is_warm_, np.zeros(len(rows), dtype=bool)])[order],
        )


def _centred(vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return vectors (N, E) less a centre (E,), of length one; zero ones stay zero."""
    return np.where(vectors.any(axis=1, keepdims=True), unit(vectors - centre), 0)

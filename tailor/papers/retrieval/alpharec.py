"""AlphaRec: language vectors, smoothed along who chose what, and one small map."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.sampling import uniform_negatives
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.fitting import Recipe
from tailor.nn.item_encoders import TextItemEncoder
from tailor.nn.losses import SampledSoftmax
from tailor.ports.base import Encoder
from tailor.text.cached import asking, item_vectors, known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.sentences import unit_length
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation

PAPER = Paper(
    "alpharec",
    "Language Representations Can be What Recommenders Need: Findings and Potentials",
    "https://arxiv.org/abs/2407.05441",
    "A linear map of language vectors beats one of random vectors; it serves another shop without"
    " learning, above popularity and random vectors; a wish in words raises recall",
)


@dataclass(eq=False)
class AlphaRec(NetMethod, ScoringRecommender):
    """Compare users and items by text vectors, averaged over who chose what (Sheng et al. 2024).

    No item or user has a learned vector: a frozen language model's vectors of item texts are
    averaged along the graph of choices (LightGCN, two steps) and go through one small map. So the
    map serves catalogues that it was not trained on (`onto`), and a query's text moves the user
    towards its meaning.

    Differs from the paper: texts are averaged before the map, which for the linear map is the same
    and costs no product per step; what a target itself adds to its user is left out in training.
    """

    reads_text = True
    renamed_state = {"map_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Encoder of item texts and queries; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    width: int = 128
    """Width of the mapped vectors; this, negatives and temperature were chosen on validation
    (paper: 64, 256, .15 to .2).
    """
    map: Literal["linear", "net"] = "net"
    """Map of text vectors: "net" has two layers, as in the paper; "linear" has one."""
    text_share: Annotated[float, Range(0.1, 0.9)] = 0.5
    """Weight of a query's text, from 0 to 1; the history has the remainder."""
    negatives: int = 1024
    """Negative items drawn per batch and shared by its pairs."""
    temperature: Annotated[float, Range(0.05, 0.3, log=True)] = 0.08
    """Divisor of the cosine of user and item."""
    lr: Annotated[float, Range(3e-4, 1e-2, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 4096
    """Pairs of a user and an item per step."""
    epochs: int = 40
    """Passes over the data, at most."""
    patience: int | None = 4
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    texts_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of the items' texts, unit length; zero without text."""
    first_: np.ndarray = field(init=False, repr=False)
    """(N, D) text vectors plus the averages of the users who chose the item."""
    smooth_: np.ndarray = field(init=False, repr=False)
    """(N, D) sums over all steps of the graph, unit length."""
    degrees_: np.ndarray = field(init=False, repr=False)
    """(N,) number of users who chose the item."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        check_settings(self)
        if (
            min(self.width, self.negatives, self.batch) < 1
            or self.epochs < 0
            or not self.temperature > 0
            or not self.lr > 0
        ):
            raise DataError(
                "width, negatives and batch must be at least 1, epochs at least 0, temperature and"
                " lr above 0"
            )
        if not 0 <= self.text_share <= 1:
            raise DataError(f"text_share is {self.text_share}: it must be from 0 to 1")

    @classmethod
    def tiny(cls) -> "AlphaRec":
        return cls(HashingEncoder(32), width=8, negatives=20, epochs=3)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        rows = learned.sequences.rows.distinct()
        self._average_texts(data, rows, run)
        self._start_net(run)
        pairs = np.flatnonzero(np.repeat(rows.lengths > 1, rows.lengths))
        if len(pairs):
            report = self._train(data, rows, pairs, validation, run)
        else:
            report = self._leave_untrained("no user has two items to learn from")
        self.fit_report_ = {
            "items_without_text": int((~self.texts_.any(axis=1)).sum()),
            "pairs": len(pairs),
            **report,
        }

    def _train(
        self,
        data: Dataset,
        rows: Ragged,
        pairs: np.ndarray,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train on (user, item) pairs, which are positions of values in `rows`."""
        candidates = np.flatnonzero(self.degrees_)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return np.array_split(rng.permutation(pairs), -(-len(pairs) // self.batch))

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            negatives = candidates[uniform_negatives(len(candidates), self.negatives, rng)]
            return self._loss(rows, batch, negatives)

        recipe = Recipe(self.epochs, self.lr, patience=self.patience, every=5)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _average_texts(self, data: Dataset, rows: Ragged, run: Run) -> None:
        """Encode the texts of a catalogue and average them over users' items; learn nothing."""
        encoder = encoder_of(self.encoder)
        self.items_ = data.catalogue
        self.texts_ = item_vectors(encoder, data.item_texts, run.progress)
        self.space_ = encoder.space
        n = len(self.items_)
        self.degrees_ = np.bincount(rows.values, minlength=n).astype(np.float32)
        steps = self._graph_steps(rows)
        self.first_ = self.texts_ + steps.T @ (_mean_matrix(rows, n) @ self.texts_)
        self.smooth_ = unit_length(self.first_ + steps.T @ (steps @ self.texts_))

    def _graph_steps(self, rows: Ragged) -> sp.csr_matrix:
        """Return (B, N) a step from users to items, divided by the roots of both degrees."""
        degrees = np.maximum(self.degrees_[rows.values], 1) * np.repeat(rows.lengths, rows.lengths)
        return rows.matrix(len(self.degrees_), (1 / np.sqrt(degrees)).astype(np.float32))

    def _user_vectors(self, rows: Ragged) -> np.ndarray:
        """Return (B, D) unit vectors of users with these items; zero without items."""
        means = _mean_matrix(rows, len(self.items_)) @ self.texts_
        return unit_length(np.asarray(means + self._graph_steps(rows) @ self.first_))

    def _make_net(self) -> TextItemEncoder:
        is_net = self.map == "net"
        hidden = self.texts_.shape[1] // 2 if is_net else 0
        texts = torch.from_numpy(self.smooth_)
        return TextItemEncoder(texts, self.width, hidden, bias=is_net, unit=True)

    def _loss(self, rows: Ragged, batch: np.ndarray, drawn: np.ndarray) -> Tensor:
        """Return the softmax loss of pairs (positions in `rows`) against drawn items.

        Each user's vector is made without the item that is to be found.
        """
        net = self._net
        device = next(net.parameters()).device
        users, items = rows.row_ids[batch], rows.values[batch]
        histories = rows.take(users)
        histories = histories.keep(histories.values != np.repeat(items, histories.lengths))
        states = net.encode(torch.from_numpy(self._user_vectors(histories)).to(device))
        targets = torch.from_numpy(items.astype(np.int64)).to(device)
        negatives = torch.from_numpy(drawn).to(device)
        return SampledSoftmax()(
            states / self.temperature,
            net(targets),
            net(negatives),
            targets,
            negatives,
            items=len(drawn) + 1,
        )

    # answering

    def _map_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Return mapped vectors (n, width) of unit length; zero where a vector is zero."""
        net = self._ready()
        tensor = torch.from_numpy(vectors.astype(np.float32, copy=False)).to(net.texts.device)
        mapped: np.ndarray = net.encode(tensor).cpu().numpy()
        return mapped * vectors.any(axis=1, keepdims=True)

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        users = self._map_vectors(self._user_vectors(queries.histories.distinct()))
        texts = {i: text for i in range(len(queries)) if (text := queries.text(i).strip())}
        if texts:
            has_text = list(texts)
            encoder = asking(encoder_of(self.encoder), self.space_)
            mapped = self._map_vectors(encoder.encode(list(texts.values())))
            has_history = users[has_text].any(axis=1, keepdims=True)
            share = np.where(has_history, np.float32(self.text_share), np.float32(1))
            users[has_text] = (1 - share) * users[has_text] + share * mapped
        scores: np.ndarray = users @ self._ready().all_items().cpu().numpy().T
        scores[:, ~self.smooth_.any(axis=1)] = -np.inf
        scores[~users.any(axis=1)] = -np.inf
        return scores

    def onto(self, data: Dataset, run: Run = Run()) -> Self:
        """Return a copy for another catalogue and log, with the map as it was learned.

        Their texts are averaged along their events. Raises ModelError for another encoder.
        """
        self._check_fitted()
        known_encoder(encoder_of(self.encoder), self.space_)
        copy = type(self)(**self.params())
        copy._average_texts(data, data.sequences.rows.distinct(), run)
        copy.net_weights_ = self.net_weights_
        copy.trained_on_ = data.provenance.after(self.trained_on_)
        copy.fit_report_ = {
            "map learned on": self.trained_on_.data_hash,
            "items_without_text": int((~copy.texts_.any(axis=1)).sum()),
        }
        return copy


def _mean_matrix(rows: Ragged, items: int) -> sp.csr_matrix:
    """Return (B, N) the share that each of a row's items has in its mean."""
    shares = np.repeat(1 / np.maximum(rows.lengths, 1), rows.lengths)
    return rows.matrix(items, shares.astype(np.float32))

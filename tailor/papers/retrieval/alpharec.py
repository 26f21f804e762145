"""AlphaRec: text vectors, averaged over users and items, below one small learned map."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
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
from tailor.data.graphs import bipartite, means
from tailor.data.queries import Queries
from tailor.data.sampling import shuffled_batches, uniform_negatives
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.devices import index_tensor
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
    """Users and items are averages of text vectors, which one small learned map makes comparable.

    Item texts are encoded by a frozen language model; the vectors are averaged over the graph of
    users and items as in LightGCN with two layers (Sheng et al. 2024). Nothing is learned per item
    or user, so a fitted model serves other catalogues too (`onto`), and a query's text moves the
    user's vector towards its own.

    Differs from the paper: texts are averaged before the map, which is the same for a linear map
    and costs no product per step; while learning, what a target adds to its own user's vector is
    left out.
    """

    reads_text = True
    renamed_state = {"map_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Encoder of item texts and queries; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    width: int = 128
    """Width of the mapped vectors; like negatives and temperature chosen on validation (paper: 64,
    256, .15 to .2).
    """
    map: Literal["linear", "net"] = "net"
    """Learned map; net: two layers, as in the paper; linear: one layer, as in its probe."""
    text_share: Annotated[float, Range(0.1, 0.9)] = 0.5
    """Share of a query's text in the user's vector; the history has the remainder."""
    negatives: int = 1024
    """Items drawn per batch as negatives."""
    temperature: Annotated[float, Range(0.05, 0.3, log=True)] = 0.08
    """Cosines of users and items are divided by it."""
    lr: Annotated[float, Range(3e-4, 1e-2, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 4096
    """Pairs of a user and an item per batch."""
    epochs: int = 40
    """Maximum number of epochs."""
    patience: int | None = 4
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    texts_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of item texts, of unit length; zero for an item without text."""
    first_: np.ndarray = field(init=False, repr=False)
    """(N, D) text vectors plus the mean texts of the item's users."""
    smooth_: np.ndarray = field(init=False, repr=False)
    """(N, D) sums of the vectors of all layers, of unit length."""
    degrees_: np.ndarray = field(init=False, repr=False)
    """(N,) number of users who chose the item."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        check_settings(self)
        is_positive = self.temperature > 0 and self.lr > 0
        if min(self.width, self.negatives, self.batch) < 1 or self.epochs < 0 or not is_positive:
            raise DataError(
                "width, negatives and batch must be at least 1, epochs at least 0, temperature and"
                " lr above 0"
            )
        if not 0 <= self.text_share <= 1:
            raise DataError(f"text_share is {self.text_share}: it must be from 0 to 1")

    @classmethod
    def tiny(cls) -> "AlphaRec":
        return cls(HashingEncoder(32), width=8, negatives=20, epochs=3)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        self._smooth(data, learned.sequences.rows, run)
        self._start_net(run)
        rows = learned.sequences.rows.distinct()
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
            return shuffled_batches(pairs, self.batch, rng)

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            negatives = candidates[uniform_negatives(len(candidates), self.negatives, rng)]
            return self._loss(rows, batch, negatives)

        recipe = Recipe(self.epochs, self.lr, patience=self.patience, every=5)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _smooth(self, data: Dataset, sequences: Ragged, run: Run) -> None:
        """Encode the texts of a catalogue and average them over its users; nothing is learned."""
        encoder = encoder_of(self.encoder)
        self.items_ = data.catalogue
        self.texts_ = item_vectors(encoder, data.item_texts, run.progress)
        self.space_ = encoder.space
        rows = sequences.distinct()
        self.degrees_ = np.bincount(rows.values, minlength=len(self.items_)).astype(np.float32)
        edges = bipartite(rows, self.degrees_)
        self.first_ = self.texts_ + edges.T @ (means(rows, len(self.items_)) @ self.texts_)
        self.smooth_ = unit_length(self.first_ + edges.T @ (edges @ self.texts_))

    def _user_vectors(self, rows: Ragged) -> np.ndarray:
        """Return (B, D) vectors of users with these items, of unit length; zero without items."""
        text_means = means(rows, len(self.items_)) @ self.texts_
        edges = bipartite(rows, self.degrees_)
        return unit_length(np.asarray(text_means + edges @ self.first_))

    def _make_net(self) -> TextItemEncoder:
        is_net = self.map == "net"
        hidden = self.texts_.shape[1] // 2 if is_net else 0
        texts = torch.from_numpy(self.smooth_)
        return TextItemEncoder(texts, self.width, hidden, bias=is_net, unit=True)

    def _loss(self, rows: Ragged, pairs: np.ndarray, negatives: np.ndarray) -> Tensor:
        """Return the mean InfoNCE loss of pairs, which are positions in `rows`.

        A user's vector is made without the item that is to be predicted.
        """
        targets = rows.values[pairs]
        others = rows.take(rows.row_ids[pairs])
        others = others.keep(others.values != np.repeat(targets, others.lengths))
        device = next(self._net.parameters()).device
        users = self._net.encode(torch.from_numpy(self._user_vectors(others)).to(device))
        target_rows = index_tensor(targets, device)
        negative_rows = index_tensor(negatives, device)
        return SampledSoftmax()(
            users / self.temperature,
            self._net(target_rows),
            self._net(negative_rows),
            target_rows,
            negative_rows,
            items=len(negatives) + 1,
        )

    def _mapped(self, vectors: np.ndarray) -> np.ndarray:
        """Return mapped vectors (B, width) of unit length; zero where the vector (B, D) is zero."""
        net = self._ready()
        texts = torch.from_numpy(vectors.astype(np.float32, copy=False)).to(net.texts.device)
        mapped: np.ndarray = net.encode(texts).cpu().numpy() * vectors.any(axis=1, keepdims=True)
        return mapped

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        users = self._mapped(self._user_vectors(queries.histories.distinct()))
        self._add_texts(users, queries)
        scores: np.ndarray = users @ self._ready().all_items().cpu().numpy().T
        scores[:, ~self.smooth_.any(axis=1)] = -np.inf
        scores[~users.any(axis=1)] = -np.inf
        return scores

    def _add_texts(self, users: np.ndarray, queries: Queries) -> None:
        """Move the vectors (B, width) of users whose queries have a text towards it, in place."""
        texts = [queries.text(i).strip() for i in range(len(queries))]
        rows = [i for i, text in enumerate(texts) if text]
        if not rows:
            return
        encoder = asking(encoder_of(self.encoder), self.space_)
        text_vectors = self._mapped(encoder.encode([texts[i] for i in rows]))
        has_history = users[rows].any(axis=1, keepdims=True)
        share = np.where(has_history, np.float32(self.text_share), np.float32(1))
        users[rows] = (1 - share) * users[rows] + share * text_vectors

    def onto(self, data: Dataset, run: Run = Run()) -> Self:
        """Return a copy for another catalogue and log, with the same learned map.

        The other catalogue's texts are averaged over its own events. Raises ModelError for another
        encoder.
        """
        self._check_fitted()
        known_encoder(encoder_of(self.encoder), self.space_)
        other = type(self)(**self.params())
        other._smooth(data, data.sequences.rows, run)
        other.net_weights_ = self.net_weights_
        other.trained_on_ = data.provenance.after(self.trained_on_)
        other.fit_report_ = {
            "map learned on": self.trained_on_.data_hash,
            "items_without_text": int((~other.texts_.any(axis=1)).sum()),
        }
        return other

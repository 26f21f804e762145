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
    """No item or person has a vector of its own: a frozen language model's vectors, averaged along
    who chose what, go through one small map (Sheng et al. 2024).

    So it serves catalogues it never saw (`onto`), and a query's text moves the person towards what
    it says. Averages are LightGCN's over two steps. Differs from the paper: texts are averaged
    before the map, which for the linear map is the same thing and costs no product a step; what a
    target itself adds to its person is taken out while learning.
    """

    reads_text = True
    renamed_state = {"map_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Of items' texts and queries; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    width: int = 128
    """Of what is compared; this, negatives and temperature were chosen on validation (paper: 64,
    256, .15 to .2).
    """
    map: Literal["linear", "net"] = "net"
    """Net: two layers, the paper's; linear: one, its probe of what the vectors know."""
    text_share: Annotated[float, Range(0.1, 0.9)] = 0.5
    """Of a query's text in what is asked for; the history has the rest."""
    negatives: int = 1024
    """Items drawn a batch."""
    temperature: Annotated[float, Range(0.05, 0.3, log=True)] = 0.08
    lr: Annotated[float, Range(3e-4, 1e-2, log=True)] = 2e-3
    """Highest step; falls in a straight line to a hundredth over all epochs."""
    batch: int = 4096
    """Pairs of a person and an item."""
    epochs: int = 40
    """At most."""
    patience: int | None = 4
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    texts_: np.ndarray = field(init=False, repr=False)
    """(N, D) of the items' texts, unit length; zero without words."""
    first_: np.ndarray = field(init=False, repr=False)
    """(N, D) the same, and what those who chose the item are like."""
    smooth_: np.ndarray = field(init=False, repr=False)
    """(N, D) all steps together, unit length."""
    degrees_: np.ndarray = field(init=False, repr=False)
    """(N,) people who chose the item."""
    space_: str = field(init=False, repr=False)
    """Which encoder's vectors these are."""

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
            return np.array_split(rng.permutation(pairs), -(-len(pairs) // self.batch))

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            negatives = candidates[uniform_negatives(len(candidates), self.negatives, rng)]
            return self._loss(rows, batch, negatives)

        recipe = Recipe(self.epochs, self.lr, patience=self.patience, every=5)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _smooth(self, data: Dataset, sequences: Ragged, run: Run) -> None:
        """Vectors of a catalogue, averaged along who chose what; nothing is learned."""
        encoder, self.items_ = encoder_of(self.encoder), data.catalogue
        self.texts_, self.space_ = (
            item_vectors(encoder, data.item_texts, run.progress),
            encoder.space,
        )
        rows = sequences.distinct()
        self.degrees_ = np.bincount(rows.values, minlength=len(self.items_)).astype(np.float32)
        steps = self._steps(rows)
        self.first_ = self.texts_ + steps.T @ (_means(rows, len(self.items_)) @ self.texts_)
        self.smooth_ = unit_length(self.first_ + steps.T @ (steps @ self.texts_))

    def _steps(self, rows: Ragged) -> sp.csr_matrix:
        """(B, N) of each person's items, divided by the roots of both degrees."""
        degrees = np.maximum(self.degrees_[rows.values], 1) * np.repeat(rows.lengths, rows.lengths)
        return rows.matrix(len(self.degrees_), (1 / np.sqrt(degrees)).astype(np.float32))

    def _people(self, rows: Ragged) -> np.ndarray:
        """(B, D) what people with these items are like, of unit length; zero without items."""
        return unit_length(
            np.asarray(
                _means(rows, len(self.items_)) @ self.texts_ + self._steps(rows) @ self.first_
            )
        )

    def _make_net(self) -> TextItemEncoder:
        hidden = self.texts_.shape[1] // 2 if self.map == "net" else 0
        return TextItemEncoder(
            torch.from_numpy(self.smooth_), self.width, hidden, bias=self.map == "net", unit=True
        )

    def _loss(self, rows: Ragged, batch: np.ndarray, drawn: np.ndarray) -> Tensor:
        """InfoNCE of pairs (places in `rows`), each person's own vector made without the item that
        is to be found.
        """
        owners, items = rows.row_ids[batch], rows.values[batch]
        others = rows.take(owners)
        others = others.keep(others.values != np.repeat(items, others.lengths))
        to = next(self._net.parameters()).device
        people = self._net.encode(torch.from_numpy(self._people(others)).to(to))
        where, against = (
            torch.from_numpy(items.astype(np.int64)).to(to),
            torch.from_numpy(drawn).to(to),
        )
        return SampledSoftmax()(
            people / self.temperature,
            self._net(where),
            self._net(against),
            where,
            against,
            items=len(drawn) + 1,
        )

    def _mapped(self, vectors: np.ndarray) -> np.ndarray:
        """(n, D) -> (n, width) of unit length; zero where the vector is."""
        net = self._ready()
        mapped = (
            net.encode(
                torch.from_numpy(vectors.astype(np.float32, copy=False)).to(net.texts.device)
            )
            .cpu()
            .numpy()
        )
        found: np.ndarray = mapped * vectors.any(axis=1, keepdims=True)
        return found

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        people = self._mapped(self._people(queries.histories.distinct()))
        texts = {i: text for i in range(len(queries)) if (text := queries.text(i).strip())}
        if texts:
            share = np.where(
                people[list(texts)].any(axis=1, keepdims=True),
                np.float32(self.text_share),
                np.float32(1),
            )
            said = self._mapped(
                asking(encoder_of(self.encoder), self.space_).encode(list(texts.values()))
            )
            people[list(texts)] = (1 - share) * people[list(texts)] + share * said
        scores: np.ndarray = people @ self._ready().all_items().cpu().numpy().T
        scores[:, ~self.smooth_.any(axis=1)] = -np.inf
        scores[~people.any(axis=1)] = -np.inf
        return scores

    def onto(self, data: Dataset, run: Run = Run()) -> Self:
        """A copy for another catalogue and log: their texts are averaged along their events, the
        map stays as it was learned. Raises ModelError for another encoder.
        """
        self._check_fitted()
        known_encoder(encoder_of(self.encoder), self.space_)
        other = type(self)(**self.params())
        other._smooth(data, data.sequences.rows, run)
        other.net_weights_, other.trained_on_ = (
            self.net_weights_,
            data.provenance.after(self.trained_on_),
        )
        other.fit_report_ = {
            "map learned on": self.trained_on_.data_hash,
            "items_without_text": int((~other.texts_.any(axis=1)).sum()),
        }
        return other


def _means(rows: Ragged, items: int) -> sp.csr_matrix:
    """(B, N) the share that each of a row's items has."""
    return rows.matrix(
        items, np.repeat(1 / np.maximum(rows.lengths, 1), rows.lengths).astype(np.float32)
    )

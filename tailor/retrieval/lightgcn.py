"""LightGCN: item vectors averaged over the graph of users and items."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tailor.core.leave_one_out import by_cause
from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.dataset import Dataset
from tailor.data.graphs import bipartite
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.sampling import shuffled_batches, uniform_negatives
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.devices import index_tensor
from tailor.nn.fitting import Recipe
from tailor.nn.graphs import Edges, GraphItems
from tailor.nn.losses import BPR, SampledSoftmax
from tailor.text.sentences import unit_length
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation


@dataclass(eq=False)
class LightGCN(NetMethod, ScoringRecommender):
    """Items chosen by the same users get like vectors; a user is the sum of their items' vectors.

    A layer replaces each item's vector by the sum of its users', edges weighted by the square roots
    of both degrees; the mean of all layers is compared with the user (He et al. 2020).
    Strangers are served from the history of the query, and nothing is kept of users.

    Differs from the paper: users have no vectors of their own, so one layer here is two of the
    paper's; while learning, what a target adds to its own user's vector is left out; squared
    lengths are those of the targets alone.
    """

    width: int = 64
    """Width of the item vectors."""
    layers: int = 1
    """Steps from items to users and back; 0: no graph but the user's own items."""
    loss: Literal["bpr", "softmax"] = "bpr"
    """Loss of a target and its negatives: BPR of inner products, or a softmax of cosines."""
    temperature: Annotated[float, Range(0.05, 0.3, log=True)] = 0.1
    """Divisor of the cosines in the softmax."""
    negatives: int = 1024
    """Items drawn per batch as negatives of the softmax; BPR draws one for each target."""
    l2: Annotated[float, Range(1e-6, 1e-1, log=True)] = 1e-4
    """Weight of the squared lengths of the targets' vectors before averaging, with BPR."""
    lr: Annotated[float, Range(3e-4, 3e-2, log=True)] = 5e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 4096
    """Pairs of a user and an item per batch."""
    epochs: int = 60
    """Maximum number of epochs."""
    patience: int | None = 4
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) item vectors, averaged over all layers; zero for an item that nobody chose."""
    degrees_: np.ndarray = field(init=False, repr=False)
    """(N,) number of users who chose the item."""

    def __post_init__(self) -> None:
        check_settings(self)
        is_positive = self.temperature > 0 and self.lr > 0
        if min(self.width, self.negatives, self.batch) < 1 or not is_positive:
            raise DataError(
                f"width {self.width}, negatives {self.negatives}, batch {self.batch}, temperature"
                f" {self.temperature}, lr {self.lr}: all must be above 0"
            )
        if min(self.layers, self.epochs, self.l2) < 0:
            raise DataError(
                f"layers {self.layers}, epochs {self.epochs}, l2 {self.l2}: none may be below 0"
            )

    @classmethod
    def tiny(cls) -> "LightGCN":
        return cls(width=8, negatives=20, epochs=5)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        is_validated = self.patience is not None
        validation, learned = cut_validation(data, run, valid, needed=is_validated)
        self.items_ = data.catalogue
        rows = learned.sequences.rows.distinct()
        degrees = np.bincount(rows.values, minlength=len(self.items_))
        self.degrees_ = degrees.astype(np.float32)
        self._rows = rows
        self._prepare(data, run)
        self._start_net(run)
        has_others = np.repeat(rows.lengths > 1, rows.lengths)
        pairs = np.flatnonzero(has_others)
        if len(pairs):
            report = self._train(data, pairs, validation, run)
        else:
            report = self._leave_untrained("no user has two items to learn from")
        del self._rows  # single users' items
        items = int(np.count_nonzero(self.degrees_))
        self.fit_report_ = {"pairs": len(pairs), "items": items, **report}

    def _prepare(self, data: Dataset, run: Run) -> None:
        """Learn what the net needs besides `_rows`, (U, N) the distinct items of each user."""

    def _make_net(self) -> Any:
        edges = Edges(bipartite(self._rows, self.degrees_))
        return GraphItems(edges, len(self.items_), self.width, self.layers)

    def _train(
        self, data: Dataset, pairs: np.ndarray, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        """Train on (user, item) pairs, which are positions of values in `_rows`."""

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(pairs, self.batch, rng)

        recipe = Recipe(self.epochs, self.lr, patience=self.patience, every=5)
        return self._train_net(data, run, recipe, batches, self._loss, validation)

    def _loss(self, pairs: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return the mean loss of pairs (M,)."""
        vectors = self._net()
        users = self._users_without_targets(vectors, pairs)
        targets = self._rows.values[pairs]
        comparison = self._compare(users, vectors, targets, rng)
        return comparison + self._penalty(targets)

    def _penalty(self, targets: np.ndarray) -> Tensor:
        """Return the weighted mean squared length of the targets' vectors, 0 with a softmax."""
        weight = self._net.table.weight
        if self.loss == "softmax":
            return weight.new_zeros(())
        rows = index_tensor(targets, weight.device)
        squared_lengths = weight[rows].square().sum(dim=1)
        return self.l2 * squared_lengths.mean()

    def _users_without_targets(self, vectors: Tensor, pairs: np.ndarray) -> Tensor:
        """Return (M, D) vectors of users without the item that is to be predicted."""
        rows = self._rows
        device = vectors.device
        users = index_tensor(rows.row_ids[pairs], device)
        targets = index_tensor(rows.values[pairs], device)
        lengths = torch.from_numpy(rows.lengths.astype(np.float32)).to(device)
        user_degrees = lengths[users, None]
        all_degrees = torch.from_numpy(self.degrees_).to(device)
        item_degrees = all_degrees[targets, None]
        user_vectors = self._net.edges(vectors)
        sums = user_vectors[users] * user_degrees.sqrt()
        shares = vectors[targets] / item_degrees.sqrt()
        remaining = sums - shares
        return remaining / (user_degrees - 1).sqrt()

    def _compare(
        self, users: Tensor, vectors: Tensor, targets: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        """Return the loss of users (M, D) with their targets (M,) against drawn negatives."""
        candidates = np.flatnonzero(self.degrees_)
        device = vectors.device
        rows = index_tensor(targets, device)
        if self.loss == "bpr":
            drawn = index_tensor(rng.choice(candidates, len(targets)), device)
            positive = (users * vectors[rows]).sum(dim=1)
            negative = (users * vectors[drawn]).sum(dim=1, keepdim=True)
            return BPR()(positive, negative)
        numbers = uniform_negatives(len(candidates), self.negatives, rng)
        drawn = index_tensor(candidates[numbers], device)
        states = normalize(users, dim=1) / self.temperature
        items = normalize(vectors, dim=1)
        return SampledSoftmax()(states, items[rows], items[drawn], rows, drawn, len(candidates))

    def _keep_weights(self) -> None:
        """Keep the averaged vectors; the table and the graph are not needed to answer."""
        self._net.cpu().eval()
        with torch.no_grad():
            self.vectors_ = self._net().numpy()
        del self._net

    # answering

    def _item_vectors(self) -> np.ndarray:
        """Return (N, D) item vectors as users are compared with them."""
        if "_net" in self.__dict__:  # asked for validation
            with torch.no_grad():
                vectors: np.ndarray = self._net().cpu().numpy()
        else:
            vectors = self.vectors_
        return vectors

    def _scores(self, queries: Queries) -> np.ndarray:
        vectors = self._item_vectors()
        rows = queries.histories.distinct()
        edges = bipartite(rows, self.degrees_)
        users = np.asarray(edges @ vectors)
        items = self._comparable(vectors)
        scores: np.ndarray = self._comparable(users) @ items.T
        scores[:, ~vectors.any(axis=1)] = -np.inf
        scores[~users.any(axis=1)] = -np.inf
        return scores

    def _comparable(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors whose inner products are scores."""
        return unit_length(vectors) if self.loss == "softmax" else vectors

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Explain each item by the events of the history whose vectors are like its own."""
        self._check_fitted()
        histories = Queries.of(queries).reindexed(self.items_).histories.distinct()
        edges = bipartite(histories, self.degrees_)
        explanations = []
        for i, ranking in enumerate(rankings):
            events = histories[i]
            weights = edges.data[histories.offsets[i] : histories.offsets[i + 1], None]
            event_vectors = weights * self.vectors_[events]
            item_vectors = self.vectors_[self.items_.rows(ranking.ids)]
            parts = np.maximum(event_vectors @ item_vectors.T, 0)
            event_ids = self.items_.ids[events]
            explanations.append(by_cause(ranking.ids, event_ids, parts))
        return explanations

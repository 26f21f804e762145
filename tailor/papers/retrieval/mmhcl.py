"""MMHCL: graphs of items that look alike and of users who share items, beside who chose what."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.attributes import attribute_values
from tailor.data.dataset import Dataset
from tailor.data.graphs import bipartite
from tailor.errors import DataError, nearest
from tailor.nn.graphs import Edges, GraphItems, propagate
from tailor.nn.losses import InfoNCE
from tailor.ports.base import Encoder
from tailor.retrieval.lightgcn import LightGCN
from tailor.retrieval.neighbours import nearest as nearest_rows
from tailor.text.cached import item_vectors
from tailor.text.hashing import HashingEncoder
from tailor.text.sentences import unit_length
from tailor.text.tfidf import count_terms, unit_rows
from tailor.text.vector_index import VectorIndex

PAPER = Paper(
    "mmhcl",
    "MMHCL: Multi-Modal Hypergraph Contrastive Learning for Recommendation",
    "https://arxiv.org/abs/2504.16576",
    "On Beauty (3,000 users, the last tenth of each judged) recall@20 is above LightGCN's of equal"
    " width and epochs; items with at most 5 events gain more than the others; with random"
    " neighbours in place of those by text and attributes the gain is lost",
)
TEXT = "text"  # the modality that an encoder makes of the item's text


class _UserSteps(nn.Module):
    """Step from users to those who share items, weighted by how many they share.

    Each row sums to 1, and nobody is their own neighbour. The matrix (U, U) is dense and never
    made: a step is two products with the choices (U, N), less what comes back to the user.
    """

    def __init__(self, choices: sp.csr_matrix) -> None:
        super().__init__()
        self.choices = Edges(choices)
        lengths = np.asarray(choices.sum(axis=1))
        item_users = choices.sum(axis=0).T
        shared = np.asarray(choices @ item_users) - lengths
        self.own: Tensor
        self.shared: Tensor
        for name, counts in (("own", lengths), ("shared", shared)):
            column = torch.from_numpy(counts).float()  # U, 1
            self.register_buffer(name, column, persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """(U, D) -> (U, D); zero for users who share no item."""
        sums = self.choices(self.choices.back(vectors)) - self.own * vectors
        return sums / self.shared.clamp(min=1)


class _HypergraphItems(GraphItems):
    """LightGCN's item vectors, plus those averaged over groups of items that look alike."""

    def __init__(
        self, edges: Edges, choices: sp.csr_matrix, groups: sp.csr_matrix, method: "MMHCL"
    ) -> None:
        """Make the net of edges and choices (U, N) and scaled groups (N, G)."""
        users, items = choices.shape
        super().__init__(edges, items, method.width, method.layers)
        self.groups = Edges(groups)
        self.group_table = nn.Embedding(items, method.width)
        self.user_steps = _UserSteps(choices)
        self.user_table = nn.Embedding(users, method.width)
        self.item_layers = method.item_layers
        self.user_layers = method.user_layers
        for table in (self.group_table, self.user_table):
            nn.init.normal_(table.weight, std=0.1)

    def group_vectors(self) -> Tensor:
        """Return (N, D) vectors of items by their groups alone; zero for an item without."""
        steps = (self.groups.back, self.groups)
        return propagate(steps, self.group_table.weight, self.item_layers)[-1]

    def user_vectors(self) -> Tensor:
        """Return (U, D) vectors of users by those who share items with them alone."""
        return propagate((self.user_steps,), self.user_table.weight, self.user_layers)[-1]

    def _make_vectors(self) -> Tensor:
        return self.averaged() + normalize(self.group_vectors(), dim=1)


@dataclass(eq=False)
class MMHCL(LightGCN):
    """Items are near to those with like texts or pictures, and to those chosen together.

    Each item makes a group (a hyperedge) of itself and its nearest items in every modality. Items
    of the same groups average vectors of a table of their own, which are added to LightGCN's. A
    contrastive loss brings an item's sum and its group vector together, another one a user and the
    users who share items (Xu et al. 2025). New items are found by their groups.

    Differs from the paper: a user is the sum of their items' vectors, and the graph of users with
    its table is there while learning only, so strangers are served and nothing is kept of users;
    contrasts are taken within a batch.
    """

    modalities: tuple[str, ...] = (TEXT, "categories")
    """Descriptions of items that are compared: "text", or columns of the items table that hold
    lists of numbers (vectors of pictures, say) or values.
    """
    encoder: Encoder | str = DEFAULT
    """Encoder of item texts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    neighbours: int = 5
    """Nearest items that form a group with an item, per modality."""
    item_layers: int = 2
    """Steps over the groups of items."""
    user_layers: int = 3
    """Steps over the graph of users who share items."""
    item_weight: Annotated[float, Range(1e-3, 1.0, log=True)] = 0.07
    """Weight of the contrast of items and their groups."""
    user_weight: Annotated[float, Range(1e-3, 1.0, log=True)] = 0.03
    """Weight of the contrast of users and those who share items."""
    contrast_temperature: Annotated[float, Range(0.1, 1.0)] = 0.6
    """Divisor of the cosines in both contrasts."""
    lr: Annotated[float, Range(3e-4, 3e-2, log=True)] = 2e-2
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    contrasted: int = 512
    """Users and items of a batch that are contrasted, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.item_weight, self.user_weight)
        if self.neighbours < 1 or self.contrasted < 1 or not self.contrast_temperature > 0:
            raise DataError(
                f"neighbours {self.neighbours}, contrasted {self.contrasted}, contrast_temperature"
                f" {self.contrast_temperature}: all must be above 0"
            )
        if min(self.item_layers, self.user_layers, *weights) < 0:
            raise DataError(
                f"item_layers {self.item_layers}, user_layers {self.user_layers}, weights"
                f" {weights}: none may be below 0"
            )

    @classmethod
    def tiny(cls) -> "MMHCL":
        return cls(width=8, negatives=20, epochs=5, encoder=HashingEncoder(32))

    def _prepare(self, data: Dataset, run: Run) -> None:
        graphs = []
        for name in self.modalities:
            vectors = self._described(data, name, run)
            if vectors is not None:
                graphs.append(nearest_groups(vectors, self.neighbours, run))
        if not graphs:
            graphs.append(sp.csr_matrix((len(self.items_), 0), dtype=np.float32))
        self._groups = scaled_groups(sp.hstack(graphs, format="csr"))

    def _described(self, data: Dataset, name: str, run: Run) -> np.ndarray | sp.csr_matrix | None:
        """Return (N, D) the items' vectors of a modality, of unit length.

        None for a default modality that is missing. Raises DataError for another missing column.
        """
        if name == TEXT:
            return item_vectors(encoder_of(self.encoder), data.item_texts, run.progress)
        table = data.item_table
        if name not in table.columns:
            if name in type(self).modalities:
                return None
            raise DataError(f'the items have no column "{name}".{nearest(name, table.columns)}')
        column = table[name]
        dtype = column.dtype
        if isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric():
            return unit_length(number_rows(column))
        attributes = attribute_values(table, [name])
        values, _ = count_terms([value for _, value in pairs] for pairs in attributes)
        counts = np.bincount(values.indices, minlength=values.shape[1])
        weights = 1 / np.sqrt(np.maximum(counts, 1))
        return unit_rows(values @ sp.diags(weights))

    def _make_net(self) -> _HypergraphItems:
        edges = Edges(bipartite(self._rows, self.degrees_))
        choices = self._rows.matrix(len(self.items_))
        return _HypergraphItems(edges, choices, self._groups, self)

    def _loss(self, pairs: np.ndarray, rng: np.random.Generator) -> Tensor:
        net = self._net
        group_vectors = net.group_vectors()
        vectors = net.averaged() + normalize(group_vectors, dim=1)
        users = self._users_without_targets(vectors, pairs)
        targets = self._rows.values[pairs]
        item_rows = self._drawn(targets, rng).to(vectors.device)
        user_rows = self._drawn(self._rows.row_ids[pairs], rng).to(vectors.device)
        items = self._contrast(vectors[item_rows], group_vectors[item_rows])
        user_vectors = net.edges(vectors)
        companion_vectors = net.user_vectors()
        companions = self._contrast(user_vectors[user_rows], companion_vectors[user_rows])
        comparison = self._compare(users, vectors, targets, rng)
        loss = comparison + self._penalty(targets)
        loss = loss + self.item_weight * items
        return loss + self.user_weight * companions

    def _drawn(self, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return at most `contrasted` distinct rows."""
        distinct = np.unique(rows).astype(np.int64)
        return torch.from_numpy(rng.permutation(distinct)[: self.contrasted])

    def _contrast(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the loss that brings rows i of both views (M, D) together.

        All other rows of both views are negatives.
        """
        size = len(left)
        views = torch.cat([left, right])
        partners = torch.cat([right, left])
        diagonal = torch.eye(2 * size, dtype=torch.bool, device=left.device)
        is_itself = diagonal.roll(size, dims=1)
        contrast = InfoNCE(self.contrast_temperature)
        return contrast(views, partners, is_itself)

    def _keep_weights(self) -> None:
        super()._keep_weights()
        del self._groups


def number_rows(column: pl.Series) -> np.ndarray:
    """Return (N, D) float32 the lists of a column; zeros where one is missing.

    Raises DataError for lists of different lengths.
    """
    lists = column.to_list()
    lengths = {len(numbers) for numbers in lists if numbers is not None}
    if len(lengths) > 1:
        raise DataError(
            f'column "{column.name}" has lists of {min(lengths)} to {max(lengths)} numbers: the'
            " vectors of a modality have one length"
        )
    width = max(lengths, default=0)
    rows = [[0.0] * width if numbers is None else numbers for numbers in lists]
    return np.array(rows, dtype=np.float32).reshape(len(lists), width)


def nearest_groups(vectors: np.ndarray | sp.csr_matrix, neighbours: int, run: Run) -> sp.csr_matrix:
    """Return (N, G) the members, each 1, of a group around every item.

    A group holds the item and its `neighbours` nearest by cosine; chance decides among equal ones.
    Items without neighbours form none.
    """
    rng = run.rng("ties")

    def break_ties(block: sp.csr_matrix, start: int) -> None:
        draws = rng.random(len(block.data), dtype=np.float32)
        block.data *= 1 + 1e-4 * draws

    if isinstance(vectors, np.ndarray):
        near = _nearest_dense(vectors, neighbours, rng)
    else:
        near = nearest_rows(vectors, neighbours, run, "comparing items", break_ties)
        near.data[:] = 1
    centres = np.flatnonzero(np.diff(near.indptr))
    itself = sp.eye(near.shape[0], dtype=np.float32, format="csr")
    members = near + itself
    return sp.csr_matrix(members[centres].T)


def _nearest_dense(vectors: np.ndarray, neighbours: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Return (N, N) a 1 for the nearest other rows with a positive cosine."""
    size = len(vectors)
    described = np.flatnonzero(vectors.any(axis=1))
    known = vectors[described]
    noise = rng.standard_normal(known.shape, dtype=np.float32)
    noisy = unit_length(known + 1e-3 * noise)
    numbers = np.arange(len(described))
    itself = Ragged.of_lengths(np.ones_like(numbers), numbers)
    index = VectorIndex("exact").build(noisy)
    near, cosines = index.search(noisy, neighbours, itself)
    is_near = (near >= 0) & (cosines > 0)
    row, rank = np.nonzero(is_near)
    number = near[row, rank]
    ones = np.ones(len(row), np.float32)
    pairs = (described[row], described[number])
    return sp.csr_matrix((ones, pairs), shape=(size, size))


def scaled_groups(groups: sp.csr_matrix) -> sp.csr_matrix:
    """Return groups H (N, G) whose rows are scaled.

    HH' is divided by the roots of both row sums.
    """
    totals = np.asarray(groups @ groups.sum(axis=0).T).ravel()
    return sp.csr_matrix(sp.diags(1 / np.sqrt(np.maximum(totals, 1))) @ groups)

"""A net that treats each pair of fields by an operation of its own: a table, a product, or none.

Shapes: B examples, S slots, F fields, P pairs, V codes of all fields, D width of a pair's vector.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tailor.nn.fields import SPARSE, FieldBatch, FieldLayout, FieldNet, FieldVectors
from tailor.nn.gates import cooled_softmax
from tailor.nn.towers import Tower

OPERATIONS = ("table", "product", "none")
TABLE, PRODUCT, NONE = range(3)
SPEED = 10.0  # times as fast as vectors do shares move, which have to be found before those overfit


class CrossVectors(nn.Module):
    """A vector for every known combination of two fields' values, and one for all others."""

    keys: Tensor

    def __init__(self, keys: np.ndarray, width: int, std: float) -> None:
        """Make vectors for keys (K,) of `cross_keys`, ascending."""
        super().__init__()
        self.register_buffer("keys", torch.tensor(keys, device="cpu"), persistent=False)
        self.table = nn.Embedding(len(keys) + 1, width, sparse=len(keys) > SPARSE)
        nn.init.normal_(self.table.weight, std=std)

    def forward(self, keys: Tensor) -> Tensor:
        """(B, P) -> (B, P, D)."""
        if not len(self.keys):
            common: Tensor = self.table(torch.zeros_like(keys))
            return common
        places = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        is_known = self.keys[places] == keys
        vectors: Tensor = self.table(torch.where(is_known, places + 1, 0))
        return vectors


class PairOperationsNet(FieldNet):
    """A tower over fields and a vector for each pair; the tower's layers are normalised.

    While it is searched, a pair's vector is a mixture of its table, its product and nothing, with
    shares that are learned; after the search each pair has one operation.
    """

    pairs: Tensor
    slots: Tensor
    steps: Tensor

    def __init__(
        self,
        layout: FieldLayout,
        width: int,
        pair_width: int,
        sizes: Sequence[int],
        keys: np.ndarray,
        operations: np.ndarray | None,
        cooling: float = 0.0,
        std: float = 0.01,
    ) -> None:
        """Make the net; `keys` are those of known combinations.

        `operations` (P,) are the pairs' operations, None while they are searched. With every step
        the temperature of the search falls by `cooling`, from 1 to .01 at least.
        """
        super().__init__(layout, width, sizes, std=std)
        self.codes = layout.codes
        self.cooling = cooling
        pairs = field_pairs(layout.fields)
        self.shares = None
        numbers = np.arange(len(pairs))
        self.tables = numbers
        self.products = numbers
        if operations is None:
            self.shares = nn.Parameter(torch.zeros(len(pairs), len(OPERATIONS)))
        else:
            self.tables = np.flatnonzero(operations == TABLE)
            self.products = np.flatnonzero(operations == PRODUCT)
        self.register_buffer("pairs", torch.tensor(pairs, device="cpu"), persistent=False)
        slots = torch.tensor(first_slots(layout.field_of), device="cpu")
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("steps", torch.zeros(()))
        self.crosses = CrossVectors(keys, pair_width, std)
        self.factors = FieldVectors(layout.codes, pair_width, layout.field_of, std**0.5)
        used = len(pairs) if self.shares is not None else len(self.tables) + len(self.products)
        inputs = layout.fields * width + used * pair_width
        self.tower = Tower([inputs, *sizes], normalise=True)

    def inputs(self, batch: FieldBatch, fields: Tensor) -> Tensor:
        """Return fields and pairs, (B, F * D + P * pair width)."""
        tables = self.table_vectors(batch)
        products = self.product_vectors(batch)
        parts = [fields.flatten(1), tables.flatten(1), products.flatten(1)]
        if self.shares is not None:
            shares = cooled_softmax(SPEED * self.shares, self.temperature)
            mixed = shares[:, TABLE, None] * tables + shares[:, PRODUCT, None] * products
            parts = [fields.flatten(1), mixed.flatten(1)]
        return torch.cat(parts, dim=1)

    def table_vectors(self, batch: FieldBatch) -> Tensor:
        """Return (B, p, D) vectors of the pairs that have a table."""
        codes = batch.codes[:, self.slots]  # B, F: the first value of each field
        numbers = torch.as_tensor(self.tables, device=codes.device)
        pairs = self.pairs[numbers]
        keys = cross_keys(codes[:, pairs[:, 0]], codes[:, pairs[:, 1]], numbers, self.codes)
        vectors: Tensor = self.crosses(keys)
        return vectors

    def product_vectors(self, batch: FieldBatch) -> Tensor:
        """Return (B, p, D) vectors of the pairs that have a product."""
        pairs = self.pairs[torch.as_tensor(self.products, device=self.pairs.device)]
        factors = self.factors(batch.codes, batch.weights)  # B, F, D
        product: Tensor = factors[:, pairs[:, 0]] * factors[:, pairs[:, 1]]
        return product

    @property
    def temperature(self) -> Tensor:
        """Return (): the temperature of the search at its present step."""
        return (1 - self.cooling * self.steps).clamp(min=0.01)


def field_pairs(fields: int) -> np.ndarray:
    """Return (P, 2) every two fields, the lower first."""
    return np.stack(np.triu_indices(fields, 1), axis=1)


def first_slots(field_of: Sequence[int]) -> np.ndarray:
    """Return (F,) the first slot of each field."""
    return np.unique(np.asarray(field_of), return_index=True)[1]


def cross_keys(left: Any, right: Any, pairs: Any, codes: int) -> Any:
    """Return a number for each combination of two values of a pair; arrays or tensors alike.

    `left` and `right` are values among so many `codes`, `pairs` the numbers of their pairs.
    """
    return (pairs * codes + left) * codes + right

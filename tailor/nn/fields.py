"""Nets over fields: an example is a row of slots, each with a code and a weight.

Each slot belongs to a field; the fields of the item come first. Shapes: B examples, S slots, F
fields, V codes of all fields, D width, N items, I fields of an item, H histories of at most T
behaviours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tailor.nn.towers import Activation, Tower

SPARSE = 200_000  # number of codes from which a step updates only those of its batch


class FieldBatch(NamedTuple):
    """Examples as tensors. Examples of one query share its history."""

    codes: Tensor
    """(B, S) int64 over all fields."""
    weights: Tensor
    """(B, S)."""
    items: Tensor
    """(B,) int64 row of the candidate; N for an unknown item."""
    owners: Tensor
    """(B,) int64 position of the example's history among the H histories."""
    behaviours: Tensor
    """(H, T) int64 item rows, oldest first; N for padding."""
    is_real: Tensor
    """(H, T) bool: False for padding."""
    gaps: Tensor
    """(H, T) log(1 + hours) from a behaviour to the request; 0 where a time is absent."""
    values: Tensor
    """(H, T) the numbers of the behaviours, such as ratings; NaN where absent."""
    attached: Tensor = torch.zeros(0, 0, dtype=torch.int64, device="cpu")
    """(B, X) rows of a table that the method attaches to each example; -1 for none."""

    def to(self, device: torch.device) -> "FieldBatch":
        """Return the same examples on a device."""
        return self if self.codes.device == device else FieldBatch(*(t.to(device) for t in self))

    def of_examples(self, of_histories: Tensor) -> Tensor:
        """Return (B, ...) for (H, ...): each example's own history."""
        if len(of_histories) == 1:  # without a copy: many candidates of one query
            return of_histories.expand(len(self.owners), *of_histories.shape[1:])
        if len(of_histories) == len(self.owners):  # owners ascend: every example has its own
            return of_histories
        return of_histories[self.owners]

    def latest(self, count: int) -> "FieldBatch":
        """Return the same examples with only the last `count` behaviours of each history."""
        longest = self.is_real.shape[1]
        if longest <= count:
            return self
        lengths = self.is_real.sum(dim=1, keepdim=True)
        starts = (lengths - count).clamp(min=0)
        places = starts + torch.arange(count, device=lengths.device)  # H, count
        inside = places.clamp(max=longest - 1)
        return self._replace(
            behaviours=self.behaviours.gather(1, inside),
            is_real=places < lengths,
            gaps=self.gaps.gather(1, inside),
            values=self.values.gather(1, inside),
        )


@dataclass(frozen=True, eq=False)
class FieldLayout:
    """Describe the fields to a net: codes, slots, and the slots of every item."""

    codes: int
    """V."""
    field_of: Sequence[int]
    """(S,) the field of each slot."""
    item_codes: np.ndarray
    """(N + 1, slots of an item) int64 codes over all fields; the last row is an unknown item."""
    item_weights: np.ndarray
    """The same shape, float32."""
    item_fields: int
    """I."""

    @property
    def fields(self) -> int:
        """F."""
        return max(self.field_of) + 1


class FieldVectors(nn.Module):
    """A vector per code; a field's vector is the weighted sum over its slots."""

    def __init__(self, codes: int, width: int, field_of: Sequence[int], std: float) -> None:
        """Make vectors of standard deviation `std`; `field_of` (S,) is the field of each slot."""
        super().__init__()
        self.fields = max(field_of) + 1
        self.table = nn.Embedding(codes, width, sparse=codes > SPARSE)
        nn.init.normal_(self.table.weight, std=std)
        self.field_of: Tensor
        self.register_buffer("field_of", torch.tensor(field_of, device="cpu"), persistent=False)

    def forward(self, codes: Tensor, weights: Tensor) -> Tensor:
        """(B, S), (B, S) -> (B, F, D)."""
        return self._summed(codes, weights, self.field_of, self.fields)

    def of_items(self, codes: Tensor, weights: Tensor, fields: int) -> Tensor:
        """Return (B, I * D) vectors of items from the slots of their I fields alone."""
        item_slots = self.field_of[: codes.shape[1]]
        return self._summed(codes, weights, item_slots, fields).flatten(1)

    def _summed(self, codes: Tensor, weights: Tensor, field_of: Tensor, fields: int) -> Tensor:
        slots = self.table(codes) * weights[..., None]  # B, S, D
        if slots.shape[1] == fields:  # one slot a field: nothing to sum
            return slots
        vectors = slots.new_zeros(len(codes), fields, slots.shape[-1])
        return vectors.index_add_(1, field_of, slots)


class ItemSlots(nn.Module):
    """The slots of every item, so that a history is read with the candidate's own fields."""

    codes: Tensor
    weights: Tensor

    def __init__(self, layout: FieldLayout) -> None:
        super().__init__()
        self.fields = layout.item_fields
        codes = torch.tensor(layout.item_codes, device="cpu")
        weights = torch.tensor(layout.item_weights, device="cpu")
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, rows: Tensor, vectors: FieldVectors) -> Tensor:
        """Return (..., I * D) vectors of item rows (...) from a table of vectors."""
        distinct, positions = self.distinct(rows, vectors)
        return distinct[positions]

    def distinct(self, rows: Tensor, vectors: FieldVectors) -> tuple[Tensor, Tensor]:
        """Return the vectors (n, I * D) of the distinct items among rows, and each row's of them.

        So each item is looked up once, however often it occurs.
        """
        items, positions = rows.unique(return_inverse=True)
        return vectors.of_items(self.codes[items], self.weights[items], self.fields), positions


class LinearFields(nn.Module):
    """Logistic regression on one-hot fields: a coefficient per code, summed."""

    def __init__(self, layout: FieldLayout) -> None:
        super().__init__()
        self.intercept = nn.Parameter(torch.zeros(()))
        self.coefficients = FieldVectors(layout.codes, 1, layout.field_of, 0.0)

    def forward(self, batch: FieldBatch) -> tuple[Tensor, Tensor]:
        """Return (B,) logits, and the penalty ().

        The penalty is the mean over examples of the squares of the coefficients used.
        """
        terms = self.coefficients(batch.codes, batch.weights)[..., 0]  # B, F
        return self.intercept + terms.sum(dim=1), terms.square().sum(dim=1).mean()


class CrossedFields(nn.Module):
    """LinearFields plus the inner product of the vectors of every two fields."""

    def __init__(self, layout: FieldLayout, width: int, std: float) -> None:
        super().__init__()
        self.linear = LinearFields(layout)
        self.vectors = FieldVectors(layout.codes, width, layout.field_of, std)

    def forward(self, batch: FieldBatch) -> tuple[Tensor, Tensor]:
        """Return (B,) logits, and the penalty ()."""
        logits, penalty = self.linear(batch)
        vectors = self.vectors(batch.codes, batch.weights)  # B, F, D
        return logits + sum_of_products(vectors), penalty + penalty_of(vectors)


class FieldNet(nn.Module):
    """A tower over the vectors of all fields; a method with a net of its own derives from it.

    Override `inputs` to add to what the tower reads, or `hidden` to replace the tower.
    """

    def __init__(
        self,
        layout: FieldLayout,
        width: int,
        sizes: Sequence[int],
        extra: int = 0,
        activation: Activation = "relu",
        dropout: float = 0.0,
        std: float = 0.01,
        outputs: int = 1,
    ) -> None:
        """Make the net; `extra` is the width of what `inputs` adds to the fields.

        `sizes` are the widths of the tower's layers, none for no tower; `outputs` is the number of
        logits per example.
        """
        super().__init__()
        self.outputs = outputs
        self.intercept = nn.Parameter(torch.zeros(() if outputs == 1 else outputs))
        self.vectors = FieldVectors(layout.codes, width, layout.field_of, std)
        self.item_slots = ItemSlots(layout)
        widths = [layout.fields * width + extra, *sizes]
        self.tower = Tower(widths, activation, dropout)
        self.head = nn.Linear(widths[-1], outputs, bias=False)

    def candidates(self, fields: Tensor) -> Tensor:
        """Return the candidates' own fields (B, I * D) of all fields (B, F, D)."""
        return fields[:, : self.item_slots.fields].flatten(1)

    def inputs(self, batch: FieldBatch, fields: Tensor) -> Tensor:
        """Return what the tower reads, (B, F * D + extra); `fields` are (B, F, D)."""
        return fields.flatten(1)

    def hidden(self, batch: FieldBatch, fields: Tensor) -> Tensor:
        """Return the last hidden layer, (B, sizes[-1])."""
        hidden: Tensor = self.tower(self.inputs(batch, fields))
        return hidden

    def hidden_of(self, batch: FieldBatch) -> Tensor:
        """Return the last hidden layer of examples, (B, sizes[-1])."""
        return self.hidden(batch, self.vectors(batch.codes, batch.weights))

    def forward(self, batch: FieldBatch) -> tuple[Tensor, Tensor]:
        """Return (B,) or (B, outputs) logits, and the penalty ()."""
        fields = self.vectors(batch.codes, batch.weights)
        logits = self.head(self.hidden(batch, fields)) + self.intercept
        return logits[:, 0] if self.outputs == 1 else logits, penalty_of(fields)


def sum_of_products(vectors: Tensor) -> Tensor:
    """Return (B,) the sum of the inner products of every two of the vectors (B, F, D).

    As (square of the sum - sum of the squares) / 2.
    """
    squares = vectors.square().sum(dim=1)
    return (vectors.sum(dim=1).square() - squares).sum(dim=1) / 2


def penalty_of(vectors: Tensor) -> Tensor:
    """Return (): the mean over examples of the squares of their vectors (B, F, D)."""
    return vectors.square().sum(dim=(1, 2)).mean()

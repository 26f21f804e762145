"""Nets over fields: an example is a row of slots, each with a code and a weight, and each slot
belongs to a field.

Shapes: B examples, S slots, F fields, V codes of all fields together, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SPARSE = 200_000  # codes from which on a step moves only those of its batch


class FieldVectors(nn.Module):
    """A vector for every code; that of a field is the weighted sum over its slots."""

    def __init__(self, codes: int, width: int, field_of: Sequence[int], std: float) -> None:
        """`field_of` (S,): the field of each slot, numbered from 0."""
        super().__init__()
        self.fields = max(field_of) + 1
        self.table = nn.Embedding(codes, width, sparse=codes > SPARSE)
        nn.init.normal_(self.table.weight, std=std)
        self.field_of: Tensor
        self.register_buffer("field_of", torch.tensor(field_of, device="cpu"), persistent=False)

    def forward(self, codes: Tensor, weights: Tensor) -> Tensor:
        """(B, S), (B, S) -> (B, F, D)."""
        slots = self.table(codes) * weights[..., None]  # B, S, D
        return slots.new_zeros(len(codes), self.fields, slots.shape[-1]).index_add_(
            1, self.field_of, slots
        )


class LinearFields(nn.Module):
    """A number for every code, added up: logistic regression on one-hot fields."""

    def __init__(self, codes: int, field_of: Sequence[int]) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.numbers = FieldVectors(codes, 1, field_of, 0.0)

    def forward(self, codes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S), (B, S) -> (B,) logits, and () the mean over examples of what to hold small: the
        squares of the numbers used.
        """
        numbers = self.numbers(codes, weights)[..., 0]  # B, F
        return self.shift + numbers.sum(dim=1), numbers.square().sum(dim=1).mean()


class CrossedFields(nn.Module):
    """LinearFields, and the inner product of the vectors of every two fields, as (square of the sum
    - sum of the squares) / 2.
    """

    def __init__(self, codes: int, width: int, field_of: Sequence[int], std: float) -> None:
        super().__init__()
        self.linear = LinearFields(codes, field_of)
        self.vectors = FieldVectors(codes, width, field_of, std)

    def forward(self, codes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        logits, size = self.linear(codes, weights)
        vectors = self.vectors(codes, weights)  # B, F, D
        squares = vectors.square()
        crossed = (vectors.sum(dim=1).square() - squares.sum(dim=1)).sum(dim=1) / 2
        return logits + crossed, size + squares.sum(dim=(1, 2)).mean()

"""Nets over fields: an example is a row of slots, each with a code and a weight.

Each slot belongs to a field. Shapes: B examples, S slots, F fields, V codes of all fields, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SPARSE = 200_000  # number of codes from which a step updates only those of its batch


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
        slots = self.table(codes) * weights[..., None]  # B, S, D
        fields = slots.new_zeros(len(codes), self.fields, slots.shape[-1])
        return fields.index_add_(1, self.field_of, slots)


class LinearFields(nn.Module):
    """Logistic regression on one-hot fields: a coefficient per code, summed."""

    def __init__(self, codes: int, field_of: Sequence[int]) -> None:
        super().__init__()
        self.intercept = nn.Parameter(torch.zeros(()))
        self.coefficients = FieldVectors(codes, 1, field_of, 0.0)

    def forward(self, codes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S), (B, S) -> (B,) logits, and the penalty ().

        The penalty is the mean over examples of the squares of the coefficients used.
        """
        terms = self.coefficients(codes, weights)[..., 0]  # B, F
        return self.intercept + terms.sum(dim=1), terms.square().sum(dim=1).mean()


class CrossedFields(nn.Module):
    """LinearFields plus the inner product of the vectors of every two fields.

    The products are summed as (square of the sum - sum of the squares) / 2.
    """

    def __init__(self, codes: int, width: int, field_of: Sequence[int], std: float) -> None:
        super().__init__()
        self.linear = LinearFields(codes, field_of)
        self.vectors = FieldVectors(codes, width, field_of, std)

    def forward(self, codes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S), (B, S) -> (B,) logits, and the penalty ()."""
        logits, penalty = self.linear(codes, weights)
        vectors = self.vectors(codes, weights)  # B, F, D
        squares = vectors.square()
        products = (vectors.sum(dim=1).square() - squares.sum(dim=1)).sum(dim=1) / 2
        return logits + products, penalty + squares.sum(dim=(1, 2)).mean()

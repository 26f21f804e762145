"""A net for too small, fits and too large, from customer, product and earlier reviews.

Shapes: B examples, H histories of at most T behaviours, F fields (I of the item), D width of a
field's vector, S width of a side, R reviews of an example, E width of a review.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tailor.nn.fields import FieldBatch, FieldLayout, FieldNet
from tailor.nn.towers import ResidualTower, Tower

OUTCOMES = 3


class FitOutcomeNet(FieldNet):
    """Two towers, of customer and product, and reviews that the customer attends to."""

    def __init__(
        self,
        layout: FieldLayout,
        width: int,
        side: int,
        sizes: Sequence[int],
        dropout: float,
        review_vectors: np.ndarray,
        bounds: tuple[float, float],
    ) -> None:
        """Make the net; `review_vectors` (N, E) are frozen, `bounds` cut values to outcomes."""
        super().__init__(layout, width, sizes, outputs=OUTCOMES)
        self.bounds = bounds
        item_width = layout.item_fields * width
        customer_width = (layout.fields - layout.item_fields) * width
        self.outcomes = nn.Embedding(OUTCOMES + 1, width)  # the last one: not known
        self.past = nn.Sequential(nn.Linear(item_width + width, side), nn.ReLU())
        self.customer = ResidualTower(customer_width + side, side, dropout=dropout)
        self.product = ResidualTower(item_width, side, dropout=dropout)
        self.reviews = ReviewAttention(review_vectors, side)
        self.tower = Tower([5 * side, *sizes], dropout=dropout)

    def hidden(self, batch: FieldBatch, fields: Tensor) -> Tensor:
        """Return the last hidden layer, (B, sizes[-1])."""
        customer = self.customers(batch, fields)
        product = self.product(self.candidates(fields))
        weights = self.reviews(customer, batch.attached)
        parts = [
            customer,
            product,
            (customer - product).abs(),
            customer * product,
            self.reviews.pooled(weights, batch.attached),
        ]
        hidden: Tensor = self.tower(torch.cat(parts, dim=1))
        return hidden

    def customers(self, batch: FieldBatch, fields: Tensor) -> Tensor:
        """Return (B, S) customers, from their fields and what fitted before."""
        behaviours = self.item_slots(batch.behaviours, self.vectors)  # H, T, I * D
        outcomes = self.outcomes(outcome_codes(batch.values, self.bounds))
        past = self.past(torch.cat([behaviours, outcomes], dim=2)) * batch.is_real[..., None]
        counts = batch.is_real.sum(dim=1).clamp(min=1)[:, None]
        pooled = batch.of_examples(past.sum(dim=1) / counts)  # B, S
        own_fields = fields[:, self.item_slots.fields :].flatten(1)
        customers: Tensor = self.customer(torch.cat([own_fields, pooled], dim=1))
        return customers

    def attention_of(self, batch: FieldBatch) -> Tensor:
        """Return the share (B, R) that each attached review has; 0 where there is none."""
        fields = self.vectors(batch.codes, batch.weights)
        shares: Tensor = self.reviews(self.customers(batch, fields), batch.attached)
        return shares


class ReviewAttention(nn.Module):
    """Shares of reviews for a customer, and their mean by these shares."""

    vectors: Tensor

    def __init__(self, vectors: np.ndarray, side: int) -> None:
        """Make attention over frozen vectors (N, E)."""
        super().__init__()
        none = np.zeros((1, vectors.shape[1]), np.float32)
        table = torch.tensor(np.concatenate([vectors, none]), device="cpu")  # the last: no review
        self.register_buffer("vectors", table, persistent=False)
        self.query = nn.Linear(side, side, bias=False)
        self.key = nn.Linear(vectors.shape[1], side, bias=False)
        self.value = nn.Linear(vectors.shape[1], side, bias=False)

    def forward(self, customers: Tensor, rows: Tensor) -> Tensor:
        """(B, S), (B, R) -> (B, R) shares with sum 1, or all 0 where there is no review."""
        is_real = rows >= 0
        keys = self.key(self.vectors[rows])  # B, R, S
        scores = (keys @ self.query(customers)[:, :, None])[..., 0] / keys.shape[2] ** 0.5
        shares = scores.masked_fill(~is_real, torch.finfo(scores.dtype).min).softmax(dim=1)
        return shares * is_real

    def pooled(self, shares: Tensor, rows: Tensor) -> Tensor:
        """(B, R), (B, R) -> (B, S)."""
        pooled: Tensor = self.value((shares[:, None, :] @ self.vectors[rows])[:, 0])
        return pooled


def outcome_codes(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return codes of values: 0 below the bounds, 1 between, 2 above, 3 for NaN."""
    codes = (values > bounds[0]).long() + (values > bounds[1]).long()
    return torch.where(values.isnan(), OUTCOMES, codes)

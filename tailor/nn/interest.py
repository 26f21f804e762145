"""Target attention: how much each behaviour of a history counts for a candidate.

Shapes: B candidates, H histories of at most T behaviours, D width of an item.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from tailor.nn.fields import FieldBatch
from tailor.nn.towers import Activation, Tower, activation_layer

CACHED_PAIRS = 4_096  # pairs of candidate and behaviour whose layers stay in the cache
AttentionKind = Literal["mean", "unit", "dot", "relu"]


class ActivationUnit(nn.Module):
    """The attention of DIN: a small tower over candidate, behaviour, difference and product.

    The first layer is a sum of what candidate, behaviour and product give. So the behaviours of a
    history are read once for all of its candidates, and only the product is made for every pair.
    """

    def __init__(self, width: int, sizes: tuple[int, ...], activation: Activation) -> None:
        """Make the unit for items of `width`; `sizes` are the widths of its layers."""
        super().__init__()
        first = sizes[0]
        self.of_candidate = nn.Linear(width, first)
        self.of_behaviour = nn.Linear(width, first, bias=False)
        self.of_difference = nn.Linear(width, first, bias=False)
        self.of_product = nn.Linear(width, first, bias=False)
        self.tower = nn.Sequential(
            activation_layer(activation, first), *Tower(sizes, activation).layers
        )
        self.head = nn.Linear(sizes[-1], 1)

    def forward(self, candidates: Tensor, behaviours: Tensor, batch: FieldBatch) -> Tensor:
        """(B, D), (H, T, D) -> (B, T) weights, not normalised; 0 at padding.

        Padding stays out of the tower, so out of the moments of its activation too.
        """
        if len(behaviours) == 1:
            return self._of_one_history(candidates, behaviours[0], batch.is_real[0])
        query_part, key_part = self._parts(candidates, behaviours)
        # (q * k) W = k (q * W): one product for each pair, without a copy of q for each behaviour
        scaled = candidates[:, None, :] * self.of_product.weight  # B, first, D
        product = batch.of_examples(behaviours) @ scaled.transpose(1, 2)  # B, T, first
        hidden = query_part[:, None] + batch.of_examples(key_part) + product
        is_real = batch.of_examples(batch.is_real)
        weights = hidden.new_zeros(is_real.shape)
        weights[is_real] = self.head(self.tower(hidden[is_real]))[:, 0]
        return weights

    def _of_one_history(self, candidates: Tensor, behaviours: Tensor, is_real: Tensor) -> Tensor:
        """(B, D), (T, D), (T,) -> (B, T): the same for many candidates of one query.

        The products of all pairs are one product of two matrices.
        """
        real = behaviours[is_real]  # R, D
        size = max(1, CACHED_PAIRS // max(len(real), 1))
        parts = torch.cat([self._of_all(part, real) for part in candidates.split(size)])
        weights = parts.new_zeros(len(candidates), len(is_real))
        weights[:, is_real] = parts
        return weights

    def _of_all(self, candidates: Tensor, behaviours: Tensor) -> Tensor:
        """(C, D), (R, D) -> (C, R) weights of every behaviour for every candidate."""
        query_part, key_part = self._parts(candidates, behaviours)
        scaled = candidates[:, None, :] * self.of_product.weight  # C, first, D
        product = behaviours @ scaled.flatten(0, 1).T  # R, C * first
        hidden = product.view(len(behaviours), *query_part.shape)
        hidden = hidden.add_(query_part).add_(key_part[:, None])
        return self.head(self.tower(hidden.flatten(0, 1))).view(hidden.shape[:2]).T

    def _parts(self, candidates: Tensor, behaviours: Tensor) -> tuple[Tensor, Tensor]:
        """Return what candidates and behaviours give to the first layer, but for the product."""
        difference = self.of_difference.weight
        query_part = self.of_candidate(candidates) + candidates @ difference.T
        return query_part, self.of_behaviour(behaviours) - behaviours @ difference.T


class TargetAttention(nn.Module):
    """Weights of behaviours for a candidate, and the interest that they sum up to.

    - "mean": every behaviour counts the same, whatever the candidate;
    - "unit": the activation unit of DIN;
    - "dot": the scaled inner product;
    - "relu": its positive part, divided by the number of behaviours; most weights are 0.

    With `normalise`, "unit" and "dot" are shares with sum 1 (a softmax); without, plain numbers.
    """

    def __init__(
        self,
        width: int,
        kind: AttentionKind = "unit",
        sizes: tuple[int, ...] = (36,),
        activation: Activation = "dice",
        normalise: bool = False,
        top: int | None = None,
    ) -> None:
        """Make attention over items of `width`; `top` keeps only so many behaviours."""
        super().__init__()
        self.kind = kind
        self.normalise = normalise
        self.top = top
        self.unit = ActivationUnit(width, sizes, activation) if kind == "unit" else None

    def forward(
        self,
        candidates: Tensor,
        behaviours: Tensor,
        batch: FieldBatch,
        bias: Tensor | None = None,
    ) -> Tensor:
        """(B, D), (H, T, D) -> (B, T) weights, 0 at padding.

        `bias` (B, T) is added to "unit" and "dot" before anything is left out or normalised.
        """
        is_real = batch.of_examples(batch.is_real)
        counts = is_real.sum(dim=1, keepdim=True).clamp(min=1)
        if self.kind == "mean":
            return is_real / counts
        scores = self._scores(candidates, behaviours, batch)
        if bias is not None:
            scores = scores + bias
        if self.kind == "relu":
            return scores.relu() * is_real / counts
        if self.top is not None and self.top < scores.shape[1]:
            hidden = scores.masked_fill(~is_real, -torch.inf)
            best = hidden.topk(self.top, dim=1).indices
            is_real = is_real & torch.zeros_like(is_real).scatter_(1, best, True)
        if not self.normalise:
            return scores * is_real
        shares = scores.masked_fill(~is_real, torch.finfo(scores.dtype).min).softmax(dim=1)
        return shares * is_real

    def _scores(self, candidates: Tensor, behaviours: Tensor, batch: FieldBatch) -> Tensor:
        if self.unit is not None:
            scores: Tensor = self.unit(candidates, behaviours, batch)
            return scores
        products = batch.of_examples(behaviours) @ candidates[:, :, None]  # B, T, 1
        return products[..., 0] / candidates.shape[1] ** 0.5


def pooled(weights: Tensor, behaviours: Tensor, batch: FieldBatch) -> Tensor:
    """Return (B, D) sums of behaviours (H, T, D) by weights (B, T)."""
    if len(behaviours) == 1:
        return weights @ behaviours[0]
    return (weights[:, None, :] @ batch.of_examples(behaviours))[:, 0]

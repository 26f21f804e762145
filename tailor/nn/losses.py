"""Losses as plain objects: settings in the constructor, tensors in the call.

Each returns one number, the mean over positives. Shapes: M positions that predict, D width,
N items, K negatives. States and item vectors are compared by inner product; normalise both and
divide by a temperature for cosines. All raise ValueError for settings out of range.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

# a logit that adds nothing; minus infinity would make a row without negatives undefined
EXCLUDED = -1e30
# rows of a block of logits: with 2,048 negatives in bfloat16, half of a core's second-level cache
ROWS = 256


@dataclass(frozen=True)
class FullSoftmax:
    """Cross-entropy over the whole catalogue, -log softmax(states @ items.T)[target].

    Computed a block of positions at a time: memory is ROWS * N numbers, whatever M; work is that of
    three products of (M, D) with (D, N).
    """

    def __call__(
        self, states: Tensor, items: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss of `states` (M, D) with `targets` (M,), rows of `items` (N, D).

        `weights` (M,) multiply the losses of the positions before their mean.
        """
        positive = (states.float() * items[targets].float()).sum(dim=-1)
        rows = torch.arange(len(targets), device=targets.device)
        return _softmax_loss(positive, states, items, rows, targets, weights=weights)


@dataclass(frozen=True)
class SampledSoftmax:
    """Cross-entropy over the target and K negatives shared by a batch (Jean et al. 2015).

    Negatives are drawn uniformly and without replacement out of N - 1, so each represents
    (N - 1) / K items: `log((N - 1) / K)` is added to its logit. A negative that is a position's own
    target is left out for that position, or, with `same`, one that cannot be told from it. With
    K = N - 1 this is `FullSoftmax`.
    """

    def __call__(
        self,
        states: Tensor,
        positive: Tensor,
        negative: Tensor,
        targets: Tensor,
        drawn: Tensor,
        items: int,
        same: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of `states` (M, D) with their `positive` (M, D) and `negative` (K, D).

        `targets` (M,) and `drawn` (K,) are the rows of positives and negatives, `drawn` ascending;
        `items` is N; `same` (N,) holds equal numbers for rows that cannot be told apart; `weights`
        (M,) multiply the losses of the positions before their mean.
        """
        positive_logits = (states.float() * positive.float()).sum(dim=-1)
        if same is None:
            rows, columns = find_clashes(targets, drawn)
        else:
            rows, columns = (same[targets][:, None] == same[drawn]).nonzero(as_tuple=True)
        log_weight = math.log(max(items - 1, 1) / max(len(drawn), 1))
        return _softmax_loss(positive_logits, states, negative, rows, columns, log_weight, weights)


@dataclass(frozen=True)
class InBatchSoftmax:
    """Cross-entropy over the batch's targets, corrected by popularity (Yi et al. 2019).

    log(popularity) is subtracted from each logit, since popular items are more often among the
    targets and would be pushed down for it. Hard negatives per position may be added; they are
    corrected as if they were as popular as the mean target.
    """

    def __call__(
        self,
        states: Tensor,
        positive: Tensor,
        targets: Tensor,
        log_share: Tensor,
        hard: Tensor | None = None,
        real: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of `states` (M, D) with their `positive` (M, D).

        `targets` (M,) are rows; `log_share` (M,) is the log of each target's share of all events;
        `hard` (M, H, D) are hard negatives, of which those in the mask `real` (M, H) count.
        """
        logits = (states @ positive.T).float() - log_share
        same = targets[:, None] == targets
        logits = logits.masked_fill(_off_diagonal(same), float("-inf"))
        if hard is not None and real is not None:
            hard_logits = (hard @ states[:, :, None])[:, :, 0].float() - log_share.mean()
            logits = torch.cat([logits, hard_logits.masked_fill(~real, float("-inf"))], dim=1)
        return cross_entropy(logits, torch.arange(len(targets), device=logits.device))


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """-log sigmoid(s+) - mean over negatives of log(1 - sigmoid(s-)) (Kang and McAuley 2018)."""

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss of scores: `positive` (M,), `negative` (M, K)."""
        return (softplus(-positive) + softplus(negative).mean(dim=-1)).mean()


@dataclass(frozen=True)
class GBCE:
    """Generalised binary cross-entropy (Petrov and Macdonald 2023, "gSASRec").

    sigmoid(s+) is taken to the power beta, which undoes the overconfidence of sampling.
    beta = a (t (1 - 1/a) + 1/a) with a = K / (N - 1) the share of items drawn; t = 0 is the plain
    loss, t = 1 is fully calibrated.
    """

    t: float = 0.75
    """Degree of calibration, from 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.t <= 1:
            raise ValueError(f"t is {self.t}: it must be from 0 to 1")

    def __call__(self, positive: Tensor, negative: Tensor, items: int) -> Tensor:
        """Return the loss of scores: `positive` (M,), `negative` (M, K); `items` is N."""
        share = negative.shape[-1] / max(items - 1, 1)
        beta = share * (self.t * (1 - 1 / share) + 1 / share)
        return (beta * softplus(-positive) + softplus(negative).sum(dim=-1)).mean()


@dataclass(frozen=True)
class BPR:
    """-log sigmoid(s+ - s-), the mean over negatives (Rendle et al. 2009)."""

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss of scores: `positive` (M,), `negative` (M, K)."""
        return softplus(negative - positive[:, None]).mean()


@dataclass(frozen=True)
class InfoNCE:
    """Cross-entropy of each row with its partner against all rows (van den Oord et al. 2018).

    Rows are compared by cosine over a temperature. Pairs that `same` marks are no negatives, such
    as two views with one target.
    """

    temperature: float = 0.1
    """Divisor of the cosines, above 0."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: it must be above 0")

    def __call__(self, left: Tensor, right: Tensor, same: Tensor | None = None) -> Tensor:
        """Return the loss of `left`, `right` (M, D), whose rows i are partners; `same` (M, M)."""
        cosines = normalize(left, dim=-1) @ normalize(right, dim=-1).T
        logits = cosines.float() / self.temperature
        if same is not None:
            logits = logits.masked_fill(_off_diagonal(same), float("-inf"))
        return cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def find_clashes(targets: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the pairs where a target (M,) is a drawn negative (K,).

    `drawn` is ascending and holds each item once.
    """
    if not len(drawn):
        empty = torch.empty(0, dtype=torch.long, device=targets.device)
        return empty, empty
    column = torch.searchsorted(drawn, targets).clamp(max=len(drawn) - 1)
    row = (drawn[column] == targets).nonzero(as_tuple=True)[0]
    return row, column[row]


def _off_diagonal(mask: Tensor) -> Tensor:
    """Return a square mask (M, M) without its diagonal."""
    return mask & ~torch.eye(len(mask), dtype=torch.bool, device=mask.device)


def _softmax_loss(
    positive: Tensor,
    states: Tensor,
    negatives: Tensor,
    rows: Tensor,
    columns: Tensor,
    log_weight: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over m of log(exp(p_m) + w * sum_k exp(states_m . negatives_k)) - p_m.

    `positive` (M,) are the logits p of the targets; the pairs (rows, columns) are left out of the
    sum; `log_weight` is log(w). `weights` (M,) multiply the terms; they get no gradient.
    """
    if not len(negatives) or not len(states):
        return positive.sum() * 0
    loss: Tensor = _SoftmaxLoss.apply(
        positive, states, negatives, rows, columns, log_weight, weights
    )
    return loss


class _SoftmaxLoss(torch.autograd.Function):
    """Softmax loss that computes its gradients in the forward pass.

    Works on a block of logits at a time. Each logit is computed and exponentiated once, while its
    block is in the cache; the logits of all positions are never in memory together. Products run in
    autocast's number format, sums in float32. The log of a row's sum of exponentials is its largest
    logit minus the log of its largest softmax share, which saves a pass.
    """

    @staticmethod
    def forward(ctx, *arguments):  # type: ignore[no-untyped-def]
        positive, states, negatives, rows, columns, log_weight, weights = arguments
        device = states.device.type
        dtype = states.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        states = states.to(dtype)
        negatives = negatives.to(dtype)
        loss = torch.zeros((), device=states.device)
        positive_grad = torch.empty_like(positive)
        states_grad = torch.empty_like(states)
        negatives_grad = torch.zeros(negatives.shape, device=states.device)
        for start in range(0, len(states), ROWS):
            block = slice(start, start + ROWS)
            block_states, block_positive = states[block], positive[block]
            in_block = (rows >= start) & (rows < start + ROWS)
            logits = (block_states @ negatives.T).float()
            logits[rows[in_block] - start, columns[in_block]] = EXCLUDED
            share = logits.softmax(dim=1)
            negative_sum = logits.amax(dim=1) - share.amax(dim=1).log() + log_weight
            total = torch.logaddexp(negative_sum, block_positive)
            losses = total - block_positive
            # share of the negatives in the softmax: how far this position is from certain
            weight = (negative_sum - total).exp()[:, None]
            if weights is not None:
                losses = losses * weights[block]
                weight = weight * weights[block, None]
            loss += losses.sum()
            share = share.to(dtype)
            positive_grad[block] = -weight[:, 0]
            states_grad[block] = (share @ negatives) * weight
            negatives_grad += share.T @ (block_states * weight).to(dtype)
        ctx.save_for_backward(positive_grad, states_grad, negatives_grad)
        return loss / len(states)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        positive_grad, states_grad, negatives_grad = ctx.saved_tensors
        scale = gradient / len(positive_grad)
        gradients = (positive_grad * scale, states_grad * scale, negatives_grad * scale)
        return *gradients, None, None, None, None

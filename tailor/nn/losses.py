"""Losses as plain objects: settings in the constructor, tensors in the call, one number (the mean
over positives) out.

M places that predict, D width, N items, K negatives. Places' states and items' vectors are compared
by inner product; normalise both and divide by a temperature (`Cosine`) for angles. All raise
ValueError on settings out of range.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# a logit that adds nothing; minus infinity would make a row without others undefined
NOTHING = -1e30
# of a block of logits: with 2,048 negatives in bfloat16, half of a core's second-level cache
ROWS = 256


@dataclass(frozen=True)
class FullSoftmax:
    """Cross-entropy over the whole catalogue, -log softmax(states @ items.T)[target], a block of
    places at a time.

    Memory is ROWS * N numbers, whatever M; work is that of three products of (M, D) with (D, N).
    """

    def __call__(self, states: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        """`states` (M, D), `items` (N, D), `targets` (M,) rows of items."""
        own = (states.float() * items[targets].float()).sum(dim=-1)
        return _softmax_loss(
            own, states, items, torch.arange(len(targets), device=targets.device), targets
        )


@dataclass(frozen=True)
class SampledSoftmax:
    """Cross-entropy over the target and K negatives that all places of a batch share (Jean et al.
    2015).

    Drawn uniformly and without repetition out of N - 1, each negative stands for (N - 1) / K items:
    `log((N - 1) / K)` is added to its logit. A negative that is a place's own target is left out
    for that place, or, with `same`, one of another row that is the same to the eye. With K = N - 1
    this is `FullSoftmax`.
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
    ) -> Tensor:
        """`states`, `positive` (M, D), `negative` (K, D), `targets` (M,) and `drawn` (K,) rows,
        ascending; `items` is N; `same` (N,) numbers, alike for rows that are.
        """
        own = (states.float() * positive.float()).sum(dim=-1)
        rows, columns = (
            clashes(targets, drawn)
            if same is None
            else (same[targets][:, None] == same[drawn]).nonzero(as_tuple=True)
        )
        return _softmax_loss(
            own, states, negative, rows, columns, math.log(max(items - 1, 1) / max(len(drawn), 1))
        )


@dataclass(frozen=True)
class InBatchSoftmax:
    """Cross-entropy over the batch's own targets, each logit less log(popularity) (Yi et al. 2019,
    "Sampling-bias-corrected").

    Popular items stand among the targets more often; without the correction they would be pushed
    down for it. Hard negatives, each place's own, come beside them, as popular as a target is on
    average.
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
        """`states`, `positive` (M, D); `targets` (M,) rows; `log_share` (M,) log of each target's
        share of all events; `hard` (M, H, D), of which `real` (M, H) count.
        """
        logits = (states @ positive.T).float() - log_share
        same = targets[:, None] == targets
        logits = logits.masked_fill(
            same & ~torch.eye(len(same), dtype=torch.bool, device=same.device), float("-inf")
        )
        if hard is not None and real is not None:
            own = (hard @ states[:, :, None])[:, :, 0].float() - log_share.mean()
            logits = torch.cat([logits, own.masked_fill(~real, float("-inf"))], dim=1)
        return nn.functional.cross_entropy(logits, torch.arange(len(targets), device=logits.device))


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """-log sigmoid(s+) - mean over negatives of log(1 - sigmoid(s-)) (Kang and McAuley 2018,
    "SASRec").
    """

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Scores: `positive` (M,), `negative` (M, K)."""
        return (
            nn.functional.softplus(-positive) + nn.functional.softplus(negative).mean(dim=-1)
        ).mean()


@dataclass(frozen=True)
class GBCE:
    """Binary cross-entropy with sigmoid(s+) to the power beta (Petrov and Macdonald 2023,
    "gSASRec"), which undoes what sampling does to scores.

    beta = a (t (1 - 1/a) + 1/a) with a = K / (N - 1) the share of items drawn; t = 0 is plain, t =
    1 fully calibrated.
    """

    t: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.t <= 1:
            raise ValueError(f"t is {self.t}: it must be from 0 to 1")

    def __call__(self, positive: Tensor, negative: Tensor, items: int) -> Tensor:
        """Scores: `positive` (M,), `negative` (M, K); `items` is N."""
        drawn = negative.shape[-1] / max(items - 1, 1)
        beta = drawn * (self.t * (1 - 1 / drawn) + 1 / drawn)
        return (
            beta * nn.functional.softplus(-positive) + nn.functional.softplus(negative).sum(dim=-1)
        ).mean()


@dataclass(frozen=True)
class BPR:
    """-log sigmoid(s+ - s-), the mean over negatives (Rendle et al. 2009)."""

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Scores: `positive` (M,), `negative` (M, K)."""
        return nn.functional.softplus(negative - positive[:, None]).mean()


@dataclass(frozen=True)
class InfoNCE:
    """Cross-entropy of each row with its partner against all other rows, by cosine over a
    temperature (van den Oord et al. 2018).

    Pairs that `same` marks are not negatives: they are false ones, such as two views with one
    target.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: it must be above 0")

    def __call__(self, left: Tensor, right: Tensor, same: Tensor | None = None) -> Tensor:
        """`left`, `right` (M, D), row i belongs to row i; `same` (M, M) bool."""
        logits = (
            nn.functional.normalize(left, dim=-1) @ nn.functional.normalize(right, dim=-1).T
        ).float() / self.temperature
        if same is not None:
            logits = logits.masked_fill(
                same & ~torch.eye(len(same), dtype=torch.bool, device=same.device), float("-inf")
            )
        return nn.functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def clashes(targets: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pairs where target (M,) and negative (K,), ascending and each once,
    are the same item.
    """
    if not len(drawn):
        none = torch.empty(0, dtype=torch.long, device=targets.device)
        return none, none
    place = torch.searchsorted(drawn, targets).clamp(max=len(drawn) - 1)
    row = (drawn[place] == targets).nonzero(as_tuple=True)[0]
    return row, place[row]


def _softmax_loss(
    own: Tensor,
    states: Tensor,
    others: Tensor,
    rows: Tensor,
    columns: Tensor,
    log_weight: float = 0.0,
) -> Tensor:
    """Mean over m of log(exp(own_m) + weight * sum over k of exp(states_m . others_k)) - own_m,
    without the pairs (rows, columns).
    """
    if not len(others) or not len(states):
        return own.sum() * 0
    out: Tensor = _SoftmaxLoss.apply(own, states, others, rows, columns, log_weight)
    return out


class _SoftmaxLoss(torch.autograd.Function):
    """Makes its gradients in the forward pass, while a block of logits is in the cache: each logit
    is computed and exponentiated once.

    The logits of all places are never in memory together. Products run in autocast's number format,
    sums in float32. The log of a row's sum of exponentials is its largest logit less the log of its
    largest softmax share, which spares a pass.
    """

    @staticmethod
    def forward(ctx, own, states, others, rows, columns, log_weight):  # type: ignore[no-untyped-def]
        device = states.device.type
        kind = (
            torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        )
        states, others = states.to(kind), others.to(kind)
        loss = torch.zeros((), device=states.device)
        to_own, to_states = torch.empty_like(own), torch.empty_like(states)
        to_others = torch.zeros(others.shape, device=states.device)
        for start in range(0, len(states), ROWS):
            part, mine = states[start : start + ROWS], own[start : start + ROWS]
            here = (rows >= start) & (rows < start + ROWS)
            logits = (part @ others.T).float()
            logits[rows[here] - start, columns[here]] = NOTHING
            share = logits.softmax(dim=1)
            theirs = logits.amax(dim=1) - share.amax(dim=1).log() + log_weight
            both = torch.logaddexp(theirs, mine)
            loss += (both - mine).sum()
            # the others' part of the whole: how far this place is from certain
            weight = (theirs - both).exp()[:, None]
            share = share.to(kind)
            to_own[start : start + ROWS] = -weight[:, 0]
            to_states[start : start + ROWS] = (share @ others) * weight
            to_others += share.T @ (part * weight).to(kind)
        ctx.save_for_backward(to_own, to_states, to_others)
        return loss / len(states)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        to_own, to_states, to_others = ctx.saved_tensors
        scale = gradient / len(to_own)
        return to_own * scale, to_states * scale, to_others * scale, None, None, None

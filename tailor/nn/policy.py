"""Learn by rewards and preferences: pure functions of log-probabilities.

A policy answers from a closed set of labels, or with an order of documents. Where the set is closed
the expected reward is exact, and no sampling is needed. Shapes: B requests, L labels, G drawn
answers of one request, N documents, K places of an order.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

SMALL = 1e-6
NEVER = -1e9  # finite log-worth of what is never drawn: -inf has no slope


def expected_reward(logits: Tensor, rewards: Tensor) -> Tensor:
    """Return the mean over requests of the exact expected reward of a closed policy.

    `logits` and `rewards` are (B, L). To learn, minimise minus this.
    """
    return (logits.softmax(dim=-1) * rewards).sum(dim=-1).mean()


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of a closed policy from a reference, (B, L)."""
    log_probs = logits.log_softmax(dim=-1)
    difference = log_probs - reference.log_softmax(dim=-1)
    return (log_probs.exp() * difference).sum(dim=-1).mean()


def advantages(rewards: Tensor, scaled: bool = True) -> Tensor:
    """Return rewards (..., G) of drawn answers less their group's mean (GRPO, 2024).

    With `scaled` they are divided by the group's deviation; a group of equal rewards has zeros.
    """
    centred = rewards - rewards.mean(dim=-1, keepdim=True)
    if not scaled:
        return centred
    spread = centred.pow(2).mean(dim=-1, keepdim=True).sqrt()
    return torch.where(spread > SMALL, centred / (spread + SMALL), torch.zeros_like(centred))


def clipped(log_probs: Tensor, old: Tensor, advantage: Tensor, epsilon: float = 0.2) -> Tensor:
    """Return the loss of drawn answers whose probability ratio is clipped (PPO, 2017).

    All three are of one shape; `old` are the log-probabilities under the policy that drew them.
    """
    ratio = (log_probs - old.detach()).exp()
    bounded = ratio.clamp(1 - epsilon, 1 + epsilon)
    return -torch.minimum(ratio * advantage, bounded * advantage).mean()


def early_clipped(
    log_probs: Tensor,
    old: Tensor,
    advantage: Tensor,
    epsilon: float = 0.2,
    delta: float = 0.1,
) -> Tensor:
    """Return the loss of ECPO (OneRec report, 2025): `clipped`, bounded for bad answers too.

    Where the advantage is negative, the old probability is raised until the ratio is at most
    1 + epsilon + delta, so that one answer that has become likely cannot blow up the gradient.
    """
    highest = math.log(1 + epsilon + delta)
    raised = torch.maximum(log_probs.detach() - highest, old.detach())
    return clipped(log_probs, torch.where(advantage < 0, raised, old), advantage, epsilon)


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """Return the loss of direct preference optimisation (Rafailov et al. 2023).

    All are (B,) log-probabilities of whole answers.
    """
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -functional.logsigmoid(beta * margin).mean()


def softmax_dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """Return the loss of S-DPO (Chen et al. 2024): one chosen answer against several.

    `chosen` is (B,), `rejected` (B, G); with G = 1 it is `dpo`.
    """
    margin = (chosen - reference_chosen)[:, None] - (rejected - reference_rejected)
    return -functional.logsigmoid(-(-beta * margin).logsumexp(dim=1)).mean()


def group_weights(losses: Tensor, weights: Tensor, reference: Tensor, eta: float) -> Tensor:
    """Return the next weights (G,) of groups by group DRO (Sagawa et al. 2020), summing to 1.

    A group gains weight by its loss above `reference`, the loss that is reachable for it: so noise
    that nobody can learn gains none. All are (G,); `eta` is the step.
    """
    excess = (losses.detach() - reference).clamp_min(0)
    grown = weights * (eta * excess).exp()
    return grown / grown.sum()


def plackett_luce(scores: Tensor, orders: Tensor) -> Tensor:
    """Return the log-probability (...,) of orders under Plackett-Luce.

    `scores` (..., N) are log-worths, -inf for no document; `orders` (..., K) are the first K
    documents, best first. What is not in an order stands behind it.
    """
    picked = scores.gather(-1, orders)
    # the documents left at each place: all, less those before
    is_taken = torch.zeros_like(scores, dtype=torch.bool)
    total = torch.zeros_like(picked[..., 0])
    for position in range(orders.shape[-1]):
        left = scores.masked_fill(is_taken, -torch.inf)
        total = total + picked[..., position] - left.logsumexp(dim=-1)
        is_taken = is_taken.scatter(-1, orders[..., position : position + 1], True)
    return total


def place_log_probs(scores: Tensor, orders: Tensor) -> Tensor:
    """Return (..., K) the log-probability of each place of an order, after the places before it.

    Scores and orders are those of `plackett_luce`, which is their sum. The sums over what is left
    are made in one pass, which long lists of candidates need.
    """
    picked = scores.gather(-1, orders)
    # what is left at a place: what stands in no place, and what stands from this one on
    unpicked = scores.scatter(-1, orders, -torch.inf).clamp_min(NEVER)
    others = unpicked.logsumexp(dim=-1, keepdim=True)
    backwards = picked.clamp_min(NEVER).flip(-1)
    later = backwards.logcumsumexp(dim=-1).flip(-1)
    return picked - torch.logaddexp(others, later)


def draw_orders(scores: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Return (draws, ..., N) orders drawn from Plackett-Luce, best first (Gumbel's trick)."""
    uniform = torch.rand((draws, *scores.shape), generator=generator).clamp_min(1e-20)
    return (scores - (-uniform.log()).log()).argsort(dim=-1, descending=True)


def ranknet(scores: Tensor, gains: Tensor) -> Tensor:
    """Return the mean pairwise logistic loss (Burges et al. 2005) of lists (B, N).

    Every pair with different gains counts once; a gain of NaN is no document.
    """
    difference = scores[..., :, None] - scores[..., None, :]
    is_better = gains[..., :, None] > gains[..., None, :]
    losses = functional.softplus(-difference)[is_better]
    return losses.mean() if len(losses) else scores.sum() * 0


def margin_loss(scores: Tensor, gains: Tensor, margin: float = 1.0) -> Tensor:
    """Return the mean hinge loss of the pairs of different gains in lists (B, N).

    The better one must be ahead by `margin` times the difference of the gains: with ranks as gains
    the loss of BRIO (Liu et al. 2022). A gain of NaN is no document.
    """
    lead = scores[..., :, None] - scores[..., None, :]
    gap = gains[..., :, None] - gains[..., None, :]
    hinge = functional.relu(margin * gap - lead)
    is_better = gap > 0
    losses = hinge[is_better]
    if not len(losses):
        return scores.sum() * 0
    return losses.mean()

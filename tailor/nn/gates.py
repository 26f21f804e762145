"""Soft choices that harden: a cooled softmax, gates that are nearly 0 or 1, and a pull to both."""

import torch
from torch import Tensor

EPS = 1e-6  # distance of a probability from 0 and 1


def cooled_softmax(logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Return shares (..., K) of K choices; the lower the temperature, the nearer to one choice."""
    return (logits / temperature).softmax(dim=-1)


def gumbel_sigmoid(probabilities: Tensor, temperature: float, noise: Tensor | None) -> Tensor:
    """Return gates in (0, 1) that are open about as often as their probabilities.

    A binary Concrete variable (Maddison et al. 2017): the sigmoid of log-odds plus logistic noise,
    over the temperature. `noise` are uniform numbers of the same shape; None: no noise.
    """
    log_odds = _log_odds(probabilities)
    if noise is not None:
        log_odds = log_odds + _log_odds(noise)
    return (log_odds / temperature).sigmoid()


def polariser(probabilities: Tensor) -> Tensor:
    """Return (): the mean of p (1 - p), which is 0 where every p is 0 or 1."""
    return (probabilities * (1 - probabilities)).mean()


def imbalance(gates: Tensor) -> Tensor:
    """Return (): how unequal the mean shares of gates (B, E) are, from 0 to 1."""
    experts = gates.shape[1]
    return (experts * gates.mean(dim=0).square().sum() - 1) / (experts - 1)


def _log_odds(probabilities: Tensor) -> Tensor:
    clipped = probabilities.float().clamp(EPS, 1 - EPS)  # in bfloat16, 1 - EPS is 1
    return torch.log(clipped) - torch.log1p(-clipped)

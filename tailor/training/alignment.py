"""Teach a fitted generative net by rewards or preferences: one loop for all objectives.

The net draws several answers to each prompt, a reward judges them, and an objective of `nn.policy`
moves the net towards the better ones. A frozen copy of the net, the reference, says how far it has
moved. Shapes: B prompts, G answers drawn for each.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.run import Run
from tailor.errors import DataError
from tailor.nn.fitting import Recipe, fit_net
from tailor.nn.policy import advantages, clipped, dpo, early_clipped, softmax_dpo

Objective = Literal["grpo", "ecpo", "dpo", "s-dpo"]
REJECTED = 3  # answers that S-DPO holds against the best


class Policy(Protocol):
    """A net that answers prompts in more than one way."""

    @property
    def net(self) -> nn.Module:
        """Return the net that learns."""

    def frozen(self) -> Self:
        """Return a copy whose net is a frozen copy of the present one."""

    def prompts(self, rng: np.random.Generator) -> Any:
        """Return a batch of B prompts."""

    def draw(self, prompts: Any, draws: int, generator: torch.Generator) -> Tensor:
        """Return (B, G, ...) answers drawn for prompts."""

    def log_probs(self, prompts: Any, answers: Tensor) -> Tensor:
        """Return (B, G) the log-probabilities of answers."""

    def rewards(self, prompts: Any, answers: Tensor) -> np.ndarray:
        """Return (B, G) how good answers are; higher is better."""

    def legality(self, answers: Tensor) -> float:
        """Return the share of answers that exist."""

    def kept_loss(self, rng: np.random.Generator) -> Tensor:
        """Return the loss on a batch of what the net was fitted on."""


@dataclass(frozen=True)
class Alignment:
    """Settings of an alignment."""

    objective: Objective = "grpo"
    """How the net learns: "grpo", "ecpo" (bounded for bad answers), "dpo" (best against worst) or
    "s-dpo" (best against the three worst)."""
    rounds: int = 10
    """Times that answers are drawn anew."""
    batches: int = 8
    """Batches of prompts per round."""
    updates: int = 2
    """Steps per batch; from the second one on the net differs from the one that drew."""
    draws: int = 16
    """Answers per prompt."""
    lr: float = 1e-4
    """Peak learning rate; decays linearly to 1 %."""
    keep: float = 0.3
    """Weight of the loss on what was learned before, which keeps accuracy."""
    beta: float = 0.1
    """Sharpness of preferences, for "dpo" and "s-dpo"."""
    epsilon: float = 0.2
    """How far a probability ratio may go before it is clipped, for "grpo" and "ecpo"."""
    delta: float = 0.1
    """How much further it may go for bad answers, for "ecpo"."""
    refreshes: bool = False
    """Whether the reference is the net of the round before, instead of the first one."""

    def __post_init__(self) -> None:
        minima = {"rounds": 1, "batches": 1, "updates": 1, "draws": 2, "keep": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if self.objective == "s-dpo" and self.draws <= REJECTED:
            raise DataError(f'draws is {self.draws}: "s-dpo" needs more than {REJECTED}')


@dataclass
class Curves:
    """Figures of an alignment, round by round."""

    reward: list[float] = field(default_factory=list)
    """Mean reward of the answers drawn."""
    legality: list[float] = field(default_factory=list)
    """Share of the answers drawn that exist."""
    entropy: list[float] = field(default_factory=list)
    """Mean of minus the log-probability of the answers drawn, in nats."""
    divergence: list[float] = field(default_factory=list)
    """Estimated Kullback-Leibler divergence from the reference, in nats."""
    best: list[float] = field(default_factory=list)
    """Mean log-probability of each prompt's best answer."""
    worst: list[float] = field(default_factory=list)
    """Mean log-probability of each prompt's worst answer."""
    decided: list[float] = field(default_factory=list)
    """Share of prompts whose answers differ in reward; the others teach nothing."""
    watched: list[float] = field(default_factory=list)
    """Value of `watch`, such as an accuracy on validation data."""

    def to_dict(self) -> dict[str, list[float]]:
        """Return the curves by name, without empty ones."""
        return {name: values for name, values in self.__dict__.items() if values}


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A batch of prompts with answers, as they were drawn."""

    prompts: Any
    answers: Tensor
    """(B, G, ...) answers."""
    log_probs: Tensor
    """(B, G) their log-probabilities when they were drawn."""
    reference: Tensor
    """(B, G) their log-probabilities under the reference."""
    rewards: Tensor
    """(B, G) their rewards."""


def align(
    policy: Policy,
    settings: Alignment,
    run: Run,
    key: str,
    watch: Callable[[], float] | None = None,
) -> dict[str, Any]:
    """Teach `policy.net` in place, and return the report of training with its curves.

    `key` tells this training from any other, `watch` measures the net at the start of every round.
    After a restart from a checkpoint, answers are drawn anew and curves begin there. Raises
    DataError where all rewards of a round are equal.
    """
    curves = Curves()
    reference = policy.frozen()

    def batches(rng: np.random.Generator) -> Sequence[_Drawn]:
        nonlocal reference
        if settings.refreshes:
            reference = policy.frozen()
        policy.net.eval()
        drawn = [_draw(policy, reference, settings, rng) for _ in range(settings.batches)]
        _record(curves, drawn, policy)
        if watch is not None:
            curves.watched.append(round(watch(), 5))
        repeated = drawn * settings.updates
        return [repeated[i] for i in rng.permutation(len(repeated)).tolist()]

    def loss(batch: _Drawn, rng: np.random.Generator) -> Tensor:
        policy.net.eval()  # without dropout, so that a ratio of probabilities is of two policies
        total = objective_loss(policy, batch, settings)
        if settings.keep:
            total = total + settings.keep * policy.kept_loss(rng)
        return total

    recipe = Recipe(settings.rounds, settings.lr)
    report = fit_net(policy.net, batches, loss, run, recipe, None, key)
    policy.net.eval()
    return {**report, "curves": curves.to_dict()}


def objective_loss(policy: Policy, batch: _Drawn, settings: Alignment) -> Tensor:
    """Return the loss of one batch under the objective of the settings."""
    if settings.objective in ("grpo", "ecpo"):
        log_probs = policy.log_probs(batch.prompts, batch.answers)
        advantage = advantages(batch.rewards)
        if settings.objective == "grpo":
            return clipped(log_probs, batch.log_probs, advantage, settings.epsilon)
        return early_clipped(
            log_probs, batch.log_probs, advantage, settings.epsilon, settings.delta
        )
    count = 1 if settings.objective == "dpo" else REJECTED
    order = batch.rewards.argsort(dim=1, descending=True, stable=True)
    compared = torch.cat([order[:, :1], order[:, -count:]], dim=1)  # the best, then the worst
    rewards = batch.rewards.gather(1, compared)
    # only what is compared goes through the net again
    owners = torch.arange(len(compared), device=compared.device)[:, None]
    log_probs = policy.log_probs(batch.prompts, batch.answers[owners, compared])
    is_decided = rewards[:, 0] > rewards[:, 1]
    if not is_decided.any():
        return log_probs.sum() * 0
    compared_probs = log_probs[is_decided]
    reference = batch.reference.gather(1, compared)[is_decided]
    if settings.objective == "dpo":
        return dpo(
            compared_probs[:, 0],
            compared_probs[:, 1],
            reference[:, 0],
            reference[:, 1],
            settings.beta,
        )
    return softmax_dpo(
        compared_probs[:, 0],
        compared_probs[:, 1:],
        reference[:, 0],
        reference[:, 1:],
        settings.beta,
    )


@torch.no_grad()
def _draw(
    policy: Policy, reference: Policy, settings: Alignment, rng: np.random.Generator
) -> _Drawn:
    """Return a batch of prompts with drawn and judged answers."""
    prompts = policy.prompts(rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    answers = policy.draw(prompts, settings.draws, generator)
    log_probs = policy.log_probs(prompts, answers)
    rewards = torch.as_tensor(policy.rewards(prompts, answers), dtype=torch.float32)
    if not torch.isfinite(rewards).all():
        raise DataError("a reward is no finite number: a reward must be one for every answer")
    return _Drawn(
        prompts,
        answers,
        log_probs,
        reference.log_probs(prompts, answers),
        rewards.to(log_probs.device),
    )


def _record(curves: Curves, drawn: Sequence[_Drawn], policy: Policy) -> None:
    """Add the figures of one round. Raises DataError where no reward differs from another."""
    rewards = torch.cat([batch.rewards for batch in drawn])
    log_probs = torch.cat([batch.log_probs for batch in drawn])
    reference = torch.cat([batch.reference for batch in drawn])
    is_decided = rewards.amax(dim=1) > rewards.amin(dim=1)
    if not is_decided.any():
        raise DataError(
            f"all answers have the reward {float(rewards[0, 0]):g}, or equal ones per prompt: a"
            " reward must tell answers apart"
        )
    legal = [policy.legality(batch.answers) for batch in drawn]
    best = log_probs.gather(1, rewards.argmax(dim=1, keepdim=True))
    worst = log_probs.gather(1, rewards.argmin(dim=1, keepdim=True))
    figures = {
        "reward": rewards.mean(),
        "legality": torch.tensor(legal).mean(),
        "entropy": -log_probs.mean(),
        "divergence": (log_probs - reference).mean(),
        "best": best.mean(),
        "worst": worst.mean(),
        "decided": is_decided.float().mean(),
    }
    for name, value in figures.items():
        getattr(curves, name).append(round(value.item(), 5))


def frozen_copy(net: nn.Module) -> nn.Module:
    """Return a copy of a net that does not learn."""
    return copy.deepcopy(net).eval().requires_grad_(False)

"""A speller as a policy that rewards can teach: prompts, drawn codes and their items.

Shapes: B prompts, G codes drawn for each, L digits of a code.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from tailor.nn.decoding import draw
from tailor.training.alignment import frozen_copy
from tailor.training.sequences import TrainingData, Windows

if TYPE_CHECKING:
    from tailor.generative.speller import Speller


@dataclass(frozen=True, eq=False)
class Prompts:
    """Histories that are cut somewhere, and what came next."""

    users: np.ndarray
    """(B,) rows of the users in the data."""
    windows: Windows
    """The histories before each target."""
    targets: np.ndarray
    """(B,) rows of `items_` that came next."""


Reward = Callable[[Prompts, np.ndarray], np.ndarray]
"""From prompts and item rows (B, G), -1 for a code that is no item's, to rewards (B, G)."""


@dataclass(eq=False)
class SpellerPolicy:
    """A fitted speller as a policy."""

    method: "Speller"
    """The speller whose net learns."""
    training: TrainingData
    """Histories that prompts are cut from."""
    reward: Reward
    """How good items are."""
    batch: int = 64
    """Prompts of a batch."""
    closed: bool = True
    """Whether only codes that exist are drawn."""

    @property
    def net(self) -> Any:
        return self.method._net

    def frozen(self) -> Self:
        method = copy.copy(self.method)
        method._net = frozen_copy(self.net)
        return replace(self, method=method)

    def prompts(self, rng: np.random.Generator) -> Prompts:
        rows = self.training.rows
        able = np.flatnonzero(rows.lengths > 1)
        users = np.sort(rng.choice(able, min(self.batch, len(able)), replace=False))
        target = rng.integers(1, rows.lengths[users])
        length = np.minimum(target, self.method.length)
        starts = rows.offsets[:-1][users] + target - length
        times = self.training.times_ms
        windows = Windows(rows.values, starts, length, times, every_place=False)
        return Prompts(users, windows, rows.values[starts + length])

    def draw(self, prompts: Prompts, draws: int, generator: torch.Generator) -> Tensor:
        states = self._states(prompts)
        trie = self.net.trie.to(states.device)
        return draw(self.net, states, trie, draws, generator, self.closed)[0]

    def log_probs(self, prompts: Prompts, answers: Tensor) -> Tensor:
        states = self._states(prompts).repeat_interleave(answers.shape[1], dim=0)
        digits = answers.flatten(0, 1)
        if self.closed:
            items = self.net.trie.to(digits.device).items_of(digits)
            flat = self.net.item_log_probs(states, items)
        else:
            flat = self.net.log_probs(states, digits)
        return flat.unflatten(0, answers.shape[:2])

    def rewards(self, prompts: Prompts, answers: Tensor) -> np.ndarray:
        return self.reward(prompts, self.items_of(answers))

    def legality(self, answers: Tensor) -> float:
        return float((self.items_of(answers) >= 0).mean())

    def items_of(self, answers: Tensor) -> np.ndarray:
        """Return (B, G) the items of codes (B, G, L); -1 where none has the code."""
        trie = self.net.trie.to(answers.device)
        items = trie.items_of(answers.flatten(0, 1))
        return items.unflatten(0, answers.shape[:2]).cpu().numpy()

    def kept_loss(self, rng: np.random.Generator) -> Tensor:
        windows = replace(self.prompts(rng).windows, every_place=True)
        return self.method._loss(windows, self.training, rng)

    def _states(self, prompts: Prompts) -> Tensor:
        """Return the states (B, D) that answers are generated from."""
        rng = np.random.default_rng(0)  # prompts have one target each: nothing is drawn
        task = self.method._make_task(prompts.windows, rng)
        return self.method._task_states(task, self.training, rng)

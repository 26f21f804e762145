"""Play a recommender in a world that answers its lists, and refit it between rounds."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError


class World(Protocol):
    """A world that asks for lists, and answers them."""

    @property
    def size(self) -> int:
        """Length of the lists that it asks for."""

    def ask(self) -> Queries:
        """Return the requests of the next step; asked again, they are the same."""

    def step(self, lists: Rankings) -> np.ndarray:
        """Show a list to each request, and return the reward of each (n,)."""

    def log(self) -> Dataset:
        """Return everything that was shown and chosen so far."""


@dataclass(frozen=True, eq=False)
class Played:
    """Everything that was shown in a world, and earned."""

    rewards: np.ndarray
    """(steps, n) reward of each request of each step."""
    lists: list[Rankings]
    """The lists of each step."""
    method: Recommender
    """The recommender as fitted last."""


def play(
    world: World, method: Recommender, rounds: int, run: Run = Run(), steps: int = 5
) -> Played:
    """Fit a method to the log of a world, show its lists for some steps, and begin again.

    The method is fitted anew at the start of each of `rounds`, to the whole log. The method passed
    stays unfitted. Raises DataError for no round or no step.
    """
    if rounds < 1 or steps < 1:
        raise DataError(f"rounds is {rounds}, steps {steps}: at least 1 each")
    rewards: list[np.ndarray] = []
    lists: list[Rankings] = []
    learner = clone(method)
    for _ in range(rounds):
        learner.fit(world.log(), run)
        for _ in range(steps):
            slates = learner.recommend(world.ask(), world.size)
            lists.append(slates)
            rewards.append(world.step(slates))
    return Played(np.array(rewards), lists, learner)

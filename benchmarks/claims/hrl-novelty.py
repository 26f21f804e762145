"""HRLNovelty in a planted world whose people want novelty by a lasting trait and a session's state.

Each method is played alone, five seeds: it is fitted to all that was shown, shows slates for two
sessions, and is fitted again. It begins with two sessions of random slates. Rivals: a flat policy
of the same reward, which reads the session alone, one that also reads the user's past, and the
lists of the base as they are. Rewards are counted with the world's own places of items.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import seeded
from scipy.stats import pearsonr

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.queries import Queries, Rankings
from tailor.evaluation.significance import mean_interval
from tailor.metrics.lists import intra_list_diversity
from tailor.papers.ranking.hrl_novelty import HRLNovelty
from tailor.retrieval.ease import EASE
from tailor.worlds.play import play
from tailor.worlds.slates import Slates

SEEDS = [0, 1, 2, 3, 4]
ROUNDS = 4
VISITS = 10  # of a round: two sessions
BONUS = 0.1  # of a chosen item's novelty, and of a list's diversity
METHOD = HRLNovelty(EASE(), novelty=BONUS, diversity=BONUS)


class Watched(Slates):
    """The world, which also counts rewards, and asks a method for appetites as sessions end."""

    def start(self) -> "Watched":
        """Forget the warm visits' rewards."""
        self.returns: list[float] = []
        self.novel_shown: list[float] = []
        return self

    def step(self, lists: Rankings) -> np.ndarray:
        rows = lists.reindexed(self.catalogue).rows
        is_new = np.take_along_axis(self.new_groups(), self.group_of[rows], axis=1)
        unit = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        before = [len(chosen) for chosen in self.chosen]
        clicks = super().step(lists)
        if "returns" in self.__dict__:
            latest = [
                chosen[-1] if len(chosen) > n else -1
                for chosen, n in zip(self.chosen, before, strict=True)
            ]
            novel = ((rows == np.array(latest)[:, None]) & is_new).any(axis=1)
            variety = np.nan_to_num(intra_list_diversity(rows, unit))
            self.returns.append(float((clicks + BONUS * (novel + variety)).mean()))
            self.novel_shown.append(float(is_new[rows >= 0].mean()))
        return clicks


def world_of(seed: int) -> Watched:
    return Watched(seed=seed, novelty=1.5, warm=10)


def on_world(run: Run) -> dict[str, Any]:
    """Return the return, clicks and novelty of each method, and how traits are told."""
    methods: dict[str, Recommender] = {
        "two levels": METHOD,
        "flat": replace(METHOD, options=1),
        "flat, with the past": replace(METHOD, options=1, reads_past=True),
        "base": METHOD.base,
    }
    row: dict[str, Any] = {"seed": run.seed}
    for name, method in methods.items():
        world = world_of(run.seed).start()
        played = play(world, method, ROUNDS, run, VISITS)
        row.setdefault("return", {})[name] = round(float(np.mean(world.returns)), 4)
        row.setdefault("clicks", {})[name] = round(float(played.rewards.mean()), 4)
        row.setdefault("novel items shown", {})[name] = round(float(np.mean(world.novel_shown)), 4)
        row.setdefault("clicks by round", {})[name] = [
            round(float(part.mean()), 3) for part in np.split(played.rewards, ROUNDS)
        ]
        if name == "two levels":
            row |= traits_told(world, played.method)
    return row


def traits_told(world: Slates, method: Recommender) -> dict[str, Any]:
    """Return correlations of what is inferred with the truth, over one further session."""
    assert isinstance(method, HRLNovelty)
    for _ in range(world.visits - 1):
        world.step(method.recommend(world.ask(), world.size))
    inferred = method.appetites(world.ask())
    options = np.exp(method._policies(method._visits(world.ask()), *[empty(world)])[0])
    return {
        "lasting with trait": correlation(inferred.lasting, world.trait),
        "session with state": correlation(inferred.session - inferred.lasting, world.states[-1]),
        "session with appetite": correlation(inferred.session, world.trait + world.states[-1]),
        "use of options": options.mean(axis=0).round(3).tolist(),
        "levels": method.fit_report_["log-odds per unit of novelty"],
    }

"""HRLNovelty in a planted world whose people want novelty by a lasting trait and a session's state.

Each method is played alone, five seeds: it is fitted to all that was shown, shows slates for two
sessions, and is fitted again. It begins with two sessions of random slates. Rivals: a flat policy
of the same reward, which reads the session alone, one that also reads the user's past, and the
lists of the base as they are. Rewards are counted with the world's own places of items.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import mean_lead, seeded
from scipy.stats import pearsonr

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.queries import Rankings
from tailor.metrics.lists import intra_list_diversity
from tailor.papers.ranking.hrl_novelty import HRLNovelty
from tailor.pipeline.fallback import Fallback
from tailor.retrieval.ease import EASE
from tailor.retrieval.popularity import Popularity
from tailor.worlds.play import play
from tailor.worlds.slates import Slates

SEEDS = [0, 1, 2, 3, 4]
ROUNDS = 4
VISITS = 10  # of a round: two sessions
BONUS = 0.1  # of a chosen item's novelty, and of a list's diversity
BASE = Fallback([EASE(), Popularity()])
METHOD = HRLNovelty(BASE, novelty=BONUS, diversity=BONUS, depth=100)


class Watched(Slates):
    """The world, which also counts rewards once it is told to."""

    def __post_init__(self) -> None:
        self.returns: list[float] = []
        self.novel_shown: list[float] = []
        super().__post_init__()

    def step(self, lists: Rankings) -> np.ndarray:
        """Show the lists, and count clicks, novel choices and diversity."""
        rows = lists.reindexed(self.catalogue).rows
        is_new = np.take_along_axis(self.new_groups(), self.group_of[rows], axis=1) & (rows >= 0)
        before = [len(chosen) for chosen in self.chosen]
        clicks = super().step(lists)
        latest = np.array([chosen[-1] if chosen else -1 for chosen in self.chosen])
        latest[[len(chosen) for chosen in self.chosen] == np.array(before)] = -1
        novel = ((rows == latest[:, None]) & is_new).any(axis=1)
        unit = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        variety = np.nan_to_num(intra_list_diversity(rows, unit))
        self.returns.append(float((clicks + BONUS * (novel + variety)).mean()))
        self.novel_shown.append(float(is_new[rows >= 0].mean()))
        return clicks


def measure(run: Run) -> Claim:
    """Five worlds: returns of four methods, and what is inferred of appetites."""
    rows = [on_world(seeded(run, seed)) for seed in SEEDS]
    leads = {name: over_seeds(rows, name) for name in ("flat", "base")}
    checks = {
        "return above the flat policy": leads["flat"]["low"] > 0,
        "return above the base's lists": leads["base"]["low"] > 0,
        "lasting appetite correlates with the trait above .5": mean_of(rows, "trait") > 0.5,
        "session's appetite correlates with the state above .3": mean_of(rows, "state") > 0.3,
    }
    figures = {
        "return above": leads,
        "correlation with the trait": round(mean_of(rows, "trait"), 3),
        "correlation with the state": round(mean_of(rows, "state"), 3),
        "played": rows,
    }
    return Claim(checks, figures, SEEDS, ["worlds.slates"])


def on_world(run: Run) -> dict[str, Any]:
    """Return the return, clicks and novelty of each method, and how appetites are told."""
    methods = {"two levels": METHOD, "flat": replace(METHOD, options=1), "base": BASE}
    row: dict[str, Any] = {"seed": run.seed}
    for name, method in methods.items():
        world = Watched(seed=run.seed, novelty=1.5, warm=10)
        played = play(world, method, ROUNDS, run, VISITS)
        by_round = [round(float(part.mean()), 3) for part in np.split(played.rewards, ROUNDS)]
        row[name] = {
            "return": round(float(np.mean(world.returns[world.warm :])), 4),
            "clicks": round(float(played.rewards.mean()), 4),
            "clicks by round": by_round,
            "share of novel items": round(float(np.mean(world.novel_shown[world.warm :])), 3),
        }
        if name == "two levels":
            row |= appetites_told(world, played.method)
    return row


def appetites_told(world: Watched, method: Recommender) -> dict[str, Any]:
    """Return correlations of what is inferred with the truth, after one further session."""
    assert isinstance(method, HRLNovelty)
    for _ in range(world.visits - 1):
        world.step(method.recommend(world.ask(), world.size))
    asked = world.ask()
    inferred = method.appetites(asked)
    options = method.option_shares(asked).mean(axis=0)
    return {
        "trait": correlation(inferred.lasting, world.trait),
        "state": correlation(inferred.session - inferred.lasting, world.states[-1]),
        "use of options": [round(float(share), 3) for share in options],
        "levels": method.fit_report_["log-odds per unit of novelty"],
    }


def correlation(inferred: np.ndarray, truth: np.ndarray) -> float:
    """Return Pearson's correlation; 0 where nothing differs."""
    if not np.ptp(inferred):
        return 0.0
    return round(float(pearsonr(inferred, truth).statistic), 3)


def mean_of(rows: list[dict[str, Any]], figure: str) -> float:
    """Return the mean of a figure over seeds."""
    return float(np.mean([row[figure] for row in rows]))


def over_seeds(rows: list[dict[str, Any]], rival: str) -> dict[str, float]:
    """Return the mean lead in return over a rival, with Student's 95 % interval over seeds."""
    return mean_lead([row["two levels"]["return"] - row[rival]["return"] for row in rows])

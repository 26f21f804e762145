"""ReLoop2 on a planted stream in which items change their worth, and on ml-100k in order of time.

Every outcome is predicted before it is learned from, 100 at a time. Beside the frozen DeepFM stand
gradient steps on the same DeepFM, at the rate that is best on the validation stream, and the frozen
one with a running bias of each item.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from claim_tools import seeded
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples
from tailor.data.queries import Queries
from tailor.data.splits import Split, by_time
from tailor.evaluation.prequential import prequential, stream_order
from tailor.evaluation.significance import bootstrap
from tailor.metrics.prediction import CLIP, auc, log_loss
from tailor.papers.ranking.reloop2 import ReLoop2
from tailor.ranking.deepfm import DeepFM
from tailor.worlds.stream import stream

SEEDS = [0, 1, 2]
STEP = 100
AFTER = 2_000  # rows after a jump in which recovery is judged
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
STRENGTHS = (2.0, 5.0, 20.0)
ROWS = 40_000
BASE = DeepFM(source="label", label="value > 0", epochs=20, history=0, layers=(64,), lr=3e-3)


@dataclass(eq=False)
class Corrected(Predictor):
    """A fitted predictor whose answers a rival corrects; rivals of the memory."""

    base: DeepFM
    amount: float
    """Rate of gradient steps, or outcomes that the prior of a bias counts."""

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        raise NotImplementedError

    @classmethod
    def around(cls, base: DeepFM, amount: float) -> "Corrected":
        method = cls(base, amount)
        method.items_ = base.items_
        method.trained_on_ = base.trained_on_
        method.sums_ = np.zeros((2, len(base.items_) + 1))  # errors and rows of each item
        return method

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        raise NotImplementedError


class ItemBias(Corrected):
    """Adds the mean error that the base made on the item so far, shrunk."""

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        errors, counts = self.sums_[:, items.values]
        return np.clip(self.base._predict(queries, items) + errors / (counts + self.amount), 0, 1)

    def _update(self, queries: Queries, items: Ragged, labels: np.ndarray, run: Run) -> None:
        sums = self.sums_.copy()
        np.add.at(sums[0], items.values, labels - self.base._predict(queries, items))
        np.add.at(sums[1], items.values, 1.0)
        self.sums_ = sums


class GradientSteps(Corrected):
    """Takes one step of Adam on each step's outcomes; the base's net is copied first."""

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        return self.base._predict(queries, items)

    def _update(self, queries: Queries, items: Ragged, labels: np.ndarray, run: Run) -> None:
        net = self.base._ready()
        if "optimizer" not in self.__dict__:
            self.optimizer = torch.optim.Adam(net.parameters(), lr=self.amount)
        batch = self.base._encode(queries, items).batch(slice(None))
        net.train()
        loss = self.base._loss(batch, torch.tensor(labels).float(), items.values, run.rng("steps"))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        net.eval()


def measure(run: Run) -> Claim:
    """Streams with and without jumps, three seeds each; then ml-100k, ratings of 4 and more."""
    jumping = [on_stream(seeded(run, seed), share=0.5) for seed in SEEDS]
    still = [on_stream(seeded(run, seed), share=0.0) for seed in SEEDS]
    liked = replace(BASE, label="value >= 4", history=10, epochs=10, lr=1e-3)
    movies, _ = on_split(by_time(real("ml-100k")), liked, run)
    checks = {
        "after jumps: log loss below the frozen model, every seed": all(
            row["after jumps"]["memory less frozen"][2] < 0 for row in jumping
        ),
        "after jumps: log loss below gradient steps, every seed": all(
            row["after jumps"]["memory less gradient steps"][2] < 0 for row in jumping
        ),
        "without jumps: AUC at most .001 lower than frozen, every seed": all(
            row["AUC"]["memory"] - row["AUC"]["frozen"] > -0.001 for row in still
        ),
        "ml-100k: log loss below the frozen model": movies["memory less frozen"][2] < 0,
    }
    figures = {"jumps": jumping, "no jumps": still, "ml-100k": movies}
    return Claim(checks, figures, SEEDS, ["worlds.stream", "ml-100k"])


def on_stream(run: Run, share: float) -> dict[str, Any]:
    """Return figures of a planted stream, and those of the rows after its jumps."""
    world = stream(rows=ROWS, share=share, seed=run.seed)
    row, losses = on_split(by_time(world.data, valid=0.15, test=0.35), BASE, run)
    first = ROWS - len(losses["frozen"])  # row of the stream at which the test begins
    starts = [jump - first for jump in world.jumps.tolist() if jump >= first]
    is_after = np.zeros(len(losses["frozen"]), dtype=bool)
    for start in starts:
        is_after[start : start + AFTER] = True
    after = {name: loss[is_after] for name, loss in losses.items()}
    best = -(world.probabilities * np.log(world.probabilities)) - (
        1 - world.probabilities
    ) * np.log(1 - world.probabilities)
    row["log loss of the truth"] = round(float(best[first:].mean()), 4)
    return {"seed": run.seed, **row, "after jumps": figures_of(after, run.seed)}


def on_split(split: Split, base: DeepFM, run: Run) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return figures of the test stream, and the log loss of its rows in order of time."""
    memory = ReLoop2(base).fit(split.train, run, split)
    frozen = memory.base_
    valid = base.outcome().judge(split, "valid", run.rng("valid"))
    test = base.outcome().judge(split, "test", run.rng("test"))
    steps, rate = best_of(GradientSteps, RATES, frozen, valid, run)
    bias, strength = best_of(ItemBias, STRENGTHS, frozen, valid, run)
    methods = {"frozen": frozen, "memory": memory, "gradient steps": steps, "item bias": bias}
    order = stream_order(test)
    labels = test.labels[order]
    predicted = {name: prequential(m, test, STEP, run=run)[order] for name, m in methods.items()}
    late = prequential(memory, test, STEP, late=10, run=run)[order]
    losses = {name: row_losses(labels, p) for name, p in predicted.items()}
    row = {
        "rows": len(labels),
        "weight": memory.weight_,
        "rate": rate,
        "strength": strength,
        "AUC": {name: round(auc(labels, p), 4) for name, p in predicted.items()},
        "memory, outcomes 1,000 rows late": round(float(row_losses(labels, late).mean()), 4),
        **figures_of(losses, run.seed),
    }
    return row, losses


def best_of(
    rival: type[Corrected], amounts: tuple[float, ...], base: DeepFM, valid: Examples, run: Run
) -> tuple[Corrected, float]:
    """Return a rival with the amount of least log loss on the validation stream, and it."""
    losses = {
        amount: log_loss(valid.labels, prequential(fresh(rival, base, amount), valid, STEP))
        for amount in amounts
    }
    amount = min(losses, key=lambda amount: losses[amount])
    return fresh(rival, base, amount), amount


def fresh(rival: type[Corrected], base: DeepFM, amount: float) -> Corrected:
    """Return a rival around a copy of the base, whose net is its own."""
    weights = {name: array.copy() for name, array in base.net_weights_.items()}
    return rival.around(base._with_state(net_weights_=weights), amount)


def row_losses(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return (n,) the log loss of each row."""
    p = np.clip(predicted, CLIP, 1 - CLIP)
    return -np.where(labels == 1, np.log(p), np.log1p(-p))


def figures_of(losses: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Return mean log losses, and the memory's less each other one's with 95 % intervals."""
    figures: dict[str, Any] = {
        "log loss": {name: round(float(loss.mean()), 4) for name, loss in losses.items()}
    }
    for name, loss in losses.items():
        if name != "memory":
            difference = losses["memory"] - loss
            low, high = bootstrap(difference[:, None], 1_000, seed=seed)
            bounds = (difference.mean(), low[0], high[0])
            figures[f"memory less {name}"] = [round(float(value), 5) for value in bounds]
    return figures

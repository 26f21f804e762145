"""Remedies on planted logs, a pain in each and none in one; then on Beauty and ml-100k.

Settings are the defaults. The planted logs were made with random states 0, 11 and 12 at hand; how
strong each pain is planted was set there, so that random states 21 to 23 judge.
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import seeded
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.evaluation.checklist import CheckResult
from tailor.papers.generative.llm_recsys_review import LATENCY, RANKING, Prescription, Remedies
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.text_neighbours import TextNeighbours
from tailor.testing.data import tiny_data
from tailor.worlds.pains import PLANTS, pains

SEEDS = (21, 22, 23)
PEOPLE = 3_000  # of Beauty
DELAY_S = 0.12  # of a slow method, where a pain of latency is planted
NONE = "none"


@dataclass(eq=False)
class SlowIds(CoVisitation):
    """Answers late by ids."""

    def _scores(self, queries: Queries) -> Any:
        time.sleep(DELAY_S)
        return super()._scores(queries)


@dataclass(eq=False)
class SlowTexts(TextNeighbours):
    """Answers late by texts."""

    def _scores(self, queries: Queries) -> Any:
        time.sleep(DELAY_S)
        return super()._scores(queries)


def measure(run: Run) -> Claim:
    """Ask for the worst pain of six planted logs, three random states; then of real ones."""
    planted = {seed: on_planted(seeded(run, seed)) for seed in SEEDS}
    real_ones = {
        "beauty": Remedies().run(sample_users(real("beauty"), PEOPLE), {}, run),
        "ml-100k": Remedies().run(real("ml-100k"), {}, run),
    }
    untitled = Remedies().run(without_texts(pains("cold items", seed=SEEDS[0])), {}, run)
    reports = [report for part in planted.values() for report in part.values()]
    checks = {
        **{
            f"{name} is planted: it is named, every seed": all(
                named(part[name]) == name for part in planted.values()
            )
            for name in (*PLANTS, LATENCY)
        },
        **{
            f"{name}: the method to try has a gain beyond chance, every seed": all(
                part[name].known[0].verdict == "gain" for part in planted.values()
            )
            for name in (*PLANTS, LATENCY)
            if name != NONE
        },
        "planted: every row but the language model's has a figure": all(
            result.figure is not None
            for report in reports
            for result in report.results
            if result.check.group != RANKING
        ),
        "every figure has an interval and a floor, every other row a reason": all(
            is_whole(result)
            for report in (*reports, *real_ones.values(), untitled)
            for result in report.results
        ),
        "without texts the pain is named all the same": named(untitled) == "cold items",
    }
    figures = {
        "planted": {
            str(seed): {name: short(report) for name, report in part.items()}
            for seed, part in planted.items()
        },
        "without texts": short(untitled),
        "real": {name: report.to_dict() for name, report in real_ones.items()},
    }
    return Claim(checks, figures, list(SEEDS), ["planted pains", "beauty", "ml-100k"])


def on_planted(run: Run) -> dict[str, Prescription]:
    """Return a report for each planted pain, and for none."""
    reports = {name: Remedies().run(pains(name, seed=run.seed), {}, run) for name in PLANTS}
    slow = Remedies(ids=SlowIds(), texts=SlowTexts(), timed=20)
    return reports | {LATENCY: slow.run(pains(NONE, seed=run.seed), {}, run)}


def named(report: Prescription) -> str:
    """Return the name of the worst pain."""
    return NONE if report.worst is None else report.worst.name


def is_whole(result: CheckResult) -> bool:
    """Say whether a row has a figure with interval and floor, or a reason why it has none."""
    figure = result.figure
    if figure is None:
        return bool(result.reason)
    numbers = (figure.low, figure.value, figure.high, figure.floor)
    return bool(np.isfinite(numbers).all() and figure.low <= figure.high)


def short(report: Prescription) -> dict[str, Any]:
    """Return the verdict, and cost and remedy of each pain."""
    content = report.to_dict()
    return {"verdict": content["verdict"], "pains": content["pains"]}


def without_texts(data: Dataset) -> Dataset:
    """Return the events alone, and the ids of all items."""
    items = data.tables["items"].select("item_id")
    return Dataset({"events": data.events, "items": items}, data.name)


def behave(run: Run) -> dict[str, float | str]:
    """Return the figures on tiny data but those of the clock."""
    report = replace(Remedies.tiny(), users=60).run(tiny_data(), {}, run)
    costs = {f"{pain.name}: cost": round(pain.cost.value, 4) for pain in report.known}
    return costs | {
        result.check.name: round(result.figure.value, 4)
        for result in report.results
        if result.figure is not None and result.check.group != LATENCY
    }

"""LLMCapabilities on planted logs of items with facets: 27 cells, three ways to tune in 3 of 3 runs.

A history keeps the kind of item and walks along its makers; titles name both. Settings are the
defaults, and none was tried on these users.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from claim_tools import SEEDS, seeded

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.evaluation.checklist import Checklist
from tailor.papers.generative.recsys_llm_survey import CELLS, TUNING, LLMCapabilities
from tailor.testing.data import tiny_data
from tailor.worlds.facets import facets

PEOPLE, LENGTH = 200, 10
SECONDS = 20  # of a cell
TUNED = tuple(name for group, name, *_ in CELLS if group == TUNING)
CLOCKED = ("latency",)  # figures of the clock, which no run repeats


def measure(run: Run) -> Claim:
    """Measure all cells on three planted logs."""
    reports = [on(seeded(run, seed)) for seed in SEEDS]
    seconds = [max(result.processor_seconds for result in report.results) for report in reports]
    checks = {
        "no cell is empty, every seed": all(report.is_complete for report in reports),
        f"the slowest cell takes less than {SECONDS} processor seconds, every seed": max(seconds)
        < SECONDS,
        **{
            f"{name}: the loss on held-out users is lower, every seed": all(
                report.figure(name).low > 0 for report in reports
            )
            for name in TUNED
        },
    }
    figures = {
        "slowest cell": [round(value, 1) for value in seconds],
        "beyond floor": {
            name: sum(_is_beyond(report, name) for report in reports) for _, name, *_ in CELLS
        },
        "reports": [report.to_dict() for report in reports],
    }
    return Claim(checks, figures, list(SEEDS), ["planted facets"])


def on(run: Run) -> Checklist:
    """Return the cells on a planted log."""
    return LLMCapabilities().run(facets(PEOPLE, LENGTH, run.seed).data, {}, run)


def behave(run: Run) -> dict[str, float | str]:
    """Return the figures on tiny data."""
    report = LLMCapabilities.tiny().run(tiny_data(), {}, run)
    return {
        result.check.name: round(result.figure.value, 4)
        for result in report.results
        if result.figure is not None and result.check.name not in CLOCKED
    }


def _is_beyond(report: Checklist, name: str) -> bool:
    return any(
        result.figure is not None and result.figure.is_beyond_floor
        for result in report.results
        if result.check.name == name
    )

"""LLMProbes on lists of 20 of ml-100k: two scripted models, then the small local one.

A scripted model that knows a worth of every film is fair; with a worth of places above it, it is
biased by position. The local model is asked about 20 users, and its figures are printed: they are
no check but that they exist. Nothing was chosen on these users.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from claim_tools import SEEDS, seeded
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.evaluation.checklist import Checklist
from tailor.evaluation.closed_lists import names_of
from tailor.llm.local import LocalModel
from tailor.llm.scripted import ScriptedModel
from tailor.papers.generative.llm4rec_survey import USES, LLMProbes
from tailor.papers.retrieval.alpharec import AlphaRec
from tailor.papers.retrieval.recformer import RecFormer
from tailor.ports.base import LanguageModel
from tailor.testing.data import tiny_data

BIASED_BELOW = 0.5  # tau of a model that is biased by position
TOLERANCE = 1e-9
PLACE = 0.2  # worth of a place above, where films are worth 0 to 1
LOCAL = LLMProbes(
    history=5,
    shuffles=2,
    judged=100,
    examples=300,
    fine_tuned=RecFormer(pretraining=1, epochs=1, second=0),
    embedded=AlphaRec(epochs=2),
)
USERS = 200  # of scripted models, who cost nothing


def measure(run: Run) -> Claim:
    """Probe scripted models over three random states, then the local model once."""
    data = real("ml-100k")
    scripted = [on(data, seeded(run, seed)) for seed in SEEDS]
    local = LOCAL.run(data, {"SmolLM2-135M": LocalModel()}, run)
    reports = [*(report for part in scripted for report in part.values()), local]
    uses = [result for result in local.results if result.check.group == USES]
    checks = {
        "tau across candidates is 1 for the fair scripted model, every seed": all(
            part["fair"].figure("position").value >= 1 - TOLERANCE for part in scripted
        ),
        f"tau is below {BIASED_BELOW} for the biased one, every seed": all(
            part["biased"].figure("position").high < BIASED_BELOW for part in scripted
        ),
        "the biased one is beyond its noise floor, the fair one is not": all(
            part["biased"].figure("position").is_beyond_floor
            and not part["fair"].figure("position").is_beyond_floor
            for part in scripted
        ),
        "every figure has an interval and a floor, no cell is empty": all(
            report.is_complete for report in reports
        ),
        "nine uses are measured": len(uses) == 9,
    }
    figures = {
        "scripted": [
            {"seed": seed, **{name: _position(report) for name, report in part.items()}}
            for seed, part in zip(SEEDS, scripted, strict=True)
        ],
        "local": local.to_dict(),
    }
    return Claim(checks, figures, list(SEEDS), ["ml-100k"])


def on(data: Dataset, run: Run) -> dict[str, Checklist]:
    """Return the biases of a fair and of a biased scripted model."""
    study = LLMProbes(users=USERS, uses=False)
    fair = judge(data, run)
    models: dict[str, LanguageModel] = {
        "fair": fair,
        "biased": replace(fair, position_bias=PLACE),
    }
    return {name: study.run(data, {name: model}, run) for name, model in models.items()}


def judge(data: Dataset, run: Run) -> ScriptedModel:
    """Return a model to which every item has a worth of its own, drawn by chance."""
    names = names_of(data)
    worths = run.rng("worths").permutation(len(names)) / len(names)
    return ScriptedModel(knows={f"<<{name}>>": w for name, w in zip(names, worths, strict=True)})


def behave(run: Run) -> dict[str, float | str]:
    """Return the biases of a scripted model, and the uses, on tiny data."""
    data = tiny_data()
    study = LLMProbes.tiny()
    model = replace(judge(data, run), position_bias=0.1)
    biases = replace(study, uses=False).run(data, {"scripted": model}, run)
    return {
        f"{result.check.name}": result.figure.value
        for result in biases.results
        if result.figure is not None
    }


def _position(report: Checklist) -> dict[str, float]:
    figure = report.figure("position")
    numbers = {"tau": figure.value, "low": figure.low, "high": figure.high, "floor": figure.floor}
    return {name: round(value, 4) for name, value in numbers.items()} | {"users": figure.n}

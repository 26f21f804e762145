"""RecBench on Beauty cut to 5,000 people: nets of one size for four forms of an item, in two tasks, and a small language model asked zero-shot.

Repeats draw other people and other random states; the first measures the whole grid, all of them the id and the embedding form on the people whose last item
nobody had chosen in training ("target new"): differences paired over users, seen items removed.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from claim_tools import fit_all, is_above, judge, means, seeded, topic_world
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.significance import bootstrap
from tailor.generative.tiger import TIGER
from tailor.llm.local import LocalModel
from tailor.llm.scripted import ScriptedModel
from tailor.papers.evaluation.recbench import ZERO_SHOT, RecBench, forms
from tailor.papers.retrieval.hllm import HLLM
from tailor.retrieval.sasrec import SASRec
from tailor.testing.data import tiny_data

SEEDS = [0, 1, 2]
PEOPLE = 5_000
ASKED = 5  # of them by the language model, which takes half a minute for a list of 20
MINUTES = 10
SLOWER = 20  # times that the language model takes for a request


def measure(run: Run) -> Claim:
    """New items of a planted log, by the id and the embedding form; the grid on Beauty once."""
    planted = [new_items(seeded(run, seed)) for seed in SEEDS]
    grid = RecBench(LocalModel(), people=2).run(cut(real("beauty"), run.seed), forms(), run)
    new = cold(grid.report, run.seed)
    slower = {
        task: grid.cell(ZERO_SHOT, task, "lists").p50_ms / grid.cell("id", task, "lists").p50_ms
        for task in ("CTR", "next item")
    }
    nets = [cell for cell in grid.cells if cell.trained and not cell.ranked.startswith("lists")]
    checks = {
        "eight cells of four forms and two tasks": (
            len(nets) == 8 and all(np.isfinite(cell.accuracy) for cell in nets)
        ),
        f"the grid takes at most {MINUTES} minutes of a processor": (
            grid.seconds["forms"] <= 60 * MINUTES
        ),
        "planted: new items are found by the embedding form above the id form": is_above(
            planted, "embedding over id"
        ),
        "Beauty: new items are found by the embedding form above the id form": new["low"] > 0,
        f"the language model takes at least {SLOWER} times as long as the id form": (
            min(slower.values()) >= SLOWER
        ),
        "every answer is valid": all(cell.valid == 1 for cell in nets if cell.task == "next item"),
    }
    factors = {task: round(factor, 1) for task, factor in slower.items()}
    figures = {"planted": planted, "slower": factors, "new": new, "grid": grid.to_dict()}
    return Claim(checks, figures, SEEDS, ["planted topics", "beauty"])


def new_items(run: Run) -> dict[str, object]:
    """Judge both forms on users of a planted log whose next item nobody had chosen."""
    split = split_by(topic_world(run.seed), "new-items", seed=run.seed)
    nets = {form: net for form, net in forms(epochs=10).items() if form in ("id", "embedding")}
    leads = {"embedding over id": ("embedding", "id")}
    return judge(fit_all(nets, split, run), split, run, leads)


def behave(run: Run) -> dict[str, float | str]:
    """Return the accuracies of all cells of three forms and a scripted model on tiny data."""
    nets = {"id": SASRec.tiny(), "embedding": HLLM.tiny(), "semantic id": TIGER.tiny()}
    model = ScriptedModel(knows={"kettle": 2.0, "tent": 1.0})
    grid = RecBench(model, k=5, requests=2, people=8).run(tiny_data(), nets, run)
    figures: dict[str, float | str] = {
        f"{cell.task} by {cell.form} of {cell.ranked}": cell.accuracy for cell in grid.cells
    }
    return figures | {"people left out": float(grid.leaks)}


def measure_long(run: Run) -> Claim:
    data, rows = real("beauty"), []
    grid = RecBench(LocalModel(), people=ASKED).run(
        cut(data, SEEDS[0]), forms(), Run(seed=SEEDS[0], workers=run.workers, progress=run.progress)
    )
    rows.append({"seed": SEEDS[0], "means": means(grid.report), "new": cold(grid.report, SEEDS[0])})
    for seed in SEEDS[1:]:
        split = split_by(cut(data, seed), "last")
        own = Run(seed=seed, workers=run.workers, progress=run.progress)
        fitted = {
            form: one.fit(split.train, own, split)
            for form, one in forms().items()
            if form in ("id", "embedding")
        }
        report = evaluate(fitted, split, seen=("removed",), run=own)
        rows.append({"seed": seed, "means": means(report), "new": cold(report, seed)})
    slower = {
        task: grid.cell(ZERO_SHOT, task, "lists").p50_ms / grid.cell("id", task, "lists").p50_ms
        for task in ("CTR", "next item")
    }
    nets = [cell for cell in grid.cells if cell.trained and not cell.ranked.startswith("lists")]
    checks = {
        "eight cells of four forms and two tasks": len(nets) == 8
        and all(np.isfinite(cell.accuracy) for cell in nets),
        f"the grid takes at most {MINUTES} minutes of a processor": grid.seconds["forms"]
        <= 60 * MINUTES,
        "new items: the embedding form above the id form, every repeat": all(
            row["new"]["low"] > 0 for row in rows
        ),
        f"the language model takes at least {SLOWER} times as long as the id form": min(
            slower.values()
        )
        >= SLOWER,
        "every answer is valid": all(cell.valid == 1 for cell in nets if cell.task == "next item"),
    }
    figures = {"people": PEOPLE, "slower": {task: round(value, 1) for task, value in slower.items()},
               "runs": rows, "grid": grid.to_dict(), "settings": "the defaults of forms(): none was tried on these people"}  # fmt: skip
    return Claim(checks, figures, SEEDS, ["beauty"])


def cut(data: Dataset, seed: int) -> Dataset:
    """The events of 5,000 people drawn by seed; the catalogue stays whole."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(data.users))[:PEOPLE])
    ids = set(data.users.ids[chosen].tolist())
    kept = data.events["user_id"].is_in(list(ids)).to_numpy()
    return data.cut(kept)


def cold(report, seed: int) -> dict[str, float]:
    """HR@10 of both forms for people whose target is new, and the difference with its 95 % interval over them."""
    mask = report.strata["target new"]
    own = {
        form: report.results[form, "removed"].per_user["HR@10"][mask]
        for form in ("id", "embedding")
    }
    low, high = bootstrap((own["embedding"] - own["id"])[:, None], seed=seed)
    return {"people": int(mask.sum()), **{form: round(float(one.mean()), 5) for form, one in own.items()}, "low": round(float(low[0]), 5), "high": round(float(high[0]), 5)}  # fmt: skip

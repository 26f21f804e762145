"""AGP in planted worlds of aspects: instructions found by feedback against other ways to edit them.

Three of eight aspects decide the next item, two mislead. The first instruction asks for both that
mislead and for one of no meaning; the model writes, orders and rewrites by the words that it is
shown (`worlds/aspects.py`), with errors in each. 80 users are learned from, 80 judge instructions,
150 others are the test. Random edits have as many calls as AGP took. This shows that the feedback
carries what is needed, not what a language model makes of it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import SEEDS, is_above, seeded
from judged_lists import above

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.papers.reranking.agp import AGP
from tailor.reranking.examples import Example, examples, list_ndcg
from tailor.worlds.aspects import NAMES, WORD, AspectModel, AspectWorld, aspect_world

ENOUGH = 2  # useful aspects of three
MANY = 1_000  # rounds that are never reached: calls are the limit


def measure(run: Run) -> Claim:
    """Learn instructions in three worlds, and judge them by people who are not learned from."""
    rows = [in_world(seed, seeded(run, seed)) for seed in SEEDS]
    checks = {
        f"at least {ENOUGH} of 3 useful aspects are asked for, in every world": all(
            row["asked for"]["AGP"]["useful"] >= ENOUGH for row in rows
        ),
        "held-out users: NDCG@10 above the first instruction": is_above(rows, "first instruction"),
        "held-out users: NDCG@10 above random edits of as many calls": is_above(
            rows, "random edits"
        ),
        "held-out users: NDCG@10 above feedback without positions": is_above(rows, "no positions"),
    }
    return Claim(checks, {"worlds": rows}, list(SEEDS), ["planted aspects"])


def in_world(seed: int, run: Run) -> dict:
    """Return figures of a world: held-out NDCG@10, aspects asked for, calls."""
    world = aspect_world(seed=seed)
    agp = learned(world, run)
    calls = agp.curve_[-1]["calls"]
    endless = {"calls": calls, "rounds": MANY, "patience": MANY}
    methods = {
        "AGP": agp,
        "first instruction": learned(world, run, rounds=0),
        "random edits": learned(world, run, feedback="none", **endless),
        "no positions": learned(world, run, feedback="words", **endless),
    }
    lists = held_out_lists(world, run)
    values = {name: ndcg(method, lists) for name, method in methods.items()}
    best = learned(world, run, world.best_instruction(), rounds=0)
    values["the useful aspects"] = ndcg(best, lists)
    return {
        "seed": seed,
        "users": len(lists),
        "NDCG@10": {name: round(float(value.mean()), 4) for name, value in values.items()},
        "leads": {name: above(values["AGP"], values[name], seed) for name in list(methods)[1:]},
        "asked for": {name: aspects_of(method, world) for name, method in methods.items()},
        "calls": {name: method.curve_[-1]["calls"] for name, method in methods.items()},
        "judging users' NDCG@10 by round": agp.fit_report_["NDCG@10"]["tried"],
        "instruction": agp.fit_report_["diff"],
    }


def learned(world: AspectWorld, run: Run, instruction: str = "", **settings: object) -> AGP:
    """Return an AGP fitted on the users to learn from, at first with what misleads."""
    first = instruction or world.first_instruction()
    method = AGP(llm=AspectModel(), instruction=first, **settings)
    return method.fit(world.data.with_lists(world.learned), run)


def held_out_lists(world: AspectWorld, run: Run) -> list[Example]:
    """Return the lists of users who are not learned from, with the gains of their items."""
    reader = AGP(llm=AspectModel())
    reader._read_catalogue(world.data)
    return examples(reader, world.data.with_lists(world.held_out), run)


def ndcg(method: AGP, lists: list[Example]) -> np.ndarray:
    """Return (U,) NDCG@10 of users' lists."""
    results = method.rerank([item.shortlist for item in lists])
    pairs = zip(results, lists, strict=True)
    return np.array([list_ndcg(result.scores, item.gains) for result, item in pairs])


def aspects_of(method: AGP, world: AspectWorld) -> dict[str, int]:
    """Return how many aspects of each kind the learned instruction asks for."""
    named = set(WORD.findall(method.instruction_)) & set(NAMES)
    kinds = {"useful": world.useful, "harmful": world.harmful, "useless": world.useless}
    return {kind: len(named & set(aspects)) for kind, aspects in kinds.items()}

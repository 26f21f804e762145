"""Graph heuristic on Beauty and Sports: full ranking, leave-last-out, fitted on train only,
settings chosen on Beauty's validation part.
"""

import copy
import sys
import time
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import SEEDS, dataset, is_above, judge, seeded
from shared_data import real_split

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.core.specs import clone, spec
from tailor.data.dataset import Dataset
from tailor.data.splits import CONTEXT, TEST, TRAIN, Split
from tailor.evaluation.protocol import compare, evaluate
from tailor.papers.retrieval.graph_heuristic import GraphHeuristic
from tailor.retrieval.covisitation import CoVisitation

TGH_1 = {"last_budget": (7, 2, 1), "previous_budget": ()}
VARIANTS = [
    TGH_1,
    {},
    {"last_budget": (6, 1), "previous_budget": (3,)},
    {"last_budget": (7,), "previous_budget": (3,)},
]
WEIGHTS = (0.25, 0.5, 1.0, 2.0)
EDGES = {"beauty": 114_582, "sports": 180_610}


STEPS = (1, 3, 7, 12, 20)  # an item of the planted world is followed by those so far ahead
CHOSEN = {"last_budget": (7,), "previous_budget": (3,), "ring_weight": 2.0}  # by the long form


def measure(run: Run) -> Claim:
    """Items two steps ahead in a planted graph, which never follow directly; then Beauty."""
    planted = [two_steps(seed, run) for seed in SEEDS]
    split = real_split("beauty")
    started_s = time.perf_counter()
    method = GraphHeuristic(**CHOSEN).fit(split.train, run)
    rival = CoVisitation(distance_power=0.0, reverse=0.0, history_decay=0.5, top_n=None)
    methods = {"graph heuristic": method, "co-visitation": rival.fit(split.train, run)}
    row = judge(methods, split, run, {"over co-visitation": ("graph heuristic", "co-visitation")})
    row |= {"fit": method.fit_report_, "seconds": round(time.perf_counter() - started_s, 1)}
    beauty = row["means"]["graph heuristic"]
    checks = {
        "planted: items two steps ahead are found above co-visitation": is_above(planted, "lead"),
        "Beauty, seen removed: HR@10 >= .069": beauty["HR@10"] >= 0.069,
        "Beauty, seen removed: NDCG@10 >= .044": beauty["NDCG@10"] >= 0.044,
        "Beauty: both methods fitted and answered within 60 s": row["seconds"] <= 60,
        "as many distinct edges as counted elsewhere": row["fit"]["edges"] == EDGES["beauty"],
    }
    figures = {"planted": planted, "beauty": row, "settings": "chosen by the long form"}
    return Claim(checks, figures, list(SEEDS), ["planted steps", "beauty"])


def two_steps(seed: int, run: Run, users: int = 6_000, items: int = 1_000) -> dict:
    """Judge both methods on askers whose next item is two steps ahead of their only one."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(items, size=users)
    steps = rng.choice(STEPS, users) + np.where(np.arange(users) % 4, 0, rng.choice(STEPS, users))
    ids = np.array([f"item-{number:04d}" for number in range(items)])
    sequences = [[ids[row], ids[(row + step) % items]] for row, step in zip(starts, steps)]
    data = dataset("steps", sequences, pl.DataFrame({"item_id": ids}))
    asks = np.isin(data.events["user_id"].to_numpy(), data.users.ids[is_asker(data)])
    later = data.events["time_ms"].to_numpy() > data.events["time_ms"].min()
    part = np.where(asks, np.where(later, TEST, CONTEXT), TRAIN).astype(np.int8)
    split = Split(data, "two steps", {"seed": seed}, part)
    methods = {"graph heuristic": GraphHeuristic(**TGH_1), "co-visitation": CoVisitation()}
    fitted = {name: method.fit(split.train, run) for name, method in methods.items()}
    return judge(fitted, split, seeded(run, seed), {"lead": ("graph heuristic", "co-visitation")})


def is_asker(data: Dataset) -> np.ndarray:
    """Return which users are every fourth, whose steps are two."""
    return np.array([int(name.rpartition("-")[2]) % 4 == 0 for name in data.users.ids.tolist()])


def measure_long(run: Run) -> Claim:
    splits = {name: real_split(name) for name in EDGES}
    options = [
        GraphHeuristic(**variant, ring_weight=weight)
        for variant, weight in product(VARIANTS, WEIGHTS)
    ]
    vectors = GraphHeuristic().fit(splits["beauty"].train, run)
    best, trials = choose_fitted(options, vectors, splits["beauty"], run)
    half = GraphHeuristic(**{**best.params(), "dims": 64})
    best, more = choose_fitted([best, half], None, splits["beauty"], run)
    figures = {"trials on beauty's validation": trials + more, "chosen": spec(best)}
    for name, split in splits.items():
        figures[name] = on(split, best, run)
    beauty = figures["beauty"]["graph heuristic, seen removed"]
    checks = {
        "Beauty, seen removed: HR@10 >= .069": beauty["HR@10"]["mean"] >= 0.069,
        "Beauty, seen removed: NDCG@10 >= .044": beauty["NDCG@10"]["mean"] >= 0.044,
        "Beauty: fitted and answered within 60 s": figures["beauty"]["seconds to fit"]
        + beauty["seconds"]
        <= 60,
        "as many distinct edges as counted elsewhere": all(
            figures[name]["fit"]["edges"] == edges for name, edges in EDGES.items()
        ),
    }
    return Claim(checks, figures, [run.seed], list(EDGES))


def choose_fitted(
    options: list[GraphHeuristic], fitted: GraphHeuristic | None, split: Split, run: Run
) -> tuple[GraphHeuristic, list]:
    """As `bench.choose.choose`, but options that differ in answering only share what was `fitted`
    once.
    """
    tried = []
    for option in options:
        method = clone(option).fit(split.train, run, split) if fitted is None else copy.copy(fitted)
        method.__dict__.update(option.params())
        report = evaluate(method, split, "valid", seen=("removed",), run=run)
        tried.append(
            {"settings": spec(option), "NDCG@10": round(report.mean(method.name, "NDCG@10"), 5)}
        )
    return options[max(range(len(options)), key=lambda at: tried[at]["NDCG@10"])], tried


def on(split: Split, best: GraphHeuristic, run: Run) -> dict:
    started = time.perf_counter()
    method = clone(best).fit(split.train, run)
    seconds = time.perf_counter() - started
    texts = GraphHeuristic(**{**best.params(), "vectors": "texts"})
    variants = {"TGH-1 as in the paper": TGH_1, "TGH-2 as in the paper": {}}
    methods = {
        "graph heuristic": method,
        "graph heuristic, text vectors": texts.fit(split.train, run),
    }
    for label, variant in variants.items():
        methods[label] = GraphHeuristic(**variant, dims=best.dims)
        methods[label].__dict__.update(method.state())
    methods["co-visitation"] = CoVisitation(
        distance_power=0.0, reverse=0.0, history_decay=0.5, top_n=None
    ).fit(split.train, run)
    report = evaluate(methods, split, run=run)
    out = {
        "users": len(report.user_ids),
        "fit": method.fit_report_,
        "seconds to fit": round(seconds, 1),
    }
    for (label, seen), result in report.results.items():
        row = {
            metric: {
                "mean": round(report.mean(label, metric, seen), 4),
                "interval": [round(one, 4) for one in interval],
            }
            for metric, interval in report.interval[label, seen].items()
        }
        out[f"{label}, seen {seen}"] = {**row, "seconds": round(result.seconds, 1)}
    out["against co-visitation, seen removed"] = [
        {
            "method": one.b,
            "metric": one.metric,
            "difference": round(one.difference, 4),
            "interval": [round(one.low, 4), round(one.high, 4)],
            "p_holm": round(one.p_holm, 4),
        }
        for one in compare(report, "co-visitation", seed=run.seed)
    ]
    return out

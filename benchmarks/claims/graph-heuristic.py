"""Graph heuristic on Beauty and Sports: full ranking, leave-last-out, fitted on train only,
settings chosen on Beauty's validation part.
"""

import copy
import sys
import time
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from shared_data import real_split

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.core.specs import clone, spec
from tailor.data.splits import Split
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
        "Beauty: fitted and answered within 60 s": (
            figures["beauty"]["seconds to fit"] + beauty["seconds"] <= 60
        ),
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

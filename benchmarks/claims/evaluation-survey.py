"""The survey's promises on ml-100k, leave-last-out: known orderings of four systems by accuracy,
coverage and novelty; undefined cases are NaN; golden equality.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import last_out
from tailor.evaluation.comparing import compare
from tailor.evaluation.runs import ExternalRun
from tailor.metrics import candidates, discovery, lists, prediction, ranking, similarity
from tailor.papers.evaluation.evaluation_survey import EvaluationSurvey
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.item_knn import ItemKNN
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

ONES, HALF, NONE = np.ones(3), np.full(3, 0.5), np.full((1, 4), -1)
UNDEFINED = {  # what a metric is asked that has no answer
    "NDCG without a relevant item": lambda: ranking.ndcg(np.zeros((1, 4), bool), np.array([0]), 4)[
        0
    ],
    "MAP without a relevant item": lambda: ranking.average_precision(
        np.zeros((1, 4), bool), np.array([0]), 4
    )[0],
    "AUC of one class": lambda: prediction.auc(ONES, HALF),
    "grouped AUC of one class": lambda: prediction.grouped_auc(ONES, HALF, ONES).value,
    "PR-AUC without a 1": lambda: prediction.average_precision_of_scores(ONES * 0, HALF),
    "R squared of a constant": lambda: prediction.r_squared(HALF, ONES),
    "MAPE of zeros": lambda: prediction.mean_absolute_percentage_error(ONES * 0, ONES).value,
    "normalised entropy of one class": lambda: prediction.normalised_entropy(ONES, HALF),
    "cosine of a zero vector": lambda: similarity.cosine(np.zeros((1, 3)), np.ones((1, 3)))[0],
    "Pearson of a constant": lambda: similarity.pearson(np.ones((1, 3)), np.arange(3.0)[None])[0],
    "Kendall of one entry": lambda: similarity.kendall(np.array([[1.0, np.nan]]), np.ones((1, 2)))[
        0
    ],
    "Jaccard of empty sets": lambda: similarity.jaccard(np.zeros((1, 3)), np.zeros((1, 3)))[0],
    "diversity of one item": lambda: lists.intra_list_diversity(np.array([[0, -1]]), np.eye(3))[0],
    "novelty of an empty list": lambda: lists.novelty(NONE, np.ones(3), 3)[0],
    "Gini of nothing shown": lambda: lists.gini(NONE, 3),
    "distributional coverage of nothing shown": lambda: candidates.distributional_coverage(NONE, 3),
    "unexpectedness of an empty list": lambda: discovery.unexpectedness(NONE, NONE)[0],
    "personalisation of one list": lambda: discovery.personalisation(np.array([[1, 2]])),
}


def measure(run: Run) -> Claim:
    """Measure what the long form does: it takes two minutes."""
    return measure_long(run)


def behave(run: Run) -> dict[str, float | str]:
    """Return every metric of two systems on tiny data, and what the survey says of them."""
    systems = {"co-visitation": CoVisitation(), "popularity": Popularity()}
    survey = EvaluationSurvey(k=5).run(tiny_data(), systems, run)
    report = survey.report
    figures: dict[str, float | str] = {
        f"{metric} of {name}": report.mean(name, metric, "removed")
        for name in systems
        for metric in report.metrics
    }
    for name in systems:
        for metric, value in report.results[name, "removed"].lists.items():
            figures[f"{metric} of {name}"] = value
    for metric, users in survey.users_needed.items():
        figures[f"users needed by {metric}"] = users
    return figures | {"front": ", ".join(survey.front)}


def measure_long(run: Run) -> Claim:
    data = real("ml-100k")
    systems = {
        "chance": chance(data, run),
        "popularity": Popularity(),
        "item-knn": ItemKNN(),
        "co-visitation": CoVisitation(distance_power=0.0, reverse=0.0),
    }
    survey = EvaluationSurvey().run(data, systems, run)
    report = survey.report
    tests = {
        (one.a, one.b): one
        for base in ("chance", "popularity")
        for one in compare(report, base, ["NDCG@10"], seed=run.seed)
    }
    novelty = {name: report.results[name, "removed"].lists["novelty_bits"] for name in systems}
    coverage = {name: report.results[name, "removed"].lists["coverage"] for name in systems}
    undefined = {name: bool(np.isnan(ask())) for name, ask in UNDEFINED.items()}
    checks = {
        "NDCG@10: co-visitation above popularity, interval and Holm's p": above(
            tests["popularity", "co-visitation"]
        ),
        "NDCG@10: popularity above chance, interval and Holm's p": above(
            tests["chance", "popularity"]
        ),
        "coverage: chance above item-knn above popularity": coverage["chance"]
        > coverage["item-knn"]
        > coverage["popularity"],
        "novelty: chance above popularity": novelty["chance"] > novelty["popularity"],
        f"all {len(undefined)} undefined cases are NaN": all(undefined.values()),
        "users without a value are counted for every metric": set(survey.undefined)
        == set(report.metrics),
        "graded metrics equal trec_eval to 1e-9 on random runs": far_from_trec(run) < 1e-9,
    }
    comparisons = [one.to_dict() for one in tests.values()]
    return Claim(
        checks,
        {
            **survey.to_dict(),
            "strata": None,
            "comparisons": comparisons,
            "largest distance to trec_eval": far_from_trec(run),
        },
        [run.seed],
        ["ml-100k"],
    )


def above(test) -> bool:
    return test.is_significant and test.low > 0


def chance(data, run: Run) -> ExternalRun:
    """900 random items for every user: enough to leave ten after the seen ones are removed, since
    nobody has more than 737.
    """
    users, _ = last_out(data).queries("test")
    rng = run.rng("chance")
    rows = [rng.permutation(len(data.catalogue))[:900] for _ in users.user_ids]
    table = pl.DataFrame(
        {
            "user_id": np.repeat(users.user_ids.tolist(), 900),
            "item_id": data.catalogue.named(np.concatenate(rows)),
            "score": np.tile(-np.arange(900.0), len(rows)),
        }
    )
    return ExternalRun(table)


def far_from_trec(run: Run) -> float:
    """The largest difference of any value of 300 random graded runs from what trec_eval (through
    ir-measures) says.
    """
    import ir_measures
    from ir_measures import AP, RR, Bpref, P, R, Rprec, nDCG

    from tailor.metrics.battery import per_user

    rng = run.rng("golden")
    measures = {
        "MAP-uncapped@100": AP,
        "NDCG@5": nDCG @ 5,
        "NDCG@100": nDCG,
        "MRR@100": RR,
        "precision@5": P @ 5,
        "recall@5": R @ 5,
        "R-precision@100": Rprec,
        "bpref@100": Bpref,
    }
    rows, offsets, targets, grades, judged, shown = np.full((300, 12), -1), [0], [], [], {}, {}
    for user in range(300):
        own, items = (
            rng.permutation(40)[: rng.integers(1, 15)],
            rng.permutation(40)[: rng.integers(1, 13)],
        )
        given = rng.integers(0, 4, len(own))
        given[0] = 1
        rows[user, : len(items)] = items
        targets += own.tolist()
        grades += given.tolist()
        offsets.append(len(targets))
        judged[str(user)] = {str(item): int(grade) for item, grade in zip(own, given, strict=True)}
        shown[str(user)] = {str(item): -float(rank) for rank, item in enumerate(items)}
    ours = per_user(
        rows,
        np.array(offsets),
        np.array(targets),
        (5, 100),
        sorted({name.partition("@")[0] for name in measures}),
        grades=np.array(grades, float),
    )
    names = {str(measure): name for name, measure in measures.items()}
    return max(
        abs(ours[names[str(one.measure)]][int(one.query_id)] - one.value)
        for one in ir_measures.iter_calc(list(measures.values()), judged, shown)
    )

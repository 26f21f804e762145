"""RerankerStudy on DL19, Cranfield, CACM, NPL, lists of ml-100k and generated questions.

Lists of 20 documents of at most 200 words, whatever the method. Students have learned on CACM and
are not judged there. The small local language model orders a few shorter lists by every strategy,
fewer still by those that compare. A scripted judge that errs shows every strategy under faults.
"""

import json
import sys
from dataclasses import asdict, replace
from math import comb
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).parents[1]))

from shared_data import dl19, judged, real

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.llm.local import LocalModel
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.e2rank import E2Rank
from tailor.papers.reranking.erank import ERankStudent
from tailor.papers.reranking.prism_reranker import PrismReranker
from tailor.papers.reranking.rank_r1 import RankR1Student
from tailor.papers.reranking.reranker_study import (
    BEST,
    CHANCE,
    GIVEN,
    RerankerReport,
    RerankerStudy,
    continued_share,
)
from tailor.reranking.llm_reranker import StrategyName
from tailor.reranking.reranker import Reranker
from tailor.text.hashing import HashingEncoder
from tailor.worlds.novel import novel_world

DEPTH, WORDS, TIMED, USERS = 20, 200, 1, 100
TAUGHT_ON = "cacm"
BY_EVENTS = "ml-100k"  # lists of co-visitation, judged by what users chose next
GIVEN_NDCG, BEST_NDCG = 0.5058, 0.7262  # of DL19's lists, known beforehand
TOLERANCE = 1e-4
LM_DEPTH, LM_WORDS, LM_MINUTES = 10, 80, 30.0
COMPARING = ("set-heap", "set-bubble", "pair-heap", "pair-bubble", "pairs")
SINGLE = tuple(name for name in get_args(StrategyName) if name not in COMPARING)
LM_LISTS = {SINGLE: 3, COMPARING: 1}  # a comparing strategy reads ten times as much
NOVEL = 40
PROBED = 5


def measure(run: Run) -> Claim:
    """Measure every collection, join the reports, and repeat DL19."""
    students = taught(run)
    methods: dict[str, Reranker] = {**untaught(), **students}
    study = RerankerStudy(DEPTH, WORDS, users=USERS, probed=0, timed=TIMED)
    waiting = replace(study, noise=())
    reports = [replace(study, novel=NOVEL).run(dl19(), methods, run)]
    reports += [waiting.run(judged(name, DEPTH), methods, run) for name in ("cranfield", "npl")]
    reports.append(waiting.run(judged(TAUGHT_ON, DEPTH), untaught(), run))
    reports.append(replace(waiting, by="time").run(real(BY_EVENTS), methods, run))
    report = RerankerReport.joined(reports)
    again = waiting.run(dl19(), methods, run)
    by_model = [on_few_lists(*pair, run) for pair in LM_LISTS.items()]
    cells = {(cell.collection, cell.method): cell for cell in report.cells}
    possible = sum(
        comb(sum(c.collection == name and c.method != BEST for c in report.cells), 2)
        for name in report.collections
    )
    checks = {
        f"DL19: the first stage has {GIVEN_NDCG}": (
            abs(cells["dl19", GIVEN].ndcg - GIVEN_NDCG) <= TOLERANCE
        ),
        f"DL19: the best possible order has {BEST_NDCG}": (
            abs(cells["dl19", BEST].ndcg - BEST_NDCG) <= TOLERANCE
        ),
        "chance is below BM25's order in every judged collection": all(
            cells[name, CHANCE].ndcg < cells[name, GIVEN].ndcg
            for name in report.collections
            if name != BY_EVENTS
        ),
        "every pair of methods has a p-value, corrected over all": (
            len(report.pairs) == possible and all(0 < pair.p <= 1 for pair in report.pairs)
        ),
        "every method has a cell in every collection": is_complete(report, methods, students),
        "every strategy of the local model has a cell": (
            not any(part.unmade for part in by_model)
            and {cell.method for part in by_model for cell in part.cells}
            >= {f"LM {name}" for name in get_args(StrategyName)}
        ),
        "a second run gives the same figures": same_figures(report, again),
    }
    figures = {
        **{
            name: value
            for name, value in report.to_dict().items()
            if name not in ("pairs", "continued", "unmade")
        },
        "over first stage": [
            {
                "collection": p.collection,
                "method": p.b,
                "difference": round(p.difference, 4),
                "p": p.p,
            }
            for p in report.pairs
            if p.a == GIVEN
        ],
        "language model": {
            "setting": by_model[0].setting,
            "cells": [asdict(cell) for part in by_model for cell in part.cells],
            "unmade": [name for part in by_model for name in part.unmade],
        },
        "continued by heart": {"dl19": round(by_heart(), 4)},
        "comparisons": len(report.pairs),
        "significant": sum(pair.p < 0.05 for pair in report.pairs),
        "taught on": {name: TAUGHT_ON for name in students},
    }
    return Claim(checks, figures, [run.seed], ["dl19", "cranfield", "npl", "cacm", "ml-100k"])


def untaught() -> dict[str, Reranker]:
    """Return the methods that need an encoder and no labels."""
    return {
        "cosine": E2Rank(feedback_weight=0.0),
        "cosine with first stage": E2Rank(feedback_weight=0.0, prior_weight=0.5),
        "E2Rank": E2Rank(),
        "PrismReranker": PrismReranker(described=0),
    }


def taught(run: Run) -> dict[str, Reranker]:
    """Return the students, taught by the judgements of CACM."""
    data = judged(TAUGHT_ON, DEPTH)
    students: dict[str, Reranker] = {
        "ERankStudent": ERankStudent(depth=DEPTH),
        "RankR1Student": RankR1Student(depth=DEPTH),
    }
    return {name: student.fit(data, run) for name, student in students.items()}


def on_few_lists(strategies: tuple[str, ...], lists: int, run: Run) -> RerankerReport:
    """Return the first lists of DL19 by strategies of the small local model, in short numbers."""
    data = dl19()
    few = {**data.tables, "requests": data.tables["requests"].head(lists)}
    study = RerankerStudy(
        LM_DEPTH,
        LM_WORDS,
        llm=LocalModel(precision="fast"),
        strategies=strategies,
        minutes=LM_MINUTES,
        noise=(),
        probed=0,
    )
    return study.run(Dataset(few, "dl19"), {}, run)


def by_heart() -> float:
    """Return how much of a few passages of DL19 the local model can say by heart."""
    texts = dl19().item_texts[:PROBED]
    return continued_share(LocalModel(), texts)


def is_complete(
    report: RerankerReport, methods: dict[str, Reranker], students: dict[str, Reranker]
) -> bool:
    """Say whether every method has a cell in every collection, students where they may."""
    wanted = {
        (name, method)
        for name in report.collections
        for method in (*methods, GIVEN, CHANCE, BEST)
        if not (name == TAUGHT_ON and method in students)
    }
    return wanted == {(cell.collection, cell.method) for cell in report.cells}


def same_figures(report: RerankerReport, again: RerankerReport) -> bool:
    """Say whether a second run has the values of the first, query by query."""
    return all(
        (report.values[key] == values).all() for key, values in again.values.items()
    ) and all(
        replace(cell, ms=None) == replace(report.cell(cell.collection, cell.method), ms=None)
        for cell in again.cells
    )


def behave(run: Run) -> dict[str, float | str]:
    """Return the figures of a small study on generated questions."""
    study = RerankerStudy(6, 9, llm=ScriptedModel({"lantern": 1.0}, noise=0.3), judged=3, timed=1)
    data: Dataset = novel_world(60, 8)
    report = study.run(data, {"E2Rank": E2Rank(encoder=HashingEncoder(32))}, run)
    figures: dict[str, float | str] = {
        f"{cell.method} on {cell.collection}": cell.ndcg for cell in report.cells
    }
    figures |= {f"{cell.strategy}, {cell.fault}": cell.ndcg for cell in report.noise}
    return figures | {"pairs": json.dumps([round(pair.p, 3) for pair in report.pairs[:5]])}

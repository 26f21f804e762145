"""Rank-R1 with scripted pickers on NPL's lists of 100; then the policy that learns picks on NPL,
judged on Cranfield, by rewards of 0 and 1 against the labels themselves.

The biased picker loses worth with every line it reads. `both_ways` was chosen on Cranfield's lists
with the same picker, so NPL's are other data.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import seeded
from judged_lists import JudgedList, above, judged_lists, ndcg_of
from shared_data import judged

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.rank_r1 import RankR1, RankR1Student

SEEDS = [0, 1, 2]
LISTS = 40  # of NPL, that scripted pickers sort
BIAS = 0.1  # worth that a line gains over the line below it; a fitting document is worth 1
TIE_BREAK = 1e-4  # worth of a list's last place, so that no two documents are equal
SHARES = (0.18, 0.5, 1.0)  # of the queries with labels that are learned from
DEPTH = 50


def measure(run: Run) -> Claim:
    """Scripted pickers on NPL; policies learned on NPL and judged on Cranfield, three runs."""
    scripted = scripted_row(judged_lists("npl", 100)[:LISTS])
    lists = judged_lists("cranfield", DEPTH)
    data = judged("npl", DEPTH)
    policies = [policy_row(lists, data, seeded(run, seed)) for seed in SEEDS]
    checks = {
        "a perfect picker's ten are the ten best of every list": scripted["exact"],
        "calls are within the bound, in every list": scripted["within the bound"],
        "both ways regain 80 % of what the bias costs": scripted["regained"]["both ways"] >= 0.8,
        **{
            f"{share:.0%} of the labels: rewards reach 95 % of labels, three runs": all(
                row[f"{share:.0%}"]["reward"] >= 0.95 * row[f"{share:.0%}"]["labels"]
                for row in policies
            )
            for share in SHARES
        },
    }
    figures = {"NPL, scripted": scripted, "Cranfield, learned on NPL": policies}
    return Claim(checks, figures, SEEDS, ["npl", "cranfield"])


def scripted_row(lists: Sequence[JudgedList]) -> dict:
    """Return nDCG@10 and calls of pickers: perfect, biased, biased but shown otherwise."""
    forms = {
        "perfect": (RankR1(), 0.0),
        "biased": (RankR1(), BIAS),
        "biased, shuffled": (RankR1(shuffled=True), BIAS),
        "both ways": (RankR1(both_ways=True), BIAS),
    }
    values, calls = {}, {}
    is_exact = is_bounded = True
    for name, (form, bias) in forms.items():
        orders, counts = [], []
        for of_query in lists:
            n = len(of_query.grades)
            worths = of_query.grades - TIE_BREAK * np.arange(n) / n
            result = sort(form, of_query, worths, bias)
            orders.append(result.order)
            counts.append(len(result.trace))
            is_bounded &= counts[-1] <= bound(n, form) * (4 if form.both_ways else 1)
            if name == "perfect":
                is_exact &= result.order[:10].tolist() == np.argsort(-worths)[:10].tolist()
        values[name] = ndcg_of(lists, orders)
        calls[name] = round(float(np.mean(counts)), 1)
    given = ndcg_of(lists, [np.arange(len(q.grades)) for q in lists])
    means = {name: float(v.mean()) for name, v in values.items()} | {"given": float(given.mean())}
    lost = means["perfect"] - means["biased"]
    return {
        "nDCG@10": {name: round(value, 4) for name, value in means.items()},
        "calls": calls,
        "exact": is_exact,
        "within the bound": is_bounded,
        "regained": {
            name: round((means[name] - means["biased"]) / lost, 3) if lost else None
            for name in ("biased, shuffled", "both ways")
        },
        "both ways over biased": above(values["both ways"], values["biased"]),
    }


def bound(n: int, form: RankR1) -> int:
    """Return the most questions of a heap: (I + k)(h - 1), I inner nodes on h levels."""
    arity = form.group - 1
    inner = math.ceil((n - 1) / arity)
    levels, below = 1, 1
    nodes = 1
    while nodes < n:
        below *= arity
        nodes += below
        levels += 1
    return (inner + form.top) * (levels - 1)


def sort(form: RankR1, of_query: JudgedList, worths: np.ndarray, bias: float):
    texts = tuple(f"document {doc:03d}" for doc in range(len(worths)))
    llm = ScriptedModel(knows=dict(zip(texts, worths.tolist())), position_bias=bias)
    sorter = RankR1(**(form.params() | {"llm": llm}))
    return sorter.rerank([replace(of_query.shortlist, texts=texts)], trace=True)[0]


def policy_row(lists: Sequence[JudgedList], data: Dataset, run: Run) -> dict:
    """Return nDCG@10 of the lists by share of the data's labels and teacher."""
    shortlists = [of_query.shortlist for of_query in lists]
    given = ndcg_of(lists, [np.arange(len(q.grades)) for q in lists])
    row: dict = {"seed": run.seed, "given": round(float(given.mean()), 4)}
    for share in SHARES:
        part = share_of(data, share, run)
        values, reports = {}, {}
        for teacher in ("labels", "reward"):
            student = RankR1Student(depth=DEPTH, teacher=teacher).fit(part, run)
            values[teacher] = ndcg_of(lists, [r.order for r in student.rerank(shortlists)])
            reports[teacher] = student.fit_report_
        row[f"{share:.0%}"] = {
            **{teacher: round(float(v.mean()), 4) for teacher, v in values.items()},
            "reward over labels": above(values["reward"], values["labels"]),
            "reward over the given order": above(values["reward"], given),
            "lists": reports["reward"]["lists"],
            "sets of equal rewards": reports["reward"]["sets_of_equal_rewards"],
        }
    return row


def share_of(data: Dataset, share: float, run: Run) -> Dataset:
    """Return the data with a random share of its requests."""
    requests = data.tables["requests"]
    rows = run.rng("share of labels").permutation(len(requests))[: round(share * len(requests))]
    return Dataset({**data.tables, "requests": requests[np.sort(rows)]}, data.name)

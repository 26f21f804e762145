"""Explanations on Beauty: do items fall without the evidence named for them, and do counterfactuals
hold when asked again?

`python benchmarks/explanations.py` writes benchmarks/results/explanations.json. Fitted on the
training part; the histories are those that the test is asked with; 500 people drawn by chance among
those with 2 different items or more; the first three items of each one's list, seen items removed.
"""

import time
from dataclasses import asdict, replace

import numpy as np
from shared_data import real_split
from writing import write_result

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.nouns import Evidence, Explanation, History, Query
from tailor.evaluation.explanations import (
    DEPTH,
    DRAWS,
    RankDrop,
    counterfactual,
    explain_rankings,
    rank_drops,
)
from tailor.evaluation.significance import bootstrap, paired_test
from tailor.pipeline.default import counting_pipeline
from tailor.retrieval.covisitation import CoVisitation

PEOPLE, ITEMS, K = 500, 3, 10


def main() -> None:
    run = Run()
    split = real_split("beauty")
    queries, _ = split.queries("test")
    lengths = [len(set(queries[i].history.item_ids)) for i in range(len(queries))]
    chosen = np.sort(run.rng("people").permutation(np.flatnonzero(np.array(lengths) > 1))[:PEOPLE])
    people = [replace(queries[int(i)], exclude=queries[int(i)].history.item_ids) for i in chosen]
    figures: dict[str, object] = {
        "people": len(people),
        "items_each": ITEMS,
        "draws": DRAWS,
        "depth": DEPTH,
        "k": K,
        "split": split.report["kind"],
    }
    for name, method in {
        "default pipeline": counting_pipeline(),
        "CoVisitation": CoVisitation(),
    }.items():
        figures[name] = measure(method.fit(split.train, run, split), people, run)
    print(write_result("explanations", run.seed, "python benchmarks/explanations.py", figures))


def measure(method: Recommender, people: list[Query], run: Run) -> dict:
    lists = method.recommend(people, ITEMS)
    told = explain_rankings(method, people, lists)
    started = time.perf_counter()
    honest = fall_figures(method, people, told, run)
    seconds = time.perf_counter() - started
    liar = fall_figures(
        method,
        people,
        [
            [lie(query, one, run) for one in of_query]
            for query, of_query in zip(people, told, strict=True)
        ],
        run,
    )
    return {
        "evidence": honest,
        "control: evidence drawn by chance from the history": liar,
        "falls_seconds": round(seconds, 2),
        "counterfactuals": counterfactuals(method, people, run),
    }


def lie(query: Query, explanation: Explanation, run: Run) -> Explanation:
    """As many items of the history as are named, but any."""
    items = sorted(set(query.history.item_ids))
    drawn = (
        run.rng("lie", query.user_id or "", explanation.item_id)
        .permutation(len(items))[: len(explanation.evidence)]
        .tolist()
    )
    evidence = (
        Evidence(one.kind, items[at], one.share)
        for one, at in zip(explanation.evidence, drawn, strict=False)
    )
    return replace(explanation, evidence=tuple(evidence))


def fall_figures(
    method: Recommender, people: list[Query], told: list[list[Explanation]], run: Run
) -> dict:
    """Standings (1 / log2(1 + rank), 0 below the depth) with all, without the evidence and without
    others: means over each person's items, then over people.
    """
    flat = [
        (i, query, one)
        for i, (query, of_query) in enumerate(zip(people, told, strict=True))
        for one in of_query
    ]
    found = rank_drops(method, [query for _, query, _ in flat], [one for _, _, one in flat], run)
    values = np.full((len(people), ITEMS, 4), np.nan)
    filled = np.zeros(len(people), int)
    gone = []
    for (i, _, _), fall in zip(flat, found, strict=True):
        if fall is not None:
            values[i, filled[i]] = row(fall)
            filled[i] += 1
            gone.append(
                (
                    fall.rank_without is None or fall.rank_without > K,
                    np.mean([rank is None or rank > K for rank in fall.ranks_random]),
                )
            )
    means = np.nanmean(values[filled > 0], axis=1)
    low, high = bootstrap(np.c_[means, means[:, 1] - means[:, 2]], seed=run.seed)
    names = ["standing", "standing_without_others", "standing_without_evidence", "faithfulness"]
    out = {
        name: {
            "mean": round(float(means[:, at].mean()), 4),
            "low": round(low[at], 4),
            "high": round(high[at], 4),
        }
        for at, name in enumerate(names)
    }
    out["others_minus_evidence"] = {
        "mean": round(float((means[:, 1] - means[:, 2]).mean()), 4),
        "low": round(low[4], 4),
        "high": round(high[4], 4),
        "p": paired_test(means[:, 1], means[:, 2], seed=run.seed),
    }
    share_gone = np.array(gone, float).mean(axis=0)
    return {
        **out,
        "people_measured": int((filled > 0).sum()),
        "items_measured": len(gone),
        "items_explained": len(flat),
        f"leave_the_first_{K}_without_evidence": round(float(share_gone[0]), 4),
        f"leave_the_first_{K}_without_others": round(float(share_gone[1]), 4),
    }


def row(fall: RankDrop) -> tuple[float, float, float, float]:
    def height(rank: int | None) -> float:
        return 0.0 if rank is None else 1 / np.log2(1 + rank)

    return (
        height(fall.rank),
        float(np.mean([height(one) for one in fall.ranks_random])),
        height(fall.rank_without),
        fall.figure,
    )


def counterfactuals(method: Recommender, people: list[Query], run: Run) -> dict:
    """For the first item of each list; every answer is asked again, alone, with a query made from
    the ids.
    """
    started = time.perf_counter()
    firsts = [one.ids[0] for one in method.recommend(people, 1)]
    found = [
        counterfactual(method, query, item, K) for query, item in zip(people, firsts, strict=True)
    ]
    seconds = time.perf_counter() - started
    held = 0
    for query, one in zip(people, found, strict=True):
        if one.is_found:
            left = [item for item in query.history.item_ids if item not in one.removed]
            answer = method.recommend(
                [Query(history=History(tuple(left)), exclude=query.exclude)], K
            )[0]
            held += one.item_id not in answer.ids
    sizes = np.array([len(one.removed) for one in found if one.is_found])
    n = len(sizes)
    return {
        "asked": len(found),
        "found": n,
        "verified": held,
        "share_verified": held / n if n else None,
        "smallest_for_certain": sum(one.is_smallest for one in found if one.is_found),
        "sizes": {str(size): int((sizes == size).sum()) for size in np.unique(sizes)},
        "seconds": round(seconds, 2),
        "example": asdict(next(one for one in found if one.is_found)),
    }


if __name__ == "__main__":
    main()

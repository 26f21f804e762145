"""A judge that is right in 80 % of pairs orders the shop pipeline's top 50.

    python benchmarks/scripted_judge.py

The planted shop, 3,000 users, counting pipeline, last item held out, 30 users drawn. A scripted model is shown items
side by side, and knows the one that the user chose next, but errs: of two lines it prefers the
right one in 80 % of all prompts. Lists without that item stay as they are, and count as 0.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
from judged_lists import JudgedList, above, ndcg_of
from writing import write_result

from tailor.core.run import Run
from tailor.data.splits import split_by
from tailor.evaluation.significance import paired_tests
from tailor.llm.scripted import ScriptedModel
from tailor.pipeline.default import counting_pipeline
from tailor.reranking.llm_reranker import LLMReranker
from tailor.reranking.shortlist import Reranked
from tailor.worlds.shop import shop

USERS, ITEMS, JUDGED, DEPTH = 3_000, 800, 30, 50
RIGHT = 0.8  # share of pairs
STRATEGIES = ("pairs", "pair-heap", "groups", "set-heap", "windows")
DRAWS = 10_000
# the difference of two errors decides whether a line of worth 1 stands above one of worth 0
ERROR = 1 / (2**0.5 * NormalDist().inv_cdf(RIGHT))


def main() -> None:
    run = Run()
    lists, users = shop_lists(run)
    judge = ScriptedModel(
        knows={_name(i, int(np.argmax(item.grades))): 1.0 for i, item in enumerate(lists)},
        noise=ERROR,
    )
    given = ndcg_of(lists, [np.arange(len(item.grades)) for item in lists])
    figures: dict[str, Any] = {
        "users": users,
        "lists with the item": len(lists),
        "pipeline": round(float(given.sum() / users), 4),
    }
    for strategy in STRATEGIES:
        reranker = LLMReranker(llm=judge, strategy=strategy, depth=DEPTH)
        results = reranker.rerank([item.shortlist for item in lists], trace=strategy == "pairs")
        if strategy == "pairs":
            figures["pairs answered rightly"] = round(share_right(lists, results), 4)
        values = ndcg_of(lists, [result.order for result in results])
        figures[strategy] = of_strategy(values, given, users, results, run)
        print(strategy, figures[strategy])
    print(write_result("scripted-judge", run.seed, "python benchmarks/scripted_judge.py", figures))


def of_strategy(
    values: np.ndarray, given: np.ndarray, users: int, results: Sequence[Reranked], run: Run
) -> dict[str, Any]:
    """Return the figures of a strategy over all users, those without the item in their list too."""
    rest = np.zeros(users - len(values))
    values, given = np.r_[values, rest], np.r_[given, rest]
    return {
        "NDCG@10": round(float(values.mean()), 4),
        **above(values, given, run.seed),
        "p": float(paired_tests((values - given)[:, None], DRAWS, run.seed)[0]),
        "calls a list": round(float(np.mean([result.spent.calls for result in results])), 1),
    }


def shop_lists(run: Run) -> tuple[list[JudgedList], int]:
    """Return the top 50 of drawn users that hold the item chosen next, and how many were drawn."""
    split = split_by(shop(users=USERS, items=ITEMS, seed=run.seed).data, "last")
    pipeline = counting_pipeline().fit(split.train, run, split)
    queries, targets = split.queries("test")
    drawn = run.rng("users").permutation(len(queries))[:JUDGED]
    queries = queries.take(drawn)
    rankings = pipeline.recommend(queries, DEPTH)
    reader = LLMReranker(depth=DEPTH).fit(split.train, run)
    lists = []
    for i, shortlist in enumerate(reader.shortlists(queries, rankings)):
        chosen = set(queries.catalogue.named(targets[int(drawn[i])]))
        ids = rankings.catalogue.named(rankings.rows[i, : len(shortlist)])
        grades = np.array([float(item in chosen) for item in ids])
        if grades.any():
            texts = [f"{_name(len(lists), doc)} {t}" for doc, t in enumerate(shortlist.texts)]
            named = replace(shortlist, texts=tuple(texts), history=(), profile=None)
            lists.append(JudgedList(named, grades, np.ones(len(chosen))))
    return lists, len(drawn)


def share_right(lists: Sequence[JudgedList], results: Sequence[Reranked]) -> float:
    """Return the share of answered pairs with the item chosen next in which it was preferred."""
    right = []
    for item, result in zip(lists, results, strict=True):
        for exchange in result.trace:
            grades = item.grades[list(exchange.docs)]
            if len(grades) == 2 and grades.sum() == 1:
                best = int(np.argmax(grades)) + 1
                right.append(f'"best": {best}' in exchange.answer)
    return float(np.mean(right))


def _name(of_list: int, doc: int) -> str:
    return f"item {of_list:04d} {doc:02d};"


if __name__ == "__main__":
    main()

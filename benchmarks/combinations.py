"""The best offline combination against BM25 on four judged collections, one left out at a time.

    python benchmarks/combinations.py

Words order the first 100 documents (DL19: the 20 that come with it). `E2Rank` orders them again by
MiniLM, with feedback, and is blended with the words. Its settings are those with the highest mean
NDCG@10 on the three other collections: nothing is chosen on the one that judges.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from judged_lists import JudgedList, above, judged_lists, ndcg_by, with_prior
from writing import write_result

from tailor.core.defaults import encoder
from tailor.core.run import Run
from tailor.evaluation.significance import holm, paired_tests
from tailor.papers.reranking.e2rank import E2Rank
from tailor.reranking.pair_features import list_vectors

COLLECTIONS = ("dl19", "npl", "cranfield", "cacm")
ORDERS, FEEDBACK, FEEDBACK_WEIGHTS = ("first stage", "both"), (3, 5, 10), (0.4, 0.8)
PRIOR_WEIGHTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DEPTH, DRAWS = 100, 10_000


def settings() -> list[dict[str, Any]]:
    """Return all settings tried, the plain cosine first."""
    names = ("order", "feedback", "feedback_weight")
    grid = itertools.product(ORDERS, FEEDBACK, FEEDBACK_WEIGHTS)
    return [{"feedback_weight": 0.0}, *(dict(zip(names, row, strict=True)) for row in grid)]


def tried(lists: list[JudgedList]) -> dict[tuple[int, float], float]:
    """Return the mean NDCG@10 by number of the settings and weight of the words."""
    vectors = list_vectors(encoder(), [item.shortlist for item in lists])
    means = {}
    for number, values in enumerate(settings()):
        method = E2Rank(**values)
        reads = [
            method._read(item.shortlist, own) for item, own in zip(lists, vectors, strict=True)
        ]
        scores = [method._list_scores(read) for read in reads]
        for weight in PRIOR_WEIGHTS:
            blend = with_prior(lists, scores, weight)
            means[number, weight] = float(ndcg_by(lists, blend).mean())
    return means


def judged(name: str, lists: list[JudgedList], means: Mapping[str, Any], run: Run) -> dict:
    """Return the figures of a collection by the settings that are best on the others."""
    others = [means[other] for other in COLLECTIONS if other != name]
    number, weight = max(others[0], key=lambda option: sum(part[option] for part in others))
    chosen = settings()[number] | {"prior_weight": weight}
    results = E2Rank(depth=DEPTH, **chosen).rerank([item.shortlist for item in lists])
    values = ndcg_by(lists, [result.scores for result in results])
    words = ndcg_by(lists, [item.shortlist.prior for item in lists])
    return {
        "queries": len(lists),
        "settings": chosen,
        "BM25": round(float(words.mean()), 4),
        "combination": round(float(values.mean()), 4),
        **above(values, words, run.seed),
        "p": float(paired_tests((values - words)[:, None], DRAWS, run.seed)[0]),
    }


def main() -> None:
    run = Run()
    lists = {name: judged_lists(name, DEPTH) for name in COLLECTIONS}
    means = {name: tried(of_name) for name, of_name in lists.items()}
    figures = {name: judged(name, of_name, means, run) for name, of_name in lists.items()}
    corrected = holm([row["p"] for row in figures.values()])
    for (name, row), p in zip(figures.items(), np.asarray(corrected).tolist(), strict=True):
        row["p (Holm)"] = round(p, 4)
        print(name, row)
    print(write_result("combinations", run.seed, "python benchmarks/combinations.py", figures))


if __name__ == "__main__":
    main()

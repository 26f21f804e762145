"""Diversify on the planted shop: how much more varied lists become, and what it costs.

`python benchmarks/diversity.py` writes benchmarks/results/diversity.json. 3,000 people, 800 items,
default pipeline, views only, fitted on train; the strength would be chosen on validation, so both
parts are shown. Variety is the mean 1 - cosine of the items' words over the pairs of a list of ten.
"""

import numpy as np
from writing import write_result

from tailor.core.run import Run
from tailor.data.splits import split_by
from tailor.evaluation.protocol import compare, evaluate
from tailor.evaluation.significance import bootstrap
from tailor.metrics.lists import intra_list_diversity
from tailor.pipeline.default import counting_pipeline
from tailor.reranking.mmr import Diversify
from tailor.text.tfidf import tfidf
from tailor.worlds.shop import shop


def main() -> None:
    run = Run()
    data = shop(users=3000, items=800, seed=run.seed).data
    split = split_by(data, "last", "view")
    vectors = tfidf(data.item_texts)
    methods = {"as it is": counting_pipeline().fit(split.train, run, split)}
    for similarity, strength in (
        ("texts", 0.1),
        ("texts", 0.2),
        ("texts", 0.3),
        ("texts", 0.5),
        ("categories", 0.1),
        ("categories", 0.2),
    ):
        methods[f"{similarity} {strength}"] = Diversify(
            counting_pipeline(), strength, similarity=similarity
        ).fit(split.train, run, split)
    figures: dict[str, object] = {"split": split.report["kind"]}
    for part in ("valid", "test"):
        asked = split.queries(part)[0].without_history()
        report = evaluate(methods, split, part, run=run)
        tests = {
            (one.b, one.metric): one for one in compare(report, "as it is") if one.seen == "removed"
        }
        rows = []
        for name, method in methods.items():
            variety = intra_list_diversity(
                method.recommend(asked, 10).reindexed(data.catalogue).rows, vectors
            )
            low, high = bootstrap(variety[:, None], seed=run.seed)
            row = {
                "method": name,
                "NDCG@10": round(report.mean(name, "NDCG@10"), 4),
                "HR@10": round(report.mean(name, "HR@10"), 4),
                "diversity": round(float(np.nanmean(variety)), 4),
                "diversity_interval": [round(low[0], 4), round(high[0], 4)],
            }
            if (name, "NDCG@10") in tests:
                one = tests[name, "NDCG@10"]
                row |= {
                    "NDCG_difference": round(one.difference, 4),
                    "interval": [round(one.low, 4), round(one.high, 4)],
                    "p_holm": round(one.p_holm, 4),
                }
            rows.append(row)
        figures[part] = rows
    print(write_result("diversity", run.seed, "python benchmarks/diversity.py", figures))


if __name__ == "__main__":
    main()

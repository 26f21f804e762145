"""A predictor as the second stage of a pipeline: NDCG@10 beside the first stage alone.

    python benchmarks/second_stage.py

Beauty, leave-last-out: the predictor learns from the first stage's lists. The planted shop, cut in
time: it learns from impressions. Each is also ordered by the prediction alone, which shows what
keeping the first score is worth.
"""

import json

from claim_tools import lead
from shared_data import real
from writing import write_result

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.splits import Split, by_time, last_out
from tailor.evaluation.protocol import evaluate
from tailor.pipeline.by_prediction import ByPrediction
from tailor.pipeline.cascade import Cascade
from tailor.ranking.behaviours import MeanInterest
from tailor.retrieval.covisitation import CoVisitation
from tailor.worlds.shop import shop

DEPTH = 50
SEEDS = (0, 1, 2)


def main() -> None:
    figures = {
        "beauty": row(last_out(real("beauty")), "listed", negatives=4),
        "shop": [row(by_time(shop(2_000, 600, 90, seed=seed).data), "shown") for seed in SEEDS],
    }
    print(json.dumps(figures, indent=1))
    print(write_result("second-stage", 0, "python benchmarks/second_stage.py", figures))


def row(split: Split, source: str, negatives: int = 1) -> dict[str, object]:
    """Return NDCG@10 of first stage, cascade, and the prediction alone, with leads."""

    def predictor() -> MeanInterest:
        return MeanInterest(source=source, negatives=negatives, history=20, epochs=6, lr=3e-3)

    methods: dict[str, Recommender] = {
        "first stage": CoVisitation(),
        "second stage": Cascade(CoVisitation(), ByPrediction(predictor()), DEPTH),
        "prediction alone": Cascade(
            CoVisitation(), ByPrediction(predictor(), keep_first=False), DEPTH
        ),
    }
    run = Run(seed=0, workers=1)
    fitted = {name: method.fit(split.train, run) for name, method in methods.items()}
    report = evaluate(fitted, split, k=(10,), seen=("removed",))
    return {
        **{name: round(report.mean(name, "NDCG@10", "removed"), 4) for name in methods},
        "lead": lead(report, "second stage", "first stage", "NDCG@10"),
        "weights": fitted["second stage"].rank_.fit_report_["weights"],
    }


if __name__ == "__main__":
    main()

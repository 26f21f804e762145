"""What rewards teach: reward, accuracy, divergence and entropy round by round, by objective.

    python benchmarks/alignment_curves.py

Planted visits, whose slates ignore what people like. TIGER learns the clicks; then each objective
teaches a copy by the planted probability of an order. The log it keeps to is the training part, the
accuracy is HR@10 of the validation part. Draws docs/plots/alignment.svg.
"""

import numpy as np
import torch
from writing import ROOT, write_result

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import last_out
from tailor.evaluation.protocol import evaluate
from tailor.generative.speller_policy import Prompts
from tailor.generative.tiger import TIGER
from tailor.text.hashing import HashingEncoder
from tailor.training.alignment import Alignment
from tailor.training.alignment_plot import curves_svg
from tailor.worlds.facet_visits import facet_visits

OBJECTIVES = ("grpo", "ecpo", "dpo", "s-dpo")
PLOT = ROOT / "docs" / "plots" / "alignment.svg"


def main() -> None:
    """Print first and last round of each objective, and the worth of its lists."""
    torch.set_num_threads(1)
    world = facet_visits(600, 8, seed=0)
    clicks = world.data.tables["events"].filter(world.data.tables["events"]["action"] == "click")
    tables = {
        "events": clicks.select("user_id", "item_id", "time_ms"),
        "items": world.data.item_table,
    }
    split = last_out(Dataset(tables, catalogue=world.data.catalogue, users=world.data.users))
    run = Run(workers=1)
    model = TIGER(encoder=HashingEncoder(128), width=64, epochs=30, patience=None)
    model.fit(split.train, run)
    to_world = world.data.catalogue.rows(model.items_.ids.tolist())
    orders = world.truth.probabilities(np.arange(len(world.data.users)))[:, :, 2][:, to_world]
    people = world.data.users.rows(split.train.users.ids.tolist())

    def reward(prompts: Prompts, items: np.ndarray) -> np.ndarray:
        return orders[people[prompts.users][:, None], items]

    def accuracy(method: TIGER) -> float:
        return evaluate({"m": method}, split, "valid", seen=("kept",)).mean("m", "HR@10", "kept")

    def worth(method: TIGER) -> float:
        queries = split.queries("test")[0]
        lists = method.recommend(queries, 5).reindexed(world.data.catalogue).rows
        users = world.data.users.rows(queries.user_ids.tolist())
        return float(world.truth.utility(users, lists).mean())

    figures = {"before": {"worth of five": round(worth(model), 4), "HR@10": accuracy(model)}}
    curves = {}
    for objective in OBJECTIVES:
        settings = Alignment(objective, rounds=16, batches=8, draws=16, lr=5e-3, keep=0.5)
        taught = model.aligned(split.train, reward, settings, run, watch=accuracy)
        curves[objective] = taught.fit_report_["alignment"]["curves"]
        ends = {name: [values[0], values[-1]] for name, values in curves[objective].items()}
        figures[objective] = {
            "worth of five": round(worth(taught), 4),
            "HR@10": accuracy(taught),
        } | ends
        print(objective, figures[objective], flush=True)
    print("before", figures["before"])
    PLOT.write_text(curves_svg(curves) + "\n", encoding="utf-8")
    print(write_result("alignment-curves", 0, "python benchmarks/alignment_curves.py", figures))


if __name__ == "__main__":
    main()

"""TIGER's settings on Beauty, chosen on validation; the test part is looked at once.

    python benchmarks/tiger_settings.py

Leave-last-out, fitted on train only, all users, the whole catalogue, one random state, one thread.
A fit takes at most 15 minutes of the processor. Prints HR@10 and NDCG@10 on validation, seen items
removed, and of the best setting by NDCG@10 those on test, seen items removed and kept.
"""

from typing import Any

import torch
from claim_tools import timed_fits
from clocks import count_processor_seconds
from shared_data import real_split
from writing import write_result

from tailor.core.run import Run
from tailor.evaluation.protocol import evaluate
from tailor.generative.tiger import TIGER

BUDGET_S = 900.0
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "codes of texts and choices": {"ids_from": "both"},
    "texts and choices, dropout .4, 60 epochs": {"ids_from": "both", "dropout": 0.4, "epochs": 60},
}
METRICS = ("HR@10", "NDCG@10")


def main() -> None:
    """Print a row a setting, then the test figures of the best, and write them all."""
    torch.set_num_threads(1)
    count_processor_seconds()
    split = real_split("beauty")
    run = Run(seed=0, workers=1, deadline_s=BUDGET_S)
    rows: dict[str, dict[str, Any]] = {}
    best: TIGER | None = None
    for label, settings in SETTINGS.items():
        method = TIGER(**settings)
        took = timed_fits({label: method}, split.train, run, split)[label]
        report = evaluate({"it": method}, split, "valid", seen=("removed",))
        rows[label] = {metric: round(report.mean("it", metric), 4) for metric in METRICS}
        rows[label]["fit, s"] = took
        if rows[label]["NDCG@10"] >= max(row["NDCG@10"] for row in rows.values()):
            best, chosen = method, label
        print(label, rows[label], flush=True)
    assert best is not None
    report = evaluate({"it": best}, split)
    test = {
        seen: {metric: round(report.mean("it", metric, seen), 4) for metric in METRICS}
        for seen in ("removed", "kept")
    }
    print(chosen, test)
    figures = {"validation": rows, "chosen": chosen, "test": test}
    print(write_result("tiger-settings", 0, "python benchmarks/tiger_settings.py", figures))


if __name__ == "__main__":
    main()

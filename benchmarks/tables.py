"""docs/benchmarks.md, and the table in the README, from benchmarks/results/*.json.

python benchmarks/tables.py
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TITLES = {"beauty": "Amazon Beauty (22,363 users, 12,101 items)", "sports": "Amazon Sports (35,598 users, 18,357 items)",
          "ml-100k": "MovieLens 100k, one cut in time (80 / 10 / 10 % of the events)",
          "ml-latest-small": "MovieLens latest-small, one cut in time (80 / 10 / 10 % of the events)"}  # fmt: skip
BUDGETS = {"import tailor / import numpy": "<= 1.3", "tailor --help": "<= 0.4 s", "co-visitation, 5 M events": "<= 1.2 s, 0.6 GB",
           "evaluate one method, all Beauty users": "<= 2 s", "exact top-10, all Beauty users": "<= 1 s",
           "import of 10 M CSV rows": "<= 30 s, 3 GB"}  # fmt: skip


def read(name: str) -> dict | None:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def main() -> None:
    parts = [HEAD]
    for name, title in TITLES.items():
        result = read(f"accuracy-{name}")
        if result:
            parts += accuracy(title, result)
    budgets = read("budgets")
    if budgets:
        parts += budget_table(budgets)
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join([*parts, ""]), encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    table = "\n".join(["<!-- made by benchmarks/tables.py -->", *summary(), "<!-- end -->"])
    readme.write_text(re.sub(r"@TABLE@|<!-- made by.*?<!-- end -->", lambda _: table, text, flags=re.S), encoding="utf-8")


HEAD = """# Benchmarks

Made by `python benchmarks/tables.py` from `benchmarks/results/*.json`, which hold machine, commit, seed and every figure. `make bench` runs all of it; the
real data are read from the folder that TAILOR_DATA names and are not part of this repository.

Accuracy: fitted on the training part only; every setting chosen on validation (the trials stand in the JSON); the whole catalogue ranked; 95 % bootstrap
interval over users. "Settings chosen" takes each part's best setting on validation; "default pipeline" is `tailor fit default` as it comes. Differences
are paired per user and corrected by Holm over the comparisons of one data set and one treatment of seen items. These are development data: the defaults were
chosen on Beauty's validation part, so expect a little less elsewhere."""


def accuracy(title: str, result: dict) -> list[str]:
    figures = result["figures"]
    cells = {(row["method"], row["seen"], row["metric"]): row for row in figures["metrics"]}
    metrics = list(dict.fromkeys(row["metric"] for row in figures["metrics"]))
    methods = list(dict.fromkeys(row["method"] for row in figures["metrics"]))
    split = figures["split"]
    lines = ["", f"## {title}", "", f"`{result['command']}` · split by {split['kind']}, {figures['users']} test users, "
             f"{figures['repeat_targets']:.1%} of the targets seen before, {split['test_targets_of_items_not_in_train']:.1%} of items never seen in training", "",
             "| method | " + " | ".join(f"{metric}, seen {seen}" for seen in ("removed", "kept") for metric in metrics) + " |",
             "|---|" + "---|" * (2 * len(metrics))]  # fmt: skip
    for method in methods:
        row = [f"{cells[method, seen, m]['mean']:.4f} [{cells[method, seen, m]['low']:.4f}, {cells[method, seen, m]['high']:.4f}]"
               for seen in ("removed", "kept") for m in metrics]  # fmt: skip
        lines.append(f"| {method} | " + " | ".join(row) + " |")
    lines += [
        "",
        f"Paired against the best part, {figures['best_part']}:",
        "",
        "| difference | metric | seen | mean | p (Holm) |",
        "|---|---|---|---|---|",
    ]
    for one in figures["comparisons"]:
        if one["b"].startswith("default"):
            lines.append(
                f"| {one['b']} | {one['metric']} | {one['seen']} | {one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] | {one['p_holm']:.4f} |"
            )
    lines += ["", "Leave-last-out with plain counts, beside the floors of the shared data's description:", "", "| trained on | method | HR@10 | NDCG@10 |",
              "|---|---|---|---|"]  # fmt: skip
    lines += [f"| {part} | {method} | {values['HR@10']:.4f} | {values['NDCG@10']:.4f} |"
              for part, rows in figures["floors"].items() for method, values in rows.items()]  # fmt: skip
    return lines


def budget_table(result: dict) -> list[str]:
    figures = result["figures"]
    visits, checks, rows = figures["covisitation_5m"]["plain"], figures["evaluation_beauty"], figures["import_csv"]
    measured = [f"{figures['import_tailor_over_numpy']}", f"{figures['start_up_s']['tailor --help']} s",
                f"{visits['median_s']} s, {visits['peak_above_start_gb']} GB above start", f"{checks['evaluate_s']} s",
                f"{checks['top_10_s']} s", f"{rows['seconds']} s, {rows['peak_gb']} GB"]  # fmt: skip
    machine = result["machine"]
    lines = ["", "## Budgets", "", f"`{result['command']}` · {machine['cores']} cores, {machine['processor']}, Python {machine['python']}; medians", "",
             "| what | budget | measured |", "|---|---|---|"]  # fmt: skip
    return lines + [f"| {what} | {budget} | {value} |" for (what, budget), value in zip(BUDGETS.items(), measured, strict=True)]


def summary() -> list[str]:
    lines = ["| | Beauty | Sports |", "|---|---|---|"]
    results = [read("accuracy-beauty"), read("accuracy-sports")]
    names = {"default pipeline": "**default pipeline, as it comes** (co-visitation, two steps, text neighbours, EASE)",
             "default pipeline, settings chosen": "default pipeline, each part's settings chosen"}  # fmt: skip
    for method in (
        "default pipeline",
        "default pipeline, settings chosen",
        "CoVisitation",
        "TwoStep",
        "TextNeighbours",
        "EASE",
        "Popularity",
    ):
        cells = []
        for result in results:
            rows = (
                {(row["method"], row["metric"]): row["mean"] for row in result["figures"]["metrics"] if row["seen"] == "removed"}
                if result
                else {}
            )
            cells.append(f"{rows[method, 'HR@10']:.4f} / {rows[method, 'NDCG@10']:.4f}" if rows else "-")
        lines.append(f"| {names.get(method, method)} | " + " | ".join(cells) + " |")
    return [*lines, "| SASRec tuned with sampled softmax, as published | .0921 / .0531 | .0569 / .0314 |"]


if __name__ == "__main__":
    main()

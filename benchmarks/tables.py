"""docs/benchmarks.md, and the table in the README, from benchmarks/results/*.json.

python benchmarks/tables.py
"""

import json
import re
from pathlib import Path
from statistics import mean

from plots import accuracy_plot, fit_time_plot, write_plot

ROOT = Path(__file__).parents[1]
PLOTS = ROOT / "docs" / "plots"
TITLES = {
    "beauty": "Amazon Beauty (22,363 users, 12,101 items)",
    "sports": "Amazon Sports (35,598 users, 18,357 items)",
    "ml-100k": "MovieLens 100k, one cut in time (80 / 10 / 10 % of the events)",
    "ml-latest-small": "MovieLens latest-small, one cut in time (80 / 10 / 10 % of the events)",
}
BUDGETS = {
    "import tailor / import numpy": "<= 1.3",
    "tailor --help": "<= 0.4 s",
    "co-visitation, 5 M events": "<= 1.2 s, 0.6 GB",
    "evaluate one method, all Beauty users": "<= 2 s",
    "exact top-10, all Beauty users": "<= 1 s",
    "import of 10 M CSV rows": "<= 30 s, 3 GB",
}


def read(name: str) -> dict | None:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def main() -> None:
    parts = [HEAD]
    for name, title in TITLES.items():
        result = read(f"accuracy-{name}")
        if result:
            parts += accuracy(title, result)
            plot = accuracy_plot(title.split(" (")[0].split(",")[0], result["figures"]["metrics"])
            parts += ["", write_plot(plot, PLOTS / f"accuracy-{name}.svg")]
    if read("sequences"):
        parts += nets()
    if read("training"):
        parts += training(read("training"))
    if read("service"):
        parts += service(read("service"))
    budgets = read("budgets")
    if budgets:
        parts += budget_table(budgets)
    if read("estimates"):
        parts += estimates(read("estimates"))
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join([*parts, ""]), encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    table = "\n".join(["<!-- made by benchmarks/tables.py -->", *summary(), "<!-- end -->"])
    readme.write_text(
        re.sub(r"@TABLE@|<!-- made by.*?<!-- end -->", lambda _: table, text, flags=re.S),
        encoding="utf-8",
    )


HEAD = """# Benchmarks

Made by `python benchmarks/tables.py` from `benchmarks/results/*.json`, which hold machine, commit, seed and every figure. `make bench` runs all of it; the
real data are read from the folder that TAILOR_DATA names and are not part of this repository.

Accuracy: fitted on the training part only; every setting chosen on validation (the trials stand in the JSON); the whole catalogue ranked; 95 % bootstrap
interval over users. "Settings chosen" takes each part's best setting on validation; "counting pipeline" is `tailor fit counting` as it comes, "default
pipeline" `tailor fit default`, which holds a SASRec besides. Differences
are paired per user and corrected by Holm over the comparisons of one data set and one treatment of seen items. These are development data: the defaults were
chosen on Beauty's validation part, so expect a little less elsewhere."""


def accuracy(title: str, result: dict) -> list[str]:
    figures = result["figures"]
    cells = {(row["method"], row["seen"], row["metric"]): row for row in figures["metrics"]}
    metrics = list(dict.fromkeys(row["metric"] for row in figures["metrics"]))
    methods = list(dict.fromkeys(row["method"] for row in figures["metrics"]))
    split = figures["split"]
    lines = [
        "",
        f"## {title}",
        "",
        (
            f"`{result['command']}` · split by {split['kind']}, {figures['users']} test users,"
            f" {figures['repeat_targets']:.1%} of the targets seen before,"
            f" {split['test_targets_of_items_not_in_train']:.1%} of items never seen in training"
        ),
        "",
        "| method | "
        + " | ".join(f"{metric}, seen {seen}" for seen in ("removed", "kept") for metric in metrics)
        + " |",
        "|---|" + "---|" * (2 * len(metrics)),
    ]
    for method in methods:
        row = [
            f"{cells[method, seen, m]['mean']:.4f} [{cells[method, seen, m]['low']:.4f},"
            f" {cells[method, seen, m]['high']:.4f}]"
            for seen in ("removed", "kept")
            for m in metrics
        ]
        lines.append(f"| {method} | " + " | ".join(row) + " |")
    lines += [
        "",
        f"Paired against the best part, {figures['best_part']}:",
        "",
        "| difference | metric | seen | mean | p (Holm) |",
        "|---|---|---|---|---|",
    ]
    for one in figures["comparisons"]:
        if one["b"].startswith("counting"):
            lines.append(
                f"| {one['b']} | {one['metric']} | {one['seen']} | {one['difference']:+.4f}"
                f" [{one['low']:+.4f}, {one['high']:+.4f}] | {one['p_holm']:.4f} |"
            )
    lines += [
        "",
        "Leave-last-out with plain counts, beside the floors of the shared data's description:",
        "",
        "| trained on | method | HR@10 | NDCG@10 |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {part} | {method} | {values['HR@10']:.4f} | {values['NDCG@10']:.4f} |"
        for part, rows in figures["floors"].items()
        for method, values in rows.items()
    ]
    return lines


def budget_table(result: dict) -> list[str]:
    figures = result["figures"]
    visits, checks, rows = (
        figures["covisitation_5m"]["plain"],
        figures["evaluation_beauty"],
        figures["import_csv"],
    )
    measured = [
        f"{figures['import_tailor_over_numpy']}",
        f"{figures['start_up_s']['tailor --help']} s",
        f"{visits['median_s']} s, {visits['peak_above_start_gb']} GB above start",
        f"{checks['evaluate_s']} s",
        f"{checks['top_10_s']} s",
        f"{rows['seconds']} s, {rows['peak_gb']} GB",
    ]
    machine = result["machine"]
    lines = [
        "",
        "## Budgets",
        "",
        (
            f"`{result['command']}` · {machine['cores']} cores, {machine['processor']}, Python"
            f" {machine['python']}; medians"
        ),
        "",
        "| what | budget | measured |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {what} | {budget} | {value} |"
        for (what, budget), value in zip(BUDGETS.items(), measured, strict=True)
    ]


def estimates(result: dict) -> list[str]:
    lines = [
        "",
        "## What `tailor fit --dry-run` says, and what the fit takes",
        "",
        (
            f"`{result['command']}`: the planted shop with 5,000, 20,000 and 60,000 users; memory"
            " is the process's peak, of which .2 to .9 GB are program and data. A star: only"
            " guessed, as growing with the events."
        ),
        "",
        "| | events | said, s | took, s | ratio | said, GB | took, GB | ratio | dry run, s |",
        "|---" * 9 + "|",
    ]
    for one in result["figures"]["runs"]:
        star = "*" if one["guessed"] else ""
        lines.append(
            f"| {one['method']}{star} | {one['events']:,} | {one['estimate_s']:.1f} |"
            f" {one['fit_s']:.1f} | {one['seconds_ratio']} | {one['estimate_gb']:.2f} |"
            f" {one['fit_gb']:.2f} | {one['memory_ratio']} | {one['dry_run_s']:.1f} |"
        )
    return lines


def net_runs() -> dict[tuple[str, str], list[dict]]:
    """(data, method) -> what each seed reached."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for key, found in sorted((read("sequences") or {"runs": {}})["runs"].items()):
        data, method, _ = key.split(" | ")
        groups.setdefault((data, method), []).append(found)
    return groups


def fit_seconds() -> dict[tuple[str, str], list[float]]:
    """Return the seconds to fit of each seed by (data, method)."""
    return {key: [run["seconds to fit"] for run in runs] for key, runs in net_runs().items()}


def net_table() -> list[str]:
    """Mean over seeds and half the distance of the best and the worst, a row a data set and method."""
    columns = [
        f"{metric}, seen {seen}" for seen in ("removed", "kept") for metric in ("HR@10", "NDCG@10")
    ]
    lines = [
        "| data | method | " + " | ".join(columns) + " | seeds | epochs | s to fit |",
        "|---|---|" + "---|" * (len(columns) + 3),
    ]
    for (data, method), found in net_runs().items():
        values = {column: [one["figures"][column]["mean"] for one in found] for column in columns}
        cells = [f"{mean(one):.4f} ± {(max(one) - min(one)) / 2:.4f}" for one in values.values()]
        epochs = mean(one["fit"].get("epochs", 0) for one in found)
        lines.append(
            f"| {data} | {method} | " + " | ".join(cells) + f" | {len(found)} | {epochs:.0f} |"
            f" {mean(one['seconds to fit'] for one in found):.0f} |"
        )
    return lines


def nets() -> list[str]:
    threads = sorted({one["threads"] for found in net_runs().values() for one in found})
    lines = [
        "",
        "## Nets over histories",
        "",
        (
            "`python benchmarks/sequences.py`: fitted on train, the best weights by NDCG@10 on"
            " validation, leave-last-out; mean of the seeds ± half of their range;"
            f" {' or '.join(map(str, threads))} thread(s) of a machine that other work was going on"
            " on, so seconds are upper bounds."
        ),
        "",
        *net_table(),
        "",
        write_plot(fit_time_plot(fit_seconds()), PLOTS / "time-to-fit.svg"),
        "",
        "The default pipeline against the counting one, paired by user, by seed:",
        "",
        "| data | seed | metric | seen | difference | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for key, found in sorted((read("sequences") or {"runs": {}})["runs"].items()):
        for one in found.get("against the counting pipeline", []):
            if one["b"] == "default pipeline":
                data, _, seed = key.split(" | ")
                lines.append(
                    f"| {data} | {seed} | {one['metric']} | {one['seen']} |"
                    f" {one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] |"
                    f" {one['p_holm']:.4f} |"
                )
    return lines + peers()


def peers() -> list[str]:
    """SASRec of other projects on our data and test queries: benchmarks/sequence_peers.py."""
    path = ROOT / "benchmarks" / "results" / "sequence-peers.jsonl"
    if not path.exists():
        return []
    lines = [
        "",
        (
            "SASRec of other projects (`python benchmarks/sequence_peers.py`; same width, block,"
            " head, length, queries; seen removed):"
        ),
        "",
        "| data | program | minutes | epochs | s an epoch | of the processor | HR@10 | NDCG@10 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for text in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(text)
        cells = [
            one["data"],
            one["name"],
            f"{one['minutes']:g} ({one.get('minutes_of', 'wall')})",
            f"{one['epochs']:g}",
            f"{one['seconds_an_epoch']:.0f}",
            f"{one['cpu_seconds_an_epoch']:.1f}",
            f"{one['HR@10']:.4f}",
            f"{one['NDCG@10']:.4f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def training(result: dict) -> list[str]:
    figures = result["figures"]
    lines = [
        "",
        "## Training speed",
        "",
        f"`{result['command']}` · {figures['threads']} threads",
        "",
        (
            "| net | events | s an epoch | GFLOP an epoch | matrix rate, GFLOP/s | share of it |"
            " padded places a real one |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in (figures.get("beauty", {}) | figures.get("long", {})).items():
        cells = [
            name,
            one["events"],
            one["s an epoch"],
            one["GFLOP an epoch"],
            one["matrix rate, GFLOP/s"][one["dtype"]],
            one["share of the matrix rate"],
            one["padded places a real one"],
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    ten = figures.get("ten-million")
    if ten:
        lines += [
            "",
            (
                f"Ten million events, 500,000 people, 30,000 items: {ten['GB above']} GB above the"
                f" data's {ten['GB before']} GB, of which {ten['GB of item vectors']} GB are item"
                f" vectors; {ten['s an epoch at this rate']} s an epoch at the rate of the first"
                f" {ten['steps']} steps."
            ),
        ]
    return lines


def service(result: dict) -> list[str]:
    figures = result["figures"]
    names = [
        "asked a second",
        "answered a second",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "processor_ms a request",
        "not 200",
    ]
    head = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines = [
        "",
        "## The service",
        "",
        (
            f"`{result['command']}` · {figures['workers']} worker on one core, the generator on"
            f" another, {figures['database']}; Beauty, default pipeline with its net, a list of"
            f" 10{_others(figures)}. The model's own call for one query:"
            f" {figures['rank call alone']['p50_ms']} ms, 99 of 100 within"
            f" {figures['rank call alone']['p99_ms']} ms."
        ),
        "",
    ]
    lines += ["Recommendations, at random times, latency from when each was due:", "", *head]
    lines += [
        "| " + " | ".join(str(one[name]) for name in names) + " |"
        for one in figures["recommendations"]
    ]
    lines += ["", "Events in batches of 100, each answered when on the disk:", "", *head]
    lines += [
        "| " + " | ".join(str(one[name]) for name in names) + " |"
        for one in figures["events, batches of 100"]
    ]
    both = figures["100 recommendations and 1,000 events a second at once"]
    changing = figures["100 filtered recommendations a second while 5 items a second change"]
    return [
        *lines,
        "",
        (
            "Both at once (100 recommendations and 1,000 events a second): p50"
            f" {both['recommendations']['p50_ms']} ms, p99 {both['recommendations']['p99_ms']} ms"
            " of recommendations. Filtered ones (100 a second), while 5 items a second change: p50"
            f" {changing['recommendations']['p50_ms']} ms, p99"
            f" {changing['recommendations']['p99_ms']} ms. Memory {figures['memory at start, GB']}"
            f" GB at the start, {figures['memory at the end, GB']} GB at the end."
        ),
        "",
        *_others_rows(figures),
        *memory(),
    ]


def _others_rows(figures: dict) -> list[str]:
    """Return rows of other questions at 100 a second."""
    rows = {
        "lists with reasons": "100 recommendations a second with reasons",
        "searches": "100 searches a second",
        "lists beside a stranger's bodies of 8 MB, two a second": (
            "100 recommendations a second beside a stranger's bodies of 8 MB, two a second"
        ),
    }
    lines = ["| 100 a second | p50_ms | p95_ms | p99_ms |", "|---|---|---|---|"]
    for name, key in rows.items():
        one = figures[key]
        lines.append(f"| {name} | {one['p50_ms']} | {one['p95_ms']} | {one['p99_ms']} |")
    return [*lines, ""]


def _others(figures: dict) -> str:
    load = figures["load of the machine before"][0]
    return (
        f"; others kept the machine busy (load {load}), the two programs had their cores before"
        " them"
        if figures["before everybody else"]
        else f"; load {load} before"
    )


def memory() -> list[str]:
    result = read("service-memory")
    if result is None:
        return []
    held = [one["memory, GB"] for one in result["figures"]["minutes"]]
    return [
        "",
        (
            f"Over {len(held) - 1} minutes (`{result['command']}`; {result['figures']['rate']:g}"
            f" recommendations and {result['figures']['events a second']} events a second), GB at"
            f" the end of each minute, after one to warm up: {', '.join(map(str, held))}."
        ),
    ]


def summary() -> list[str]:
    lines = ["| | Beauty | Sports |", "|---|---|---|"]
    names = {
        "default pipeline": (
            "**default pipeline, as it comes** (the counting one and SASRec; mean of seeds)"
        ),
        "counting pipeline": (
            "**counting pipeline, as it comes** (co-visitation, two steps, text neighbours, EASE)"
        ),
        "counting pipeline, settings chosen": "counting pipeline, each part's settings chosen",
        "SASRec": "SASRec (mean of seeds)",
        "HSTU": "HSTU (mean of seeds)",
    }
    trained, counted = net_runs(), {data: read(f"accuracy-{data}") for data in ("beauty", "sports")}

    def cell(data: str, method: str) -> str:
        if method in ("default pipeline", "SASRec", "HSTU"):
            found = trained.get((data, method))
            values = (
                [
                    mean(one["figures"][f"{metric}, seen removed"]["mean"] for one in found)
                    for metric in ("HR@10", "NDCG@10")
                ]
                if found
                else []
            )
        else:
            rows = (
                {
                    row["metric"]: row["mean"]
                    for row in counted[data]["figures"]["metrics"]
                    if row["seen"] == "removed" and row["method"] == method
                }
                if counted[data]
                else {}
            )
            values = [rows[metric] for metric in ("HR@10", "NDCG@10")] if rows else []
        return " / ".join(f"{one:.4f}" for one in values) or "-"

    for method in (
        "default pipeline",
        "counting pipeline",
        "counting pipeline, settings chosen",
        "SASRec",
        "HSTU",
        "CoVisitation",
        "TwoStep",
        "TextNeighbours",
        "EASE",
        "Popularity",
    ):
        lines.append(
            f"| {names.get(method, method)} | {cell('beauty', method)} | {cell('sports', method)} |"
        )
    return [
        *lines,
        "| SASRec tuned with sampled softmax, as published | .0921 / .0531 | .0569 / .0314 |",
    ]


if __name__ == "__main__":
    main()

"""docs/guide/reranking-figures.md: the tables of the reranker study, from its record.

python benchmarks/reranking_figures.py, after `tailor bench claims reranker-study`
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "claims" / "reranker-study.json"
PAGE = ROOT / "docs" / "guide" / "reranking-figures.md"
USD_IN, USD_OUT = 0.15, 0.60  # of a million tokens read and written, in the example


def page() -> str:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    figures = record["figures"]
    parts = [
        "# Reranking in figures",
        "Made by `python benchmarks/reranking_figures.py` from the record of `tailor bench claims"
        f" reranker-study` ({record['date']}, commit {record['commit'][:9]}); do not edit.",
        f"All methods order the same lists: {figures['setting']}, from BM25 (ml-100k: co-visitation,"
        " where the right items are those that users chose next). NDCG@10, mean over requests, with"
        " a 95 % bootstrap interval. Students have learned on CACM and are not judged there.",
        matrix(figures),
        "## Costs",
        "Milliseconds a request on one core, with no vector and no answer cached (of the processor;"
        " with a language model by the clock); short and long requests are cut at each collection's"
        " median.",
        costs(figures),
        "## What is worth its time",
        "No other method is both better (mean over all collections) and quicker:",
        frontier(figures),
        significance(figures),
        "## Strategies",
        f"A scripted judge orders {figures['setting']} of DL19: it knows the grades, but for an"
        " error of .3 of the highest grade in every prompt. Its answers are spoilt in part"
        " (refusals, silence, halves, idle words), or it prefers a line to the one below it by .1."
        f" Usd per 1,000 requests at {USD_IN:.2f} usd a million tokens read and {USD_OUT:.2f}"
        " written; tokens are estimated from the characters, a little too high.",
        noise(figures),
    ]
    if "language model" in figures:
        parts += local_model(figures["language model"])
    return "\n\n".join([*parts, ""])


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}".replace("0.", ".", 1)


def matrix(figures: Mapping[str, Any]) -> str:
    collections = list(dict.fromkeys(cell["collection"] for cell in figures["cells"]))
    cells = {(cell["collection"], cell["method"]): cell for cell in figures["cells"]}
    sizes = {name: cells[name, "first stage"]["queries"] for name in collections}
    rows = []
    for method in dict.fromkeys(cell["method"] for cell in figures["cells"]):
        texts = []
        for name in collections:
            cell = cells.get((name, method))
            interval = (
                cell and f"{number(cell['ndcg'])} [{number(cell['low'])} {number(cell['high'])}]"
            )
            texts.append(interval or "")
        rows.append([method, *texts, number(figures["means"][method])])
    heads = [f"{name} ({size})" for name, size in sizes.items()]
    return table(["method", *heads, "mean"], rows)


def costs(figures: Mapping[str, Any]) -> str:
    rows = []
    for method, lengths in figures["by length"].items():
        cells = [cell for cell in figures["cells"] if cell["method"] == method]
        timed = [cell["ms"] for cell in cells if cell["ms"] is not None]
        ms = f"{sum(timed) / len(timed):,.0f}" if timed else ""
        names = ("calls", "tokens_in", "tokens_out")
        calls, read, written = (sum(cell[name] for cell in cells) / len(cells) for name in names)
        short, long = lengths or (None, None)
        unread = max(cell["unread"] for cell in cells)
        counts = [f"{calls:,.0f}", f"{read + written:,.0f}", f"{unread:.1%}"]
        rows.append([method, ms, *counts, number(short), number(long)])
    columns = ["method", "ms", "calls", "tokens", "unread", "NDCG, short", "NDCG, long"]
    return table(columns, rows)


def frontier(figures: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {method}: {number(figures['means'][method])}" for method in figures["frontier"]
    )


def significance(figures: Mapping[str, Any]) -> str:
    sure = [row for row in figures["over first stage"] if row["p"] < 0.05]
    listed = table(
        ["collection", "method", "over the first stage", "p (Holm)"],
        [[r["collection"], r["method"], f"{r['difference']:+.3f}", f"{r['p']:.4f}"] for r in sure],
    )
    counts = f"{figures['significant']} of all {figures['comparisons']} comparisons"
    intro = f"{counts} are significant after Holm's correction; against the first stage these are:"
    return f"{intro}\n\n{listed}"


def noise(figures: Mapping[str, Any]) -> str:
    cells = figures["noise"]
    faults = list(dict.fromkeys(cell["fault"] for cell in cells))
    rows = []
    for strategy in dict.fromkeys(cell["strategy"] for cell in cells):
        by_fault = {cell["fault"]: cell for cell in cells if cell["strategy"] == strategy}
        first = by_fault[faults[0]]
        usd = 1000 * (USD_IN * first["tokens_in"] + USD_OUT * first["tokens_out"]) / 1e6
        tokens = first["tokens_in"] + first["tokens_out"]
        values = [number(by_fault[fault]["ndcg"]) for fault in faults]
        unread = max(cell["unread"] for cell in by_fault.values())
        counts = [f"{first['calls']:,.0f}", f"{tokens:,.0f}", f"{usd:,.2f}"]
        rows.append([f"`{strategy}`", *counts, *values, f"{unread:.1%}"])
    columns = ["strategy", "calls", "tokens", "usd per 1,000", *faults, "unread at worst"]
    return table(columns, rows)


def local_model(figures: Mapping[str, Any]) -> list[str]:
    """Return the section of the local model's strategies."""
    return [
        "## The small local language model",
        f"SmolLM2-135M orders the first lists of DL19, {figures['setting']}, by every strategy, as"
        " it is. It is far smaller than those that people pay for, and what it reaches is no more"
        " than a floor; so few lists tell orders of magnitude, and no strategy from another. Beside"
        " each strategy stands BM25's order of the same lists.",
        by_model(figures),
    ]


def by_model(figures: Mapping[str, Any]) -> str:
    """Return the table of the local model's strategies."""
    floors = {
        cell["queries"]: cell["ndcg"]
        for cell in figures["cells"]
        if cell["method"] == "first stage"
    }
    rows = []
    for cell in figures["cells"]:
        if not cell["method"].startswith("LM "):
            continue
        interval = f"{number(cell['ndcg'])} [{number(cell['low'])} {number(cell['high'])}]"
        tokens = cell["tokens_in"] + cell["tokens_out"]
        seconds = f"{cell['ms'] / 1000:,.1f}"
        name = f"`{cell['method'].removeprefix('LM ')}`"
        lists = cell["queries"]
        counts = [f"{cell['calls']:,.0f}", f"{tokens:,.0f}", seconds, f"{cell['unread']:.0%}"]
        rows.append([name, lists, interval, number(floors[lists]), *counts])
    columns = ["strategy", "lists", "NDCG@10", "BM25", "calls", "tokens", "seconds", "unread"]
    return table(columns, rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

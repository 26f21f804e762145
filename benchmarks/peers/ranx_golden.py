"""Writes tests/metrics/ranx_golden.json: `python ranx_golden.py FILE`, see README.md. Random graded
judgements and lists, and what ranx says of them.
"""

import json
import random
import sys
from importlib.metadata import version
from pathlib import Path

from ranx import Qrels, Run, evaluate

METRICS = [
    "hits@5",
    "hit_rate@5",
    "precision@5",
    "recall@5",
    "f1@5",
    "r-precision",
    "bpref",
    "rbp.80",
    "rbp.95",
    "mrr@5",
    "mrr",
    "map@5",
    "map",
    "dcg@5",
    "dcg_burges@5",
    "ndcg@5",
    "ndcg",
    "ndcg_burges@5",
    "ndcg_burges",
]


def main(out: Path) -> None:
    draw = random.Random(0)
    judged, lists = {}, {}
    for user in range(60):
        items = draw.sample(range(40), draw.randint(2, 14))
        grades = [draw.choice([0, 0, 1, 2, 3]) for _ in items]
        grades[:2] = [draw.choice([1, 2, 3]), 0]  # ranx's bpref needs both kinds
        judged[f"u{user:02d}"] = {
            f"i{item}": grade for item, grade in zip(items, grades, strict=True)
        }
        shown = draw.sample(range(40), draw.randint(1, 12))
        lists[f"u{user:02d}"] = {f"i{item}": float(100 - rank) for rank, item in enumerate(shown)}
    found = {
        metric: evaluate(Qrels(judged), Run(lists), metric, return_mean=False).tolist()
        for metric in METRICS
    }
    ordered = {user: list(items) for user, items in lists.items()}
    about = {
        "made by": f"ranx {version('ranx')}",
        "command": "python benchmarks/peers/ranx_golden.py tests/metrics/ranx_golden.json",
    }
    text = json.dumps(
        {**about, "judged": judged, "lists": ordered, "values": found}, separators=(",", ":")
    )
    out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""ItemKNN against the item-to-item recommenders of implicit on Beauty, in one run: seconds and
accuracy.

    python benchmarks/item_knn.py --peers /tmp/peers/bin/python

How the peers' environment is made: benchmarks/peers/README.md. Both learn from train, keep 200
neighbours and are asked with train and validation; "plain" counts all events of a history alike,
"fading" halves the weight of each earlier one; seen items are removed.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from judging import judged
from shared_data import real_split
from writing import write_result

from tailor.data.splits import Split
from tailor.retrieval.item_knn import SIMILARITIES, ItemKNN

PEER = Path(__file__).parent / "peers" / "implicit_items.py"
DECAYS = {"plain": 1.0, "fading": 0.5}
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="python of the peers' virtual environment")
    given = parser.parse_args()
    split = real_split("beauty")
    figures: dict = {"implicit": implicit_figures(split, given.peers), "ours": our_figures(split)}
    for name in SIMILARITIES:
        theirs, mine = (figures[who][f"{name}, plain"] for who in ("implicit", "ours"))
        figures[f"{name}: implicit's seconds over ours"] = {
            what: round(theirs[f"{what}_s"] / mine[f"{what}_s"], 2) for what in ("fit", "answer")
        }
    print(json.dumps(figures, indent=1))
    print(write_result("item-knn", 0, "python benchmarks/item_knn.py", figures))


def our_figures(split: Split) -> dict:
    queries = split.queries("test")[0].without_history()
    out = {}
    for name in SIMILARITIES:
        for kind, decay in DECAYS.items():
            settings = [("", 0.0)] if name == "bm25" else [("", 0.0), (", shrink 10", 10.0)]
            for label, shrink in settings:
                method, fit, answer = (
                    ItemKNN(
                        similarity=name, shrink=shrink, history_decay=decay, history_length=10_000
                    ),
                    [],
                    [],
                )
                for _ in range(REPEATS):
                    started = time.perf_counter()
                    method.fit(split.train)
                    fit.append(time.perf_counter() - started)
                    started = time.perf_counter()
                    lists = method.recommend(queries, 10)
                    answer.append(time.perf_counter() - started)
                out[f"{name}, {kind}{label}"] = {
                    **judged(split, lists.rows),
                    "fit_s": round(float(np.median(fit)), 3),
                    "answer_s": round(float(np.median(answer)), 3),
                }
    return out


def implicit_figures(split: Split, peers: str) -> dict:
    queries, n = split.queries("test")[0], len(split.data.catalogue)
    task = {"shape": np.array([len(queries), n]), "histories": np.array(list(DECAYS))}
    matrices = {"train": split.train.sequences.rows.matrix(n)}
    for kind, decay in DECAYS.items():
        matrices[kind] = queries.histories.matrix(
            n, decay ** queries.histories.from_end.astype(np.float32)
        )
    for name, matrix in matrices.items():
        whole = sp.csr_matrix(matrix)
        whole.sum_duplicates()
        task |= {f"{name}_{part}": getattr(whole, part) for part in ("data", "indices", "indptr")}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "task.npz", **task)
        done = subprocess.run(
            [peers, str(PEER), folder],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        about = json.loads(done.stdout.splitlines()[-1])
        with np.load(Path(folder) / "implicit.npz") as answers:
            out: dict = {name: judged(split, rows) for name, rows in answers.items()}
    for name in out:
        out[name] |= {
            "fit_s": round(about["seconds"][f"{name.partition(',')[0]}, fit"], 3),
            "answer_s": round(about["seconds"][name], 3),
        }
    return {**out, "versions": about["versions"]}


if __name__ == "__main__":
    main()

"""All of ranx's metrics for a million users with 100 items each, ours and ranx's in one run.

    python benchmarks/metrics.py --peers /tmp/ranx/bin/python [--users 1000000]

How the peer's environment is made: benchmarks/peers/README.md. Each user has 10 graded relevant
items, about half of them in the list. ranx gets the float arrays that it evaluates fastest, is
warmed up first (its compiled code is cached), and uses all cores, as we do; the largest difference
between the two sides' per-user values is printed. Making ranx's own Run and Qrels from the same
lists would cost it minutes more.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from writing import write_result

from tailor.metrics.battery import per_user

PEER = Path(__file__).parent / "peers" / "ranx_metrics.py"
LIST, RELEVANT, ITEMS = 100, 10, 100_000
NAMES = {  # ranx's name -> ours
    "hits": "hits",
    "hit_rate": "HR",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "r-precision": "R-precision",
    "bpref": "bpref",
    "rbp.95": "RBP.95",
    "mrr": "MRR",
    "map": "MAP-uncapped",
    "dcg": "DCG",
    "dcg_burges": "DCG-exp",
    "ndcg": "NDCG",
    "ndcg_burges": "NDCG-exp",
}
FIRST = (
    "import time; s = time.perf_counter(); import numpy as np; from tailor.metrics.battery import"
    " per_user; {call}; print(time.perf_counter() - s)"
)
SMALL = (
    "per_user(np.arange(300).reshape(3, 100), np.arange(4), np.array([5, 150, 299]), (10,),"
    " ('NDCG', 'MAP', 'RBP', 'F1'))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="python of the environment that holds ranx")
    parser.add_argument("--users", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, targets, grades = task(given.users)
        for what, array in (("rows", rows), ("targets", targets), ("grades", grades)):
            np.save(folder / f"{what}.npy", array)
        (folder / "metrics.json").write_text(json.dumps(list(NAMES)))
        ours, ours_s = ours_of(rows, targets, grades)
        done = subprocess.run(
            [given.peers, str(PEER), name], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        about = json.loads(done.stdout.splitlines()[-1])
        with np.load(folder / "ranx.npz") as found:
            apart = {
                name: compared(found[name], ours[f"{mine}@{LIST}"]) for name, mine in NAMES.items()
            }
    first = subprocess.run(
        [sys.executable, "-c", FIRST.format(call=SMALL)], capture_output=True, text=True, check=True
    )
    figures = {
        "users": given.users,
        "metrics": len(NAMES),
        "ours_s": round(ours_s, 2),
        "ranx_s": round(about["seconds"], 2),
        "ranx's seconds over ours": round(about["seconds"] / ours_s, 2),
        "our first call with imports_s": round(float(first.stdout), 3),
        "ranx's first call_s": round(about["first_call_s"], 2),
        "differences": apart,
        "versions": about["versions"],
    }
    print(json.dumps(figures, indent=1))
    print(write_result("metrics", 0, "python benchmarks/metrics.py", figures))


def task(users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists (U, 100), relevant items (U, 10) and their grades, highest first as ranx wants them."""
    rng = np.random.default_rng(0)
    # 200 places never meet again
    start, step = rng.integers(0, ITEMS, (users, 1)), rng.integers(1, ITEMS // 500, (users, 1))
    rows = (start + step * np.arange(LIST)) % ITEMS
    places = rng.integers(0, 2 * LIST // RELEVANT, (users, RELEVANT)) + np.arange(RELEVANT) * (
        2 * LIST // RELEVANT
    )
    targets = rng.permuted((start + step * places) % ITEMS, axis=1)
    return (
        rows.astype(np.int32),
        targets.astype(np.int32),
        -np.sort(-rng.integers(0, 4, (users, RELEVANT)), axis=1) + 0.0,
    )


def ours_of(
    rows: np.ndarray, targets: np.ndarray, grades: np.ndarray
) -> tuple[dict[str, np.ndarray], float]:
    offsets = np.arange(len(rows) + 1) * RELEVANT
    started = time.perf_counter()
    values = per_user(
        rows, offsets, targets.ravel(), (LIST,), list(NAMES.values()), grades=grades.ravel()
    )
    return values, time.perf_counter() - started


def compared(theirs: np.ndarray, mine: np.ndarray) -> dict:
    """The largest difference where both sides have a value, and how many users only one side has
    none for: ranx gives 0 where nothing is relevant.
    """
    both = ~np.isnan(theirs) & ~np.isnan(mine)
    return {
        "largest": float(np.abs(theirs[both] - mine[both]).max()),
        "only ours undefined": int((np.isnan(mine) & ~np.isnan(theirs)).sum()),
        "only ranx undefined": int((np.isnan(theirs) & ~np.isnan(mine)).sum()),
    }


if __name__ == "__main__":
    main()

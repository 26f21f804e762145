"""ranx's metrics on arrays: `python ranx_metrics.py FOLDER`, see README.md. It reads and writes
NAME.npy files, which the other side maps.

`rows.npy` (U, K) item rows, `targets.npy` (U, R) relevant item rows, `grades.npy` (U, R) their
grades, `metrics.json` the names. ranx gets float arrays of (item, score) pairs, the form it
evaluates fastest; its compilers are warmed up on the first 100 users before the clock starts.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ranx import evaluate


def main(folder: Path) -> None:
    rows, targets, grades = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("rows", "targets", "grades")
    )
    names = json.loads((folder / "metrics.json").read_text())
    run = np.empty((*rows.shape, 2))
    run[:, :, 0], run[:, :, 1] = rows, np.arange(rows.shape[1], 0, -1)
    qrels = np.empty((*targets.shape, 2))
    qrels[:, :, 0], qrels[:, :, 1] = targets, grades
    started = time.perf_counter()
    evaluate(qrels[:100], run[:100], names, return_mean=False)
    first = time.perf_counter() - started
    started = time.perf_counter()
    found = evaluate(qrels, run, names, return_mean=False)
    seconds = time.perf_counter() - started
    np.savez(folder / "ranx.npz", **{name: np.asarray(found[name]) for name in names})
    print(
        json.dumps(
            {
                "seconds": seconds,
                "first_call_s": first,
                "versions": {"ranx": version("ranx"), "numba": version("numba")},
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

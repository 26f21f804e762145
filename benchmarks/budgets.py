"""Budgets: start-up, co-visitation on five million events, evaluation and exact top-10 on Beauty,
import of ten million rows.

    python benchmarks/budgets.py [--rows 10000000]

Every timed job runs in a process of its own; memory is the peak above that process's start. Times
are the median of `--repeats`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from shared_data import real_split
from writing import write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--job", help="one job, in this process")
    parser.add_argument("--folder", help="where jobs keep their files")
    given = parser.parse_args()
    if given.job:
        print(json.dumps(JOBS[given.job](given)))
        return
    figures = start_up(given.repeats)
    with tempfile.TemporaryDirectory() as folder:
        for job in JOBS:
            print(job, "...", flush=True)
            command = [
                sys.executable,
                __file__,
                "--job",
                job,
                "--rows",
                str(given.rows),
                "--repeats",
                str(given.repeats),
                "--folder",
                folder,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            figures[job] = json.loads(done.stdout)
            print(figures[job], flush=True)
    print(write_result("budgets", 0, "python benchmarks/budgets.py", figures))


def start_up(repeats: int) -> dict:
    def seconds(command: list[str]) -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started

    commands = {
        "nothing": [sys.executable, "-c", "pass"],
        "import numpy": [sys.executable, "-c", "import numpy"],
        "import tailor": [sys.executable, "-c", "import tailor"],
        "tailor --help": [str(Path(sys.executable).with_name("tailor")), "--help"],
    }
    for command in commands.values():  # warm the disk cache
        seconds(command)
    rounds = [
        {name: seconds(command) for name, command in commands.items()} for _ in range(repeats * 2)
    ]
    times = {name: round(statistics.median(one[name] for one in rounds), 4) for name in commands}
    return {
        "start_up_s": times,
        "import_tailor_over_numpy": round(times["import tailor"] / times["import numpy"], 3),
    }


def memory_gb(field: str) -> float:
    """VmRSS: held now; VmHWM: the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**20


def forget_peak() -> float:
    """Start counting the peak anew; returns what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return memory_gb("VmRSS")


def write_log(given: argparse.Namespace) -> dict:
    """The log that the next job opens, in a process of its own, so that its memory does not count
    there.
    """
    from tailor.worlds.shop_log import shop_log

    started = time.perf_counter()
    shop_log(users=100_000, items=30_000, events=5_000_000).save(Path(given.folder) / "log")
    return {"seconds": round(time.perf_counter() - started, 1)}


def covisitation(given: argparse.Namespace) -> dict:
    """Window 5, top 100 kept; unit weights in one direction, then the default setting. The data set
    is open before the clock starts.
    """
    from tailor.core.run import Run
    from tailor.data.dataset import Dataset
    from tailor.retrieval.covisitation import CoVisitation

    data = Dataset.open(Path(given.folder) / "log")
    out = {}
    for name, method in (
        ("plain", CoVisitation(distance_power=0.0, reverse=0.0)),
        ("default", CoVisitation()),
    ):
        times, start = [], forget_peak()
        for _ in range(given.repeats):
            started = time.perf_counter()
            method.fit(data, Run())
            times.append(round(time.perf_counter() - started, 3))
        out[name] = {
            "median_s": statistics.median(times),
            "all_s": times,
            "peak_above_start_gb": round(memory_gb("VmHWM") - start, 3),
            "report": method.fit_report_,
        }
    return out


def evaluation(given: argparse.Namespace) -> dict:
    """One fitted method over all Beauty users, seen items removed and kept, with intervals; and its
    exact top-10 alone.
    """
    from tailor.evaluation.protocol import evaluate
    from tailor.retrieval.covisitation import CoVisitation

    split = real_split("beauty")
    method = CoVisitation().fit(split.train)
    queries = split.queries("test")[0].without_history()
    out: dict[str, list[float]] = {"evaluate_s": [], "top_10_s": []}
    for _ in range(given.repeats):
        started = time.perf_counter()
        evaluate(method, split)
        out["evaluate_s"].append(round(time.perf_counter() - started, 3))
        started = time.perf_counter()
        method.recommend(queries, 10)
        out["top_10_s"].append(round(time.perf_counter() - started, 3))
    return {
        "users": len(queries),
        **{name: statistics.median(times) for name, times in out.items()},
        "all": out,
    }


def import_rows(given: argparse.Namespace) -> dict:
    """A CSV file of user, item, time in seconds."""
    from tailor.data.importers.importing import import_data

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        _write_rows(path, given.rows)
        size, start = path.stat().st_size, forget_peak()
        started = time.perf_counter()
        report = import_data(path, Path(folder) / "data")
        seconds = time.perf_counter() - started
    return {
        "rows": given.rows,
        "file_gb": round(size / 2**30, 3),
        "seconds": round(seconds, 2),
        "peak_gb": round(memory_gb("VmHWM"), 2),
        "peak_above_start_gb": round(memory_gb("VmHWM") - start, 2),
        "kept": report.rows,
        "rejected": report.rejected,
    }


def _write_rows(path: Path, rows: int) -> None:
    import polars as pl

    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, 1_000_000):
            n = min(1_000_000, rows - start)
            frame = pl.DataFrame(
                {
                    "user_id": rng.integers(0, 500_000, n),
                    "item_id": rng.zipf(1.2, n) % 100_000,
                    "timestamp": 1_600_000_000 + np.sort(rng.integers(0, 30_000_000, n)),
                }
            )
            frame.write_csv(file, include_header=start == 0)


JOBS = {
    "log_5m": write_log,
    "covisitation_5m": covisitation,
    "evaluation_beauty": evaluation,
    "import_csv": import_rows,
}

if __name__ == "__main__":
    main()

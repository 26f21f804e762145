"""Budgets: start-up, co-visitation on five million events, evaluation and exact top-10 on Beauty, import of ten million rows.

    python benchmarks/budgets.py [--rows 10000000]

Every timed job runs in a process of its own; memory is the peak above that process's start. Times are the median of `--repeats`.
"""

import argparse
import json
import resource
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
    parser.add_argument("--job")  # one job, in this process
    given = parser.parse_args()
    if given.job:
        print(json.dumps(JOBS[given.job](given)))
        return
    figures = start_up(given.repeats)
    for job in JOBS:
        print(job, "...", flush=True)
        done = subprocess.run([sys.executable, __file__, "--job", job, "--rows", str(given.rows), "--repeats", str(given.repeats)],
                              capture_output=True, text=True, check=False)  # fmt: skip
        figures[job] = json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr.strip().splitlines()[-1]}
        print(figures[job], flush=True)
    print(write_result("budgets", 0, "python benchmarks/budgets.py", figures))


def start_up(repeats: int) -> dict:
    def seconds(command: list[str]) -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started

    commands = {"nothing": [sys.executable, "-c", "pass"], "import numpy": [sys.executable, "-c", "import numpy"],
                "import tailor": [sys.executable, "-c", "import tailor"],
                "tailor --help": [str(Path(sys.executable).with_name("tailor")), "--help"]}  # fmt: skip
    for command in commands.values():  # warm the disk cache
        seconds(command)
    rounds = [{name: seconds(command) for name, command in commands.items()} for _ in range(repeats * 2)]
    times = {name: round(statistics.median(one[name] for one in rounds), 4) for name in commands}
    return {"start_up_s": times, "import_tailor_over_numpy": round(times["import tailor"] / times["import numpy"], 3)}


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def covisitation(given: argparse.Namespace) -> dict:
    """window 5, unit weights, one direction, top 100 kept; the log's sequences stand ready, as in an opened data set."""
    from tailor.base import Run
    from tailor.retrieval.covisitation import CoVisitation
    from tailor.worlds.shop_log import shop_log

    with tempfile.TemporaryDirectory() as folder:
        if "--opened" not in sys.argv:  # a second process opens what the first one made, so that memory counts fitting alone
            shop_log(users=100_000, items=30_000, events=5_000_000).save(Path(folder) / "log")
            program = f"import sys; sys.argv.append('--opened'); sys.path.insert(0, {str(Path(__file__).parent)!r}); import budgets; budgets.fit_log({folder!r}, {given.repeats})"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            return json.loads(done.stdout)
    del Run, CoVisitation
    return {}


def fit_log(folder: str, repeats: int) -> None:
    from tailor.base import Run
    from tailor.data.dataset import Dataset
    from tailor.retrieval.covisitation import CoVisitation

    data = Dataset.open(Path(folder) / "log")
    start = peak_gb()
    times, method = [], CoVisitation(distance_power=0.0, reverse=0.0)
    for _ in range(repeats):
        started = time.perf_counter()
        method.fit(data, Run())
        times.append(time.perf_counter() - started)
    print(json.dumps({"median_s": round(statistics.median(times), 3), "all_s": [round(one, 3) for one in times],
                      "peak_above_start_gb": round(peak_gb() - start, 3), "report": method.fit_report_}))  # fmt: skip


def evaluation(given: argparse.Namespace) -> dict:
    """One fitted method over all Beauty users, seen items removed and kept, with intervals; and its exact top-10 alone."""
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
    return {"users": len(queries), **{name: statistics.median(times) for name, times in out.items()}, "all": out}


def import_rows(given: argparse.Namespace) -> dict:
    """A CSV file of user, item, time in seconds."""
    from tailor.data.importers.importing import import_data

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        _write_rows(path, given.rows)
        size, start = path.stat().st_size, peak_gb()
        started = time.perf_counter()
        report = import_data(path, Path(folder) / "data")
        seconds = time.perf_counter() - started
    return {"rows": given.rows, "file_gb": round(size / 2**30, 3), "seconds": round(seconds, 2), "peak_gb": round(peak_gb(), 2),
            "peak_above_start_gb": round(peak_gb() - start, 2), "report": report.to_dict()}  # fmt: skip


def _write_rows(path: Path, rows: int) -> None:
    import polars as pl

    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, 1_000_000):
            n = min(1_000_000, rows - start)
            frame = pl.DataFrame({"user_id": rng.integers(0, 500_000, n), "item_id": rng.zipf(1.2, n) % 100_000,
                                  "timestamp": 1_600_000_000 + np.sort(rng.integers(0, 30_000_000, n))})  # fmt: skip
            frame.write_csv(file, include_header=start == 0)


JOBS = {"covisitation_5m": covisitation, "evaluation_beauty": evaluation, "import_csv": import_rows}

if __name__ == "__main__":
    main()
